"""The router: what each method does, for requests of either era whose envelope has been checked.

Lists are answered from the snapshot. Calls, reads and gets pass the policies once, are forwarded, settled and
recorded; everything between the first policy and the record is here, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import envelope, headers, protocol, translate
from gateway.mcp.catalog import LIST_KEYS, Entry, ServerEntry, View
from gateway.mcp.envelope import Message, Params, ProtocolError, encode, text_param
from gateway.mcp.flights import Flight, Flights, Receive
from gateway.mcp.policies import PERMISSION, Attempt, Policy
from gateway.mcp.upstream.port import Answer, OutcomeUnknown, Outgoing, UpstreamFailure
from registry.core.version import VERSION
from registry.usage.calls import Call

if TYPE_CHECKING:
    from gateway.mcp.catalog import Catalog
    from gateway.mcp.headers import McpHeaders
    from gateway.mcp.notices import Notices
    from gateway.mcp.records import Recorder
    from gateway.mcp.sessions import LegacySession
    from gateway.mcp.upstream.manager import Upstreams
    from registry.core.clock import Clock
    from registry.identity.principal import Principal

SERVER_INFO = encode({"name": "gatehouse", "title": "Gatehouse", "version": VERSION})
_KIND = {"tools/call": "tool", "prompts/get": "prompt"}


@dataclass(slots=True)
class Request:
    """One request of a client, its envelope and headers checked.

    Args:
        capabilities: what the client declared, as JSON.
        receive: to learn that the client has gone.
    """

    principal: Principal
    view: View
    message: Message
    params: Params
    modern: bool
    session: LegacySession | None
    headers: McpHeaders
    capabilities: bytes
    receive: Receive | None
    size: int

    @property
    def id(self) -> bytes:
        return bytes(self.message.id)


class Router:
    def __init__(
        self,
        *,
        catalog: Catalog,
        upstreams: Upstreams,
        policies: Sequence[Policy],
        recorder: Recorder,
        flights: Flights,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self.catalog = catalog
        self._upstreams = upstreams
        self._policies = tuple(policies)
        self._recorder = recorder
        self._flights = flights
        self.notices = notices
        self._clock = clock

    async def handle(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            ProtocolError: to be answered as a JSON-RPC error.
            ClientGone: nobody is left to answer.
        """
        method = request.message.method
        if method in PERMISSION:
            return await self._forward(request)
        kind = LIST_KEYS.get(method)
        if kind is not None:
            cursor = text_param(request.params, "cursor") if "cursor" in request.params else None
            page = request.view.page(kind, cursor, modern=request.modern)
            return Answer(body=envelope.result(request.id, page))
        if request.modern and method == "server/discover":
            return Answer(body=envelope.result(request.id, discover_result(request.view)))
        if request.modern and method == "subscriptions/listen":
            return Answer(stream=self.notices.listen(request.principal.org_id, request.id, request.params))
        if not request.modern and method == "ping":
            return Answer(body=envelope.result(request.id, b"{}"))
        raise ProtocolError(protocol.METHOD_NOT_FOUND, f"Method {method!r} is not supported here.")

    # -- calls

    async def _forward(self, request: Request) -> Answer:
        method = request.message.method
        name = text_param(request.params, protocol.NAMED_BY[method])
        server, entry, upstream_name = _find(request, method, name)
        attempt = Attempt(request.principal, method, name, server, entry, request.params)
        call = _CallUnderWay(self, request, attempt)
        try:
            for policy in self._policies:
                policy.admit(attempt)
        except ProtocolError as error:
            call.finish("denied", error.code, 0)
            raise
        if self._recorder.full:
            await self._recorder.written()
        call.take_off()
        try:
            answer = await self._send(request, attempt, upstream_name)
        except BaseException as error:
            failure = call.failed(error)
            await self._durable()
            raise failure from None
        if answer.stream is not None:
            answer.stream = call.follow(answer.stream, answer)
            return answer
        call.finish(answer.outcome, answer.error_code, len(answer.body))
        await self._durable()
        return answer

    async def _durable(self) -> None:
        if self._recorder.durable:
            await self._recorder.written()

    async def _send(self, request: Request, attempt: Attempt, upstream_name: str) -> Answer:
        params = request.params
        if upstream_name != attempt.name:
            params = {**params, protocol.NAMED_BY[attempt.method]: msgspec.Raw(encode(upstream_name))}
        outgoing = Outgoing(
            principal=request.principal,
            id=request.id,
            method=attempt.method,
            params=params,
            name=upstream_name,
            modern=request.modern,
            session=request.session,
            capabilities=request.capabilities,
            param_headers=_param_headers(request, attempt),
        )
        upstream = self._upstreams.get(attempt.server.connection)
        try:
            return await upstream.request(outgoing)
        except OutcomeUnknown:
            if not _safe_to_repeat(attempt):
                raise
            return await upstream.request(outgoing)


class _CallUnderWay:
    """One forwarded call from admission to record; ends exactly once, in `finish`."""

    __slots__ = ("_attempt", "_began", "_finished", "_flight", "_loop", "_request", "_router")

    def __init__(self, router: Router, request: Request, attempt: Attempt) -> None:
        self._router = router
        self._request = request
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._flight: Flight | None = None
        self._finished = False

    def take_off(self) -> None:
        request, server = self._request, self._attempt.server
        flight = self._flight = Flight(
            request.receive,
            request.principal.org_id,
            self._began + server.connection.deadlines.first_byte,
            lambda: OutcomeUnknown(server.slug, "it did not answer within its deadline"),
        )
        self._router._flights.take_off(flight)  # pyright: ignore[reportPrivateUsage]
        if request.session is not None:
            request.session.calls[request.id] = flight

    def failed(self, error: BaseException) -> BaseException:
        """Record a call that has no answer; gives what to raise for it."""
        failure: BaseException = error
        if isinstance(error, asyncio.CancelledError) and self._flight is not None and self._flight.failure is not None:
            failure = self._flight.failure
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        if isinstance(failure, UpstreamFailure):
            self.finish(failure.kind, failure.code, 0)
        elif isinstance(failure, ProtocolError):
            self.finish("error", failure.code, 0)
        else:
            self.finish("unknown", None, 0)
        return failure

    async def follow(self, stream: AsyncIterator[bytes], answer: Answer) -> AsyncIterator[bytes]:
        """The answer's stream as it comes, with its deadlines; recorded when it has ended."""
        size = 0
        limits = self._attempt.server.connection.deadlines
        try:
            async for chunk in stream:
                size += len(chunk)
                if self._flight is not None:
                    self._flight.deadline = min(self._loop.time() + limits.idle, self._began + limits.total)
                yield chunk
        except BaseException as error:
            raise self.failed(error) from None
        else:
            self.finish(answer.outcome, answer.error_code, size)
        finally:
            await translate.close(stream)
            self.finish("unknown", None, size)

    def finish(self, outcome: str, code: int | None, size: int) -> None:
        if self._finished:
            return
        self._finished = True
        router, request, attempt = self._router, self._request, self._attempt
        if self._flight is not None:
            router._flights.land(self._flight)  # pyright: ignore[reportPrivateUsage]
            if request.session is not None:
                request.session.calls.pop(request.id, None)
            for policy in router._policies:  # pyright: ignore[reportPrivateUsage]
                policy.settle(attempt, outcome)
        elapsed = self._loop.time() - self._began
        principal, server = request.principal, attempt.server
        request_id = request.headers.request_id
        router._recorder.add(  # pyright: ignore[reportPrivateUsage]
            Call(
                int((router._clock.now().timestamp() - elapsed) * 1e6),  # pyright: ignore[reportPrivateUsage]
                principal.org_id,
                principal.user_id,
                principal.key_id,
                server.id,
                server.slug,
                attempt.method,
                attempt.name,
                outcome,
                code,
                int(elapsed * 1e6),
                request.size,
                size,
                0.0,
                request_id.decode("latin-1")[:128] if request_id is not None else None,
            )
        )


def _find(request: Request, method: str, name: str) -> tuple[ServerEntry, Entry | None, str]:
    """Where a name leads: the server, what is listed under the name, and the upstream's own name."""
    if method == "resources/read":
        found = request.view.find_resource(name)
        if found is not None and request.principal.may("mcp:resources:list"):
            return found[0], request.view.find("resource", name), found[1]
        code = protocol.INVALID_PARAMS if request.modern else protocol.RESOURCE_NOT_FOUND
        raise ProtocolError(code, f"Resource not found: {name}", data={"uri": name})
    entry = request.view.find("tool" if method == "tools/call" else "prompt", name)
    if entry is None:
        raise ProtocolError(protocol.INVALID_PARAMS, f"Unknown {_KIND[method]}: {name}")
    return entry.server, entry, entry.name


def _param_headers(request: Request, attempt: Attempt) -> bytes:
    """The `Mcp-Param-*` headers for the upstream, checked against a modern client's, made for a legacy one."""
    declared = attempt.entry.definition.param_headers if attempt.entry is not None else None
    if not declared:
        return b""
    if request.modern:
        headers.check_params(declared, request.headers, attempt.params)
    values = headers.mirrored_params(declared, attempt.params)
    return "".join(f"Mcp-Param-{token}: {headers.encode_value(value)}\r\n" for token, value in values.items()).encode()


def _safe_to_repeat(attempt: Attempt) -> bool:
    if attempt.method != "tools/call":
        return True
    hints = attempt.entry.definition.hints if attempt.entry is not None else None
    return hints is not None and (hints.readOnlyHint or hints.idempotentHint)


def capabilities(view: View) -> dict[str, object]:
    """What the gateway offers at an address, to clients of either era."""
    offered: dict[str, object] = {"tools": {"listChanged": True}}
    names = {name for server in view.servers for name in server.capabilities}
    if "resources" in names or view.entries["resource"] or view.entries["template"]:
        offered["resources"] = {"listChanged": True}
    if "prompts" in names or view.entries["prompt"]:
        offered["prompts"] = {"listChanged": True}
    return offered


def instructions(view: View) -> str | None:
    """The servers' own instructions, told apart by their names where there are several."""
    if view.single is not None:
        return view.single.instructions
    parts = [
        f"{server.title} (tools begin with {server.slug}__): {server.instructions}"
        for server in view.servers
        if server.instructions
    ]
    return "\n\n".join(parts) or None


def discover_result(view: View) -> bytes:
    body: dict[str, object] = {
        "resultType": "complete",
        "supportedVersions": list(protocol.MODERN_VERSIONS),
        "capabilities": capabilities(view),
        "ttlMs": view.ttl_ms,
        "cacheScope": "private",
        "_meta": {protocol.META_SERVER_INFO: msgspec.Raw(SERVER_INFO)},
    }
    text = instructions(view)
    return encode({**body, "instructions": text} if text else body)


def initialize_result(view: View, version: str) -> bytes:
    body: dict[str, object] = {
        "protocolVersion": version,
        "capabilities": capabilities(view),
        "serverInfo": msgspec.Raw(SERVER_INFO),
    }
    text = instructions(view)
    return encode({**body, "instructions": text} if text else body)
