"""Small parts of the data path, made by hand for tests of single modules."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.mcp.catalog import OrgCatalog, compile_server
from gateway.mcp.envelope import Params, encode
from gateway.mcp.upstream.port import Outgoing
from registry.identity.principal import Principal
from registry.servers.connection import Connection, Kind, Offered, ServerOffer
from registry.usage.calls import Call

ALL = frozenset(
    {
        "mcp:tools:list",
        "mcp:tools:call",
        "mcp:resources:list",
        "mcp:resources:read",
        "mcp:prompts:list",
        "mcp:prompts:get",
    }
)
FIELDS: dict[Kind, str] = {"tool": "name", "prompt": "name", "resource": "uri", "template": "uriTemplate"}


def principal(user: str = "u1", org: str = "o1", **more: Any) -> Principal:
    return Principal(org, user, "admin", ALL, **more)


def offer(slug: str, org: str = "o1", **offered: list[str]) -> ServerOffer:
    """A server with capabilities of these names, by kind."""
    items = tuple(
        Offered(kind, name, json.dumps({FIELDS[kind]: name, "inputSchema": {"type": "object"}}))
        for kind in FIELDS
        for name in offered.get(kind, [])
    )
    connection = Connection(f"id-{slug}", org, slug, "streamable-http", url="http://127.0.0.1:1/")
    capabilities = {"tools": {}, **({"resources": {}} if "resource" in offered or "template" in offered else {})}
    return ServerOffer(connection, slug, False, None, {"capabilities": capabilities}, items)


def catalog(*offers: ServerOffer) -> OrgCatalog:
    return OrgCatalog([compile_server(one) for one in offers], 60)


def outgoing(caller: Principal, name: str = "tool", method: str = "tools/call", **params: Any) -> Outgoing:
    made: Params = {key: msgspec.Raw(encode(value)) for key, value in params.items()}
    return Outgoing(caller, b"1", method, made, name, True, None, b"{}")


def call(number: int) -> Call:
    return Call(number, "o1", None, None, None, "s", "tools/call", "t", "ok", None, 1, 1, 1, 0.0, None)
