"""Looking at a server: is it there, which era does it speak, what does it offer.

The answer is an `Offer` for the registry to store. It uses the same upstreams as calls do, so what was found here is
reached the same way later. Source: specification 2026-07-28, basic/versioning (era detection).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import Message, Params, ProtocolError, decode_error, decode_message, encode
from gateway.mcp.upstream.legacy_http import LegacyHttpUpstream
from gateway.mcp.upstream.openapi import OpenApiUpstream
from gateway.mcp.upstream.port import Answer, NotSent, Outgoing, Upstream
from gateway.mcp.upstream.sse import SseUpstream
from gateway.mcp.upstream.stdio import StdioUpstream
from registry.core.errors import GatehouseError
from registry.identity.principal import Principal
from registry.servers.connection import Kind, Offer, Offered

if TYPE_CHECKING:
    from gateway.mcp.upstream.manager import Upstreams
    from registry.core.clock import Clock
    from registry.servers.connection import Connection

MAX_PAGES = 100
MAX_ITEMS = 10_000
MAX_DEFINITION = 256 * 1024

_LISTS: tuple[tuple[str, str, str, Kind, str], ...] = (
    # capability, method, key of the result, kind, field that names an item
    ("tools", "tools/list", "tools", "tool", "name"),
    ("resources", "resources/list", "resources", "resource", "uri"),
    ("resources", "resources/templates/list", "resourceTemplates", "template", "uriTemplate"),
    ("prompts", "prompts/list", "prompts", "prompt", "name"),
)


_CAPABILITIES: dict[str, Any] = {
    # Some servers offer less to clients that can do less; what a caller cannot use, its own call will tell.
    "elicitation": {"form": {}, "url": {}},
    "sampling": {},
    "roots": {"listChanged": True},
}


class _Versions(msgspec.Struct):
    supported: tuple[str, ...] = ()


class _Opening(msgspec.Struct):
    """What an `initialize` or a `server/discover` result tells, whichever it is."""

    protocolVersion: str | None = None
    supportedVersions: tuple[str, ...] = ()
    capabilities: dict[str, Any] = {}
    serverInfo: dict[str, Any] = {}
    instructions: str | None = None
    meta: dict[str, Any] = msgspec.field(default_factory=dict[str, Any], name="_meta")


class Prober:
    """Looks at servers."""

    def __init__(self, upstreams: Upstreams, clock: Clock) -> None:
        self._upstreams = upstreams
        self._clock = clock

    async def probe(self, connection: Connection, *, within: float) -> Offer:
        """See `registry.servers.connection.Prober`."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(within):
                offer = await self._look(await self._upstreams.for_looking(connection))
        except TimeoutError:
            return _unreachable(f"it did not answer within {within:g} s")
        except ProtocolError as error:
            return _unreachable(error.message)
        except GatehouseError as error:
            if error.status < 500:
                # The address itself is at fault: that is for the caller to correct, not a server that is down.
                raise
            return _unreachable(error.message)
        return replace(offer, response_time_ms=round((self._clock.monotonic() - began) * 1000, 1))

    async def _look(self, connection: Connection) -> Offer:
        try:
            return await self._look_at(connection)
        except ProtocolError as error:
            for candidate in _others(connection, error):
                with suppress(ProtocolError):
                    return await self._look_at(candidate)
            raise

    async def _look_at(self, connection: Connection) -> Offer:
        if connection.transport == "stdio":
            return await self._look_at_child(connection)
        if connection.transport == "openapi":
            return await self._look_at_service(connection)
        if connection.transport == "sse":
            return await self._look_as_legacy(connection)
        modern = self._upstreams.make(replace(connection, era="modern"))
        try:
            opening = await _discover(modern)
            if opening is not None:
                return await self._read(modern, connection, opening)
        finally:
            await modern.close()
        return await self._look_as_legacy(connection)

    async def _look_as_legacy(self, connection: Connection) -> Offer:
        legacy = self._upstreams.make(replace(connection, era="legacy", protocol_version=None))
        assert isinstance(legacy, LegacyHttpUpstream | SseUpstream)
        try:
            introduction = await legacy.introduce(_prober(connection), encode(_CAPABILITIES))
            return await self._read(legacy, connection, _decode_opening(introduction))
        finally:
            await legacy.close()

    async def _look_at_service(self, connection: Connection) -> Offer:
        """A REST service says nothing of itself: it offers what was imported, as long as anything answers there."""
        service = self._upstreams.make(connection)
        assert isinstance(service, OpenApiUpstream)
        await service.reach()
        return Offer(
            reachable=True,
            endpoint_url=connection.url,
            transport="openapi",
            capabilities={"tools": {}},
            offered=tuple(Offered("tool", operation.tool, operation.definition) for operation in connection.operations),
            checks={"connectivity": "healthy", "handshake": "healthy", "capabilities": "healthy"},
        )

    async def _look_at_child(self, connection: Connection) -> Offer:
        # A child of its own: the one that serves calls was told that its clients cannot be asked for anything.
        child = self._upstreams.make(connection, encode(_CAPABILITIES))
        assert isinstance(child, StdioUpstream)
        try:
            return await self._read(child, connection, _decode_opening(await child.introduce()))
        finally:
            await child.close()

    async def _read(self, upstream: Upstream, connection: Connection, opening: _Opening) -> Offer:
        offered: list[Offered] = []
        warnings: list[str] = []
        ttls: list[int] = []
        for capability, method, key, kind, named_by in _LISTS:
            if capability not in opening.capabilities:
                continue
            try:
                found, ttl = await _read_list(upstream, connection, method, key, kind, named_by)
            except ProtocolError as error:
                if error.code != protocol.METHOD_NOT_FOUND:
                    warnings.append(f"{method}: {error.message}")
                continue
            offered += found
            ttls += [ttl] if ttl else []
        modern = bool(opening.supportedVersions)
        info: Any = opening.serverInfo or opening.meta.get(protocol.META_SERVER_INFO)
        return Offer(
            reachable=True,
            endpoint_url=connection.url,
            transport=connection.transport,
            era="modern" if modern else "legacy",
            protocol_version=protocol.MODERN if modern else opening.protocolVersion,
            server_info=cast("dict[str, Any]", info) if isinstance(info, dict) else {},
            capabilities=opening.capabilities,
            instructions=opening.instructions,
            offered=tuple(offered),
            ttl_ms=min(ttls, default=None),
            checks={
                "connectivity": "healthy",
                "handshake": "healthy",
                "capabilities": "degraded" if warnings else "healthy",
            },
            warnings=tuple(warnings),
        )


def _others(connection: Connection, error: ProtocolError) -> list[Connection]:
    """Where else the server may be meant to answer: on a bare host, and in the transport that came before."""
    url = connection.url
    if url is None or (isinstance(error, NotSent) and "HTTP" not in error.message):
        # Nothing is there at all, or what is there refused in the words of MCP.
        return []
    if url.rstrip("/").count("/") > 2:
        return [replace(connection, transport="sse")] if connection.transport == "streamable-http" else []
    bare = url.rstrip("/")
    return [replace(connection, url=bare + "/mcp"), replace(connection, url=bare + "/sse", transport="sse")]


async def _discover(upstream: Upstream) -> _Opening | None:
    """What a modern server says of itself; `None` from a legacy one.

    Raises:
        NotSent: the server could not be reached at all.
    """
    message = await _ask_to_discover(upstream)
    if message is not None and _speaks_modern(message):
        # It knows the era but would not answer this time: servers may say first which revisions they take.
        message = await _ask_to_discover(upstream)
    if message is None or bytes(message.error):
        return None
    opening = _decode_opening(message)
    return opening if protocol.MODERN in opening.supportedVersions else None


async def _ask_to_discover(upstream: Upstream) -> Message | None:
    try:
        return await whole(await upstream.request(outgoing(None, "server/discover", {})))
    except NotSent as error:
        if "HTTP" in error.message:
            return None
        raise
    except ProtocolError:
        return None


def _speaks_modern(message: Message) -> bool:
    """Whether an error is one that only a modern server of our revision gives; any other is how a legacy one fails."""
    if not bytes(message.error):
        return False
    error = decode_error(message.error)
    if error.code != protocol.UNSUPPORTED_VERSION:
        return False
    with suppress(msgspec.DecodeError):
        return protocol.MODERN in msgspec.json.decode(error.data, type=_Versions).supported
    return False


async def _read_list(
    upstream: Upstream, connection: Connection, method: str, key: str, kind: Kind, named_by: str
) -> tuple[list[Offered], int | None]:
    found: list[Offered] = []
    params: Params = {}
    ttl: int | None = None
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        message = await whole(await upstream.request(outgoing(connection, method, params)))
        if bytes(message.error):
            error = decode_error(message.error)
            raise ProtocolError(error.code, error.message)
        result = _decode_result(message.result)
        items = msgspec.json.decode(result.get(key, b"[]"), type=list[msgspec.Raw])
        for raw in items:
            name = _name_of(raw, named_by)
            if name is not None and len(bytes(raw)) <= MAX_DEFINITION:
                found.append(Offered(kind, name, bytes(raw).decode()))
        if "ttlMs" in result:
            ttl = msgspec.json.decode(result["ttlMs"], type=int, strict=False)
        cursor = msgspec.json.decode(result["nextCursor"], type=str | None) if "nextCursor" in result else None
        if cursor is None or cursor in seen or len(found) >= MAX_ITEMS:
            break
        seen.add(cursor)
        params = {"cursor": msgspec.Raw(encode(cursor))}
    return found[:MAX_ITEMS], ttl


async def whole(answer: Answer) -> Message:
    """The answer's message, whichever form it has."""
    if answer.stream is None:
        return decode_message(answer.body)
    try:
        if answer.large:
            return decode_message(b"".join([piece async for piece in answer.stream]))
        return await _last_message(answer.stream)
    finally:
        await translate.close(answer.stream)


async def _last_message(stream: AsyncIterator[bytes]) -> Message:
    splitter = sse.Splitter()
    found = Message()
    async for chunk in stream:
        for event in splitter.feed(chunk):
            data = sse.data_of(event)
            if data and not (message := decode_message(data)).method:
                found = message
    return found


def _decode_opening(message: Message) -> _Opening:
    try:
        return msgspec.json.decode(message.result, type=_Opening)
    except msgspec.DecodeError as error:
        raise ProtocolError(protocol.INTERNAL_ERROR, f"what it says of itself cannot be read: {error}") from None


def _decode_result(raw: msgspec.Raw) -> Params:
    try:
        return envelope.decode_params(raw)
    except msgspec.DecodeError:
        raise ProtocolError(protocol.INTERNAL_ERROR, "a list came without a result") from None


def _name_of(raw: msgspec.Raw, named_by: str) -> str | None:
    try:
        name = cast("object", msgspec.json.decode(raw, type=dict[str, Any]).get(named_by))
    except (msgspec.DecodeError, RecursionError):
        return None
    return name if isinstance(name, str) and name else None


def _prober(connection: Connection | None) -> Principal:
    org_id = connection.org_id if connection is not None else ""
    return Principal(org_id=org_id, user_id="prober", role="system", permissions=frozenset())


def outgoing(connection: Connection | None, method: str, params: Params) -> Outgoing:
    """A request of the gateway's own."""
    meta: dict[str, Any] = {
        protocol.META_VERSION: protocol.MODERN,
        protocol.META_CAPABILITIES: _CAPABILITIES,
        protocol.META_CLIENT_INFO: translate.CLIENT,
    }
    return Outgoing(
        principal=_prober(connection),
        id=b"1",
        method=method,
        params={**params, "_meta": msgspec.Raw(encode(meta))},
        name=None,
        modern=True,
        session=None,
        capabilities=encode(_CAPABILITIES),
    )


def _unreachable(why: str) -> Offer:
    checks = {"connectivity": "unhealthy", "handshake": "unknown", "capabilities": "unknown"}
    return Offer(reachable=False, error=why, checks=checks)
