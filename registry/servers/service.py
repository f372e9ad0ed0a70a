"""Servers: register, list, change, remove, and what the data path needs to know of them.

One method per operation; REST, MCP tools and the command line call the same ones. Looking at a server over the
network is `registry.servers.discovery`; this module only reads and writes records.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, new_id
from registry.core.security import Sealer
from registry.identity.principal import OPERATE, Principal
from registry.servers import cleanup, contained, queries
from registry.servers.allowance import check_environment, check_room
from registry.servers.connection import (
    KINDS,
    Connection,
    Deadlines,
    Era,
    Kind,
    Offer,
    Offered,
    ServerOffer,
    Transport,
)
from registry.servers.contained import Contained, complaint
from registry.servers.errors import (
    PublicNeedsOperator,
    PublicSlugTaken,
    ServerInvalid,
    ServerNameTaken,
    ServerNotFound,
    StdioNeedsOperator,
)
from registry.servers.events import CatalogChanged
from registry.servers.looks import HealthKeeping, LastLook
from registry.servers.models import Capability, Server
from registry.servers.operations import Operation, pack, unpack
from registry.servers.pinning import Pinning, Unpinned
from registry.servers.prices import prices_of

DEFAULT_DEADLINES = Deadlines()
RESERVED_SLUGS = frozenset({"gatehouse", "health"})
MAX_SLUG = 32
ENVIRONMENTS = ("development", "staging", "production")
STATUSES = ("active", "inactive", "archived")
UNPINNED = Unpinned()
OtherSlugs = Callable[[Session, str], Awaitable[set[str]]]
"""The slugs of an organisation that are no servers' and yet may not be given to one."""
DECIDE = "approvals:decide"
"""Needed beside, to say what waits for a person."""

Environment = Literal["development", "staging", "production"]
Status = Literal["active", "inactive", "archived"]
PinningMode = Literal["hold", "strict", "off"]


@dataclass(frozen=True, slots=True)
class Registration:
    """What a caller says of a server that it registers.

    Args:
        transport: `None` means guess: a command is stdio, a URL ending in `/sse` is sse, else streamable HTTP.
        capabilities: what the caller declares; what the server really offers is found by discovery.
        container: where a command runs; `None`: on the gateway's machine.
        proof: the caller has shown access to the gateway's machine.
        operations: of a REST service, whose transport is `openapi`.
    """

    name: str
    base_url: str | None = None
    description: str | None = None
    environment: Environment = "development"
    tags: tuple[str, ...] = ()
    transport: Transport | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    public: bool = False
    price_usd: float | None = None
    deadlines: Deadlines = DEFAULT_DEADLINES
    capabilities: dict[str, Any] = field(default_factory=dict[str, Any])
    container: Contained | None = None
    proof: bool = False
    operations: tuple[Operation, ...] = ()
    pinning: PinningMode = "hold"


@dataclass(frozen=True, slots=True)
class Changes:
    """New values of a server's fields; `None` leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    environment: Environment | None = None
    status: Status | None = None
    tags: tuple[str, ...] | None = None
    base_url: str | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    public: bool | None = None
    price_usd: float | None = None
    deadlines: Deadlines | None = None
    command: str | None = None
    pinning: PinningMode | None = None
    proof: bool = False

    @property
    def touches_program(self) -> bool:
        """Changes what a stdio server runs."""
        return self.command is not None or self.args is not None or self.env is not None

    @property
    def touches_address(self) -> bool:
        """Changes which server answers, or as whom it is asked."""
        return self.base_url is not None or self.headers is not None


class ServerService:
    """Operations on servers. Every method checks the principal's permission itself.

    Args:
        sealer: seals credentials with the server's id as associated data.
        pinning: guards the definitions that servers give.
        health: is told what looks say of it; `None`: the latest look is kept.
        stdio_without_proof: `GATEHOUSE_STDIO_API=on`.
        images: that containers of stdio servers may be made of, beside the gateway's own.
        other_slugs: of what stands beside servers on `/mcp`.
    """

    def __init__(
        self,
        clock: Clock,
        sealer: Sealer,
        audit: AuditService,
        *,
        pinning: Pinning = UNPINNED,
        health: HealthKeeping | None = None,
        stdio_without_proof: bool = False,
        images: frozenset[str] = frozenset(),
        other_slugs: OtherSlugs | None = None,
    ) -> None:
        self._clock = clock
        self._other_slugs = other_slugs
        self._sealer = sealer
        self._audit = audit
        self._pinning = pinning
        self._health: HealthKeeping = health or LastLook(clock)
        self._stdio_without_proof = stdio_without_proof
        self._images = images

    def admit(self, principal: Principal, registration: Registration) -> Connection:
        """Check permission and content before anything is contacted; the answer can be given to a prober.

        Raises:
            Forbidden: the permission is missing, or a command comes without operator and proof.
            ServerInvalid: the registration contradicts itself.
        """
        principal.require("mcp:servers:create")
        transport = _transport_of(registration)
        if transport == "stdio":
            self._require_operator(principal, proof=registration.proof)
        if registration.container is not None:
            self._check_container(transport, registration.container)
        if registration.public and not principal.may(OPERATE):
            raise PublicNeedsOperator
        if registration.pinning == "off":
            principal.require(DECIDE)
        if not registration.name.strip():
            raise ServerInvalid("A server needs a name.", field="name")
        return Connection(
            server_id=new_id(),
            org_id=principal.org_id,
            slug=_stem(registration.name),
            transport=transport,
            url=registration.base_url,
            command=registration.command,
            args=registration.args,
            env=tuple(registration.env.items()),
            headers=tuple(registration.headers.items()),
            deadlines=registration.deadlines,
            operations=registration.operations,
            container=registration.container,
        )

    def _check_container(self, transport: Transport, container: Contained) -> None:
        if transport != "stdio":
            raise ServerInvalid("Only a command runs in a container.", field="container")
        if container.image is not None and container.image not in self._images:
            raise ServerInvalid(
                f"The image {container.image!r} is not on the operator's list (GATEHOUSE_WORKSPACE_IMAGES).",
                field="container",
            )
        if wrong := complaint(container.network, container.hosts):
            raise ServerInvalid(wrong[1], field="container")

    def _require_operator(self, principal: Principal, *, proof: bool) -> None:
        if not (principal.operates and (proof or self._stdio_without_proof)):
            raise StdioNeedsOperator

    async def register(
        self, session: Session, principal: Principal, registration: Registration, connection: Connection, offer: Offer
    ) -> Server:
        """Store a server that `admit` let in, with what a first look at it found.

        Raises:
            ServerNameTaken: the organisation has a server of that name.
            PublicSlugTaken: it is to be public, and another organisation's public server has its slug.
            EnvironmentNotAllowed, TooManyServers: the organisation's settings are against it.
        """
        await check_environment(session, principal.org_id, registration.environment)
        await check_room(session, principal.org_id)
        if await queries.find_by_name(session, principal, registration.name):
            raise ServerNameTaken(registration.name)
        now = self._clock.now()
        server = Server(
            id=connection.server_id,
            org_id=principal.org_id,
            owner_user_id=principal.user_id,
            slug=await self._free_slug(session, principal, connection.slug),
            name=registration.name,
            description=registration.description,
            environment=registration.environment,
            tags=list(registration.tags),
            transport=connection.transport,
            base_url=registration.base_url,
            command=registration.command,
            args=list(registration.args),
            sealed_env=self._seal(connection.server_id, registration.env),
            sealed_headers=self._seal(connection.server_id, registration.headers),
            deadlines=msgspec.to_builtins(registration.deadlines),
            public=registration.public,
            price_usd=registration.price_usd,
            pinning=registration.pinning,
            operations=pack(registration.operations),
            container=contained.pack(registration.container),
            declared_capabilities=registration.capabilities,
            created_at=now,
            updated_at=now,
        )
        if server.public:
            await self._free_of_others(session, server)
        session.add(server)
        await session.flush()
        await self.take(session, server, offer)
        await self._audit.record(session, principal, "servers.create", target=("server", server.id))
        return server

    async def take(self, session: Session, server: Server, offer: Offer) -> Offer:
        """Write what a look at the server found; gives what is served of it."""
        now = self._clock.now()
        shown = _shown(server)
        await self._health.looked(session, server, offer)
        if not offer.reachable:
            # What it offered before stays listed: a server that is down for a moment costs its clients nothing.
            if _shown(server) != shown:
                emit(session, CatalogChanged(server.org_id, server.id))
            return offer
        offer = await self._pinning.judge(session, server, offer)
        server.discovered_at = now
        server.endpoint_url = offer.endpoint_url or server.base_url
        server.transport = offer.transport or server.transport
        server.server_metadata = {
            "version": offer.server_info.get("version"),
            "protocol_version": offer.protocol_version,
            "era": offer.era,
            "server_info": offer.server_info,
            "capabilities": offer.capabilities,
            "instructions": offer.instructions,
            "ttl_ms": offer.ttl_ms,
        }
        stored = await queries.capabilities_of(session, server.id)
        before = {(row.kind, row.name, row.definition) for row in stored}
        after = {(item.kind, item.name, item.definition) for item in offer.offered}
        if before != after:
            await queries.drop_capabilities(session, server.id)
            session.add_all(_rows(server.id, offer.offered))
        if before != after or _shown(server) != shown:
            # Servers are looked at again and again: that alone is no news.
            emit(session, CatalogChanged(server.org_id, server.id))
        return offer

    async def list(
        self,
        session: Session,
        principal: Principal,
        *,
        environment: str | None = None,
        status: str | None = None,
        health_status: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[Sequence[Server], int]:
        principal.require("mcp:servers:read")
        return await queries.page(
            session,
            principal,
            environment=environment,
            status=status,
            health_status=health_status,
            limit=limit,
            offset=offset,
        )

    async def get(self, session: Session, principal: Principal, server_id: str) -> Server:
        principal.require("mcp:servers:read")
        return await self._find(session, principal, server_id)

    async def get_by_id_or_slug(self, session: Session, principal: Principal, name: str) -> Server:
        principal.require("mcp:servers:read")
        return await queries.by_id_or_slug(session, principal, name)

    async def capabilities(self, session: Session, server: Server) -> Sequence[Capability]:
        return await queries.capabilities_of(session, server.id)

    async def update(self, session: Session, principal: Principal, server_id: str, changes: Changes) -> Server:
        principal.require("mcp:servers:update")
        server = await self._find(session, principal, server_id)
        stays_public = server.public and changes.public is not False
        if (changes.public or (stays_public and changes.touches_address)) and not principal.may(OPERATE):
            raise PublicNeedsOperator
        if changes.pinning is not None:
            principal.require(DECIDE)
        if changes.touches_program:
            if server.transport != "stdio":
                raise ServerInvalid("Only a stdio server has a command, args and env.", field="command")
            self._require_operator(principal, proof=changes.proof)
        if changes.name is not None and changes.name != server.name:
            if await queries.find_by_name(session, principal, changes.name):
                raise ServerNameTaken(changes.name)
            server.name = changes.name
        if changes.environment is not None and changes.environment != server.environment:
            await check_environment(session, principal.org_id, changes.environment)
        self._apply(server, changes)
        server.updated_at = self._clock.now()
        if changes.public:
            await self._free_of_others(session, server)
        emit(session, CatalogChanged(server.org_id, server.id))
        await self._audit.record(session, principal, "servers.update", target=("server", server.id))
        return server

    def _apply(self, server: Server, changes: Changes) -> None:
        for name in ("description", "environment", "status", "base_url", "command", "public", "price_usd", "pinning"):
            if (value := getattr(changes, name)) is not None:
                setattr(server, name, value)
        for name in ("tags", "args"):
            if (value := getattr(changes, name)) is not None:
                setattr(server, name, list(value))
        if changes.base_url is not None:
            server.endpoint_url = None
        if changes.env is not None:
            server.sealed_env = self._seal(server.id, changes.env)
        if changes.headers is not None:
            server.sealed_headers = self._seal(server.id, changes.headers)
        if changes.deadlines is not None:
            server.deadlines = msgspec.to_builtins(changes.deadlines)

    async def remove(self, session: Session, principal: Principal, server_id: str) -> tuple[Server, str]:
        """Mark a server as deleted; it leaves every list at once, and its name and slug are free again.

        Gives the id of the job, too, that removes what was kept for it.
        """
        principal.require("mcp:servers:delete")
        server = await self._find(session, principal, server_id)
        now = server.deleted_at = server.updated_at = self._clock.now()
        server.status = "archived"
        server.sealed_env = server.sealed_headers = None
        emit(session, CatalogChanged(server.org_id, server.id))
        await self._audit.record(session, principal, "servers.delete", target=("server", server.id))
        return server, await cleanup.promise(session, server, now)

    async def connection(self, session: Session, principal: Principal, server_id: str) -> Connection:
        """How to reach one server, with its secrets in the clear: for the gateway's own use, never for a caller."""
        return self._connection(await self._find(session, principal, server_id))

    async def record_look(
        self, session: Session, principal: Principal, connection: Connection, offer: Offer
    ) -> tuple[Server, Offer] | None:
        """Write what a look along `connection` found; gives what is served of it, with warnings about the rest.

        `None` if the server is reached in another way by now.
        """
        server = await self._find(session, principal, connection.server_id)
        if self._connection(server) != connection:
            return None
        return server, await self.take(session, server, offer)

    async def catalog(self, session: Session, org_id: str | None = None) -> list[ServerOffer]:
        """Every active server with its stored offer; the data path compiles its snapshot from this."""
        servers, capabilities = await queries.whole_catalog(session, org_id)
        prices = await prices_of(session, org_id)
        held = await self._pinning.held(session, org_id)
        offered: dict[str, list[Offered]] = {server.id: [] for server in servers}
        for row in capabilities:
            offered[row.server_id].append(Offered(_kind(row.kind), row.name, row.definition))
        return [
            ServerOffer(
                connection=self._connection(server),
                name=server.name,
                public=server.public,
                price_usd=server.price_usd,
                server_metadata=server.server_metadata,
                offered=tuple(offered[server.id]),
                prices=prices.get(server.id, {}),
                held=held.get(server.id, frozenset()),
            )
            for server in servers
        ]

    async def _find(self, session: Session, principal: Principal, server_id: str) -> Server:
        if server := await queries.find(session, principal, server_id):
            return server
        raise ServerNotFound

    async def _free_of_others(self, session: Session, server: Server) -> None:
        with session.no_autoflush:
            if await queries.public_slug_taken(session, server.slug, server.id):
                raise PublicSlugTaken(server.slug)

    async def _free_slug(self, session: Session, principal: Principal, stem: str) -> str:
        # Asked first: whoever answers may have to hold on to what it says.
        others = await self._other_slugs(session, principal.org_id) if self._other_slugs is not None else set[str]()
        taken = await queries.slugs_like(session, principal, stem[: MAX_SLUG - 4]) | RESERVED_SLUGS | others
        if stem not in taken:
            return stem
        numbered = (f"{stem[: MAX_SLUG - 4]}-{number}" for number in range(2, 1000))
        return next(slug for slug in numbered if slug not in taken)

    def _seal(self, server_id: str, values: dict[str, str]) -> str | None:
        return self._sealer.seal(msgspec.json.encode(values), server_id) if values else None

    def _open(self, server_id: str, sealed: str | None) -> tuple[tuple[str, str], ...]:
        if sealed is None:
            return ()
        values = msgspec.json.decode(self._sealer.open(sealed, server_id), type=dict[str, str])
        return tuple(values.items())

    def _connection(self, server: Server) -> Connection:
        era: Era | None = server.server_metadata.get("era")
        return Connection(
            server_id=server.id,
            org_id=server.org_id,
            slug=server.slug,
            transport=msgspec.convert(server.transport, Transport),
            url=server.endpoint_url or server.base_url,
            command=server.command,
            args=tuple(server.args),
            env=self._open(server.id, server.sealed_env),
            headers=self._open(server.id, server.sealed_headers),
            deadlines=replace(Deadlines(), **server.deadlines),
            era=era,
            protocol_version=server.server_metadata.get("protocol_version"),
            operations=unpack(server.operations),
            container=contained.unpack(server.container),
        )


def _transport_of(registration: Registration) -> Transport:
    if registration.command and registration.base_url:
        raise ServerInvalid("Give either base_url or command, not both.", field="command")
    if registration.command:
        if registration.transport not in (None, "stdio"):
            raise ServerInvalid("A command is reached over stdio.", field="transport")
        return "stdio"
    if not registration.base_url:
        raise ServerInvalid("Give base_url (an http or https address) or command.", field="base_url")
    if registration.transport == "stdio":
        raise ServerInvalid("A stdio server needs a command.", field="command")
    if not re.match(r"https?://[^\s/]", registration.base_url):
        raise ServerInvalid("base_url must start with http:// or https:// and name a host.", field="base_url")
    if registration.transport == "openapi" and not registration.operations:
        raise ServerInvalid("A REST service is imported with its description.", field="transport")
    if registration.transport:
        return registration.transport
    return "sse" if registration.base_url.rstrip("/").endswith("/sse") else "streamable-http"


def _shown(server: Server) -> tuple[object, ...]:
    """What others see of a look, beside what the server offers."""
    return server.health_status, server.endpoint_url, server.transport, server.server_metadata


def _stem(name: str) -> str:
    """A slug from a name: lower case, letters, digits and hyphens, beginning with a letter."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = words if words[:1].isalpha() else f"s-{words}".rstrip("-")
    return slug[:MAX_SLUG].rstrip("-")


def _kind(value: str) -> Kind:
    return next(kind for kind in KINDS if kind == value)


def _rows(server_id: str, offered: Sequence[Offered]) -> list[Capability]:
    # A server that lists one name twice gets its first: two of one name could never be told apart.
    seen: dict[tuple[str, str], Capability] = {}
    for position, item in enumerate(offered):
        key = (item.kind, item.name)
        if key not in seen:
            seen[key] = Capability(
                server_id=server_id, kind=item.kind, name=item.name, position=position, definition=item.definition
            )
    return list(seen.values())
