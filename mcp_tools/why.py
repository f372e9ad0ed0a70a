"""The tool `tools_why`: which rule decides about a call, for oneself or for a key that one may see."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_tools.explanation import Explains, Explanation
from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.identity.service import IdentityService

READ = "mcp:servers:read"


class Why(Arguments):
    tool: str = Field(description="Name of the tool on /mcp, like files__read.")
    key: int | None = Field(None, description="Id of the API key that it is about; oneself where it is left out.")


class WhyTools:
    def __init__(self, database: Database, identity: IdentityService, explains: Explains) -> None:
        self._database = database
        self._identity = identity
        self._explains = explains

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "tools_why",
                "Why a tool may be called or not",
                "Say which rule decides about calls of a tool: permission, the key's patterns, an access rule, an "
                "emergency stop, a held definition, an approval rule or a budget. Nothing is called.",
                READ,
                Why,
                self._why,
                read_only=True,
            )
        ]

    async def _why(self, principal: Principal, wanted: Why) -> Explanation:
        principal.require(READ)
        about = principal
        if wanted.key is not None:
            async with self._database.reading() as session:
                about = await self._identity.bearer_of(session, principal, wanted.key)
        return await self._explains.explain(about, wanted.tool)
