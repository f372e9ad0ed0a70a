"""The operations of a REST service that stands in the registry as a server: how a tool's call becomes an HTTP request.

Plain values; they are stored with the server and travel in its `Connection`. `registry.openapi` makes them from a
description, `gateway.mcp.upstream.openapi` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Location = Literal["path", "query", "header", "cookie"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a request.

    Args:
        argument: the tool's argument that gives its value.
        name: as the service knows it.
        style, explode: how lists and objects are written; OpenAPI's own words, or `json` for a JSON text.
    """

    argument: str
    name: str
    location: Location
    required: bool
    style: str
    explode: bool


@dataclass(frozen=True, slots=True)
class Body:
    """The request's body.

    Args:
        argument: the tool's argument that gives it.
        kind: `json`, `form`, `text`, or `binary` for base64.
    """

    argument: str
    content_type: str
    kind: Literal["json", "form", "text", "binary"]
    required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Args:
        tool: the tool's name.
        path: with `{name}` where a parameter stands; appended to the server's base URL.
        structured: the description promises an object.
        definition: the tool as MCP lists it, as JSON.
    """

    tool: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: Body | None
    structured: bool
    definition: str


def pack(operations: tuple[Operation, ...]) -> dict[str, Any] | None:
    """As it is stored; `None` for a server that is none."""
    return {"operations": msgspec.to_builtins(operations)} if operations else None


def unpack(stored: dict[str, Any] | None) -> tuple[Operation, ...]:
    return () if stored is None else msgspec.convert(stored["operations"], tuple[Operation, ...])
