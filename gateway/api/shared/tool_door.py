"""The door from the façade to the tools: what routes that call tools are given. `gateway.mcp.caller` is behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from registry.identity.principal import Principal

Receive = Callable[[], Awaitable[Any]]


class ToolDoor(Protocol):
    """What reaches the tools; all values are JSON. Errors are `GatehouseError`s, ready to be rendered."""

    def tools(self, principal: Principal) -> list[bytes]: ...

    async def call(
        self,
        principal: Principal,
        name: str,
        arguments: bytes,
        *,
        request_id: str | None = None,
        receive: Receive | None = None,
    ) -> bytes: ...

    async def ask(
        self,
        principal: Principal,
        server_id: str,
        method: str,
        params: bytes,
        *,
        request_id: str | None = None,
        receive: Receive | None = None,
    ) -> bytes: ...
