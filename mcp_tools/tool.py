"""A tool of the gateway's own, and the box that offers them to the data path.

A tool is one operation of a service: its permission, its arguments as a model, and one call. What the operation does
is the service's; how it is reached over MCP is `gateway.mcp.upstream.local`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.core.errors import GatehouseError
from registry.identity.principal import Principal


class Arguments(BaseModel):
    """Base of all tools' arguments: an unknown one is an error, so that a misspelling is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """One tool.

    Args:
        name: `<noun>_<verb>`.
        description: what it does, for a model that has to choose.
        permission: needed to see and to call it; the service checks again.
        run: carries it out; the result becomes the structured content.
        read_only, destructive, idempotent: the protocol's annotations.
    """

    name: str
    title: str
    description: str
    permission: str
    arguments: type[A]
    run: Callable[[Principal, A], Awaitable[BaseModel]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False

    def definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": _schema(self.arguments),
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.read_only,
                "destructiveHint": self.destructive,
                "idempotentHint": self.read_only or self.idempotent,
                "openWorldHint": False,
            },
        }

    async def call(self, principal: Principal, arguments: bytes) -> BaseModel:
        return await self.run(principal, self.arguments.model_validate_json(arguments))


class Toolbox:
    """All tools of the gateway's own.

    Args:
        tools: with names that differ from each other.
        settled: waits until what a tool changed shows everywhere in this process.
    """

    def __init__(self, tools: Sequence[Tool[Any]], settled: Callable[[], Awaitable[None]]) -> None:
        self._settled = settled
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) != len(tools):
            raise ValueError("two tools have the same name")

    def definitions(self) -> list[tuple[str, str, str]]:
        """Name, definition as JSON, and permission of each tool, in a stable order."""
        return [
            (tool.name, json.dumps(tool.definition(), separators=(",", ":")), tool.permission)
            for _, tool in sorted(self._tools.items())
        ]

    async def call(self, principal: Principal, name: str, arguments: bytes) -> bytes:
        """The JSON of a tool result; what the caller can correct is told in it, with `isError`."""
        try:
            tool = self._tools[name]
            value = await tool.call(principal, arguments)
            if not tool.read_only:
                await self._settled()
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors()]
            return _failed("VALIDATION_ERROR", "Arguments invalid. " + "; ".join(problems), {})
        except GatehouseError as error:
            return _failed(error.code, error.message, error.details)
        text = value.model_dump_json()
        return b'{"content":[{"type":"text","text":%b}],"structuredContent":%b,"isError":false}' % (
            json.dumps(text).encode(),
            text.encode(),
        )


@cache
def _schema(arguments: type[Arguments]) -> dict[str, Any]:
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    return schema


def _failed(code: str, message: str, details: dict[str, Any]) -> bytes:
    content = {"code": code, "message": message, "details": details}
    result = {
        "content": [{"type": "text", "text": f"{code}: {message}"}],
        "structuredContent": {"error": content},
        "isError": True,
    }
    return json.dumps(result).encode()
