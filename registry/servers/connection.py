"""How a server is reached, and what it was found to offer: the values that cross between registry and data path.

Plain values without SQL. `Prober` is what the registry needs from above to look at a server; `gateway.mcp` has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from registry.servers.contained import Contained
from registry.servers.operations import Operation

Transport = Literal["streamable-http", "sse", "stdio", "openapi"]
Kind = Literal["tool", "resource", "template", "prompt"]
KINDS: tuple[Kind, ...] = ("tool", "resource", "template", "prompt")
Era = Literal["legacy", "modern"]
Held = frozenset[tuple[str, str]]
"""Kind and name of what a server offers and must not be called, until a person has looked at its definition."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Limits in seconds for one request to a server."""

    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 300.0


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything needed to reach one server; secrets are in the clear, so it is never logged or stored."""

    server_id: str
    org_id: str
    slug: str
    transport: Transport
    url: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    deadlines: Deadlines = Deadlines()
    era: Era | None = None
    protocol_version: str | None = None
    operations: tuple[Operation, ...] = ()
    """Of a REST service."""
    container: Contained | None = None
    """Where a stdio server runs; `None`: on the gateway's machine."""
    workspace_id: int | None = None
    """Of a workspace, which is reached through the engine that runs it; `transport` and `url` then say nothing."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One capability as the server described it."""

    kind: Kind
    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a look at a server found. Unreachable servers give an offer too: with `error` and no capabilities."""

    reachable: bool
    endpoint_url: str | None = None
    transport: Transport | None = None
    era: Era | None = None
    protocol_version: str | None = None
    server_info: dict[str, Any] = field(default_factory=dict[str, Any])
    capabilities: dict[str, Any] = field(default_factory=dict[str, Any])
    instructions: str | None = None
    offered: tuple[Offered, ...] = ()
    ttl_ms: int | None = None
    checks: dict[str, str] = field(default_factory=dict[str, str])
    response_time_ms: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


class Prober(Protocol):
    async def probe(self, connection: Connection, *, within: float) -> Offer:
        """Reach the server, find its era and read all its lists, within so many seconds.

        What the server does wrong is told in the offer; only a refused address raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class ServerOffer:
    """A live server with its stored offer: the row of the catalog that the data path compiles."""

    connection: Connection
    name: str
    public: bool
    price_usd: float | None
    server_metadata: dict[str, Any]
    offered: tuple[Offered, ...]
    prices: dict[str, float] = field(default_factory=dict[str, float])
    """Dollars per call, of tools that have a price of their own."""
    held: Held = frozenset()
    owner_user_id: str | None = None
    """Whose it is alone, as workspaces are; `None`: the whole organisation's."""
