"""The router: what each method does, for requests of either era whose envelope has been checked.

Lists are answered from the snapshot. Calls, reads and gets pass the policies once, are forwarded, settled and
recorded; everything between the first policy and the record is here, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

import msgspec

from gateway.mcp import asking, envelope, headers, protocol, translate
from gateway.mcp.call import CallKeeping, CallUnderWay
from gateway.mcp.catalog import LIST_KEYS, Entry, ServerEntry, View
from gateway.mcp.durable import durably
from gateway.mcp.envelope import UNREADABLE, Params, ProtocolError, encode, object_param, text_param
from gateway.mcp.flights import Flight, Receive
from gateway.mcp.log_levels import LEVELS
from gateway.mcp.notices import MAX_SUBSCRIPTIONS, watchable
from gateway.mcp.policies.approval import Asked
from gateway.mcp.policies.permission import PERMISSION
from gateway.mcp.policies.pinning import withheld
from gateway.mcp.policies.policy import Attempt
from gateway.mcp.rounds import request_in_rounds
from gateway.mcp.tasks import EXTENSION as TASKS_EXTENSION
from gateway.mcp.tasks import METHODS as TASK_METHODS
from gateway.mcp.tasks import needs_extension
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing, UpstreamFailure
from gateway.mcp.upstream.probe import whole

if TYPE_CHECKING:
    from gateway.mcp.catalog import Catalog
    from gateway.mcp.notices import Notices
    from gateway.mcp.policies.approval import ApprovalPolicy
    from gateway.mcp.policies.sizes import SizePolicy
    from gateway.mcp.request import Request
    from gateway.mcp.request_state import RequestStates
    from gateway.mcp.session import LegacySession
    from gateway.mcp.streams import Streams
    from gateway.mcp.task_notices import TaskNotices
    from gateway.mcp.tasks import TaskIds
    from gateway.mcp.upstream.manager import Upstreams
    from registry.identity.principal import Principal
    from registry.servers.connection import Kind

ROOTS_CHANGED = "notifications/roots/list_changed"


class Router:
    def __init__(
        self,
        *,
        catalog: Catalog,
        upstreams: Upstreams,
        keeping: CallKeeping,
        notices: Notices,
        streams: Streams,
        states: RequestStates,
        tasks: TaskIds,
        task_notices: TaskNotices,
        sizes: SizePolicy,
        approval: ApprovalPolicy,
    ) -> None:
        self.catalog = catalog
        self._upstreams = upstreams
        self._keeping = keeping
        self._notices = notices
        self._streams = streams
        self._states = states
        self._tasks = tasks
        self._task_notices = task_notices
        self._sizes = sizes
        self._approval = approval

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
            if request.session is not None:
                request.session.listed[kind] = request.view.fingerprint(kind)
            return Answer(body=envelope.result(request.id, page))
        if request.modern and method == "server/discover":
            return Answer(body=envelope.result(request.id, discover_result(request.view)))
        if request.modern and method == "subscriptions/listen":
            current = self._current(request.principal, request.view)
            asked = object_param(request.params, "notifications")
            tasks = self._task_notices.wanted(request, asked)
            events = self._notices.listen(request.principal.org_id, current, request.id, asked, tasks)
            return Answer(stream=self._streams.open(request.principal, request.receive, events))
        if method == "completion/complete":
            return await self._complete(request)
        if request.modern and method in TASK_METHODS:
            return await self._task(request)
        if not request.modern and method == "ping":
            return Answer(body=envelope.result(request.id, b"{}"))
        if request.session is not None and method in ("resources/subscribe", "resources/unsubscribe"):
            return await self._subscribe(request, request.session, on=method == "resources/subscribe")
        if not request.modern and method == "logging/setLevel":
            return self._set_level(request)
        raise ProtocolError(protocol.METHOD_NOT_FOUND, f"Method {method!r} is not supported here.")

    def listen(self, principal: Principal, view: View, session: LegacySession, receive: Receive | None) -> Answer:
        """A legacy client's GET stream. Raises `TooManyStreams`."""
        current = self._current(principal, view)
        events = self._notices.stream(principal.org_id, current, session.subscriptions, session.listed)
        return Answer(stream=self._streams.open(principal, receive, events, session))

    async def roots_changed(self, principal: Principal, view: View, session: LegacySession, params: Params) -> None:
        """Tell the legacy servers that a client's roots are others now. The modern era asks each time it needs them."""
        for server in view.servers:
            if server.connection.era == "legacy":
                outgoing = Outgoing(principal, b"", ROOTS_CHANGED, params, None, False, session, session.capabilities)
                await self._upstreams.get(server.connection).notify(outgoing)

    def _current(self, principal: Principal, view: View) -> Callable[[], View | None]:
        """What the caller sees at this address now, whenever it is asked."""
        slug = view.single.slug if view.single is not None else view.curated.slug if view.curated is not None else None
        return lambda: self.catalog.of(principal.org_id).view(slug, principal, curated=view.curated is not None)

    # -- calls

    async def _forward(self, request: Request) -> Answer:
        method = request.message.method
        name = text_param(request.params, protocol.NAMED_BY[method])
        server, entry, upstream_name = _find(request, method, name)
        params = request.params
        if entry is not None and entry.shaping is not None:
            params = entry.shaping.apply(params)
        attempt = Attempt(request.principal, method, name, server, entry, params, request.capabilities)
        call = CallUnderWay(self._keeping, request, attempt)
        try:
            if self._keeping.recorder.full:
                # Before admission: what is refused is recorded as well, and a flood of it must wait like any other.
                await self._keeping.recorder.written()
            await call.admit()
            call.take_off()
            guard = self._upstreams.guard(server.connection)
            if guard is not None and (turn := call.enter(guard)) is not None:
                await turn
            answer = await self._send(request, attempt, upstream_name, call)
            await self._sizes.cut(attempt, answer, request.id, modern=request.modern)
        except Asked as asked:
            await self._durable()
            return self._question(request, asked)
        except BaseException as error:  # noqa: BLE001 - it is raised again, as what it means
            failure = call.failed(error)
            await self._durable()
            raise failure from None
        if answer.stream is not None:
            answer.stream, answer.id = call.follow(answer.stream, answer), request.id
            if self._keeping.recorder.durable:
                answer.stream = durably(answer.stream, self._keeping.recorder, large=answer.large)
            return answer
        call.done(answer)
        await self._durable()
        return answer

    def _question(self, request: Request, asked: Asked) -> Answer:
        """Ask the person at the client whether the call may pass."""
        session = request.session
        if session is None:
            return Answer(body=asking.modern(asked, request.id))
        decide = partial(self._approval.take, request.principal, asked.approval_id)
        again = partial(self._forward, request)
        keeping = self._keeping
        stream = asking.legacy(asked, request, session, keeping.flights, keeping.clock, decide, again)
        return Answer(stream=stream, patient=True, id=request.id)

    async def _durable(self) -> None:
        if self._keeping.recorder.durable:
            await self._keeping.recorder.written()

    async def _send(self, request: Request, attempt: Attempt, upstream_name: str, call: CallUnderWay) -> Answer:
        params = attempt.params
        if upstream_name != attempt.name:
            params = {**params, protocol.NAMED_BY[attempt.method]: msgspec.Raw(encode(upstream_name))}
        if call.trace is not None:
            params = call.trace.onward(params)
        server = attempt.server
        outgoing = _outgoing(request, server, attempt.method, params, upstream_name)
        outgoing.param_headers = _param_headers(request, attempt)
        if attempt.entry is not None and attempt.entry.definition.param_headers:
            outgoing.params = headers.unambiguous(attempt.entry.definition.param_headers, outgoing.params)
        self._states.open(outgoing, server.id)
        try:
            answer = await self._ask(request, server, outgoing)
        except asyncio.CancelledError:
            attempt.sent = outgoing.sent
            raise
        except UpstreamFailure as failure:
            if not _safe_to_repeat(attempt, failure) or not call.again(failure):
                raise
            self._keeping.recheck(attempt)
            answer = await self._ask(request, server, outgoing)
        if answer.large:
            await self._states.hold(answer, outgoing, server.slug)
        self._states.seal(answer, outgoing, server.id)
        if TASKS_EXTENSION in request.capabilities:
            self._tasks.seal(answer, request.principal, server.id)
        return answer

    async def _ask(self, request: Request, server: ServerEntry, outgoing: Outgoing) -> Answer:
        upstream = await self._upstreams.of(server.connection, request.principal)
        if request.session is None:
            return await upstream.request(outgoing)
        return await request_in_rounds(upstream, outgoing, request.session)

    async def _complete(self, request: Request) -> Answer:
        """Suggestions for an argument of a prompt or a resource template, from the server that has it."""
        server, entry, name, params = _completion_target(request)
        method, recorder = request.message.method, self._keeping.recorder
        attempt = Attempt(request.principal, method, name, server, entry, params, request.capabilities)
        call = CallUnderWay(self._keeping, request, attempt)
        try:
            if recorder.full:
                await recorder.written()
            await call.admit()
            call.take_off()
            upstream = await self._upstreams.of(server.connection, request.principal)
            answer = await upstream.request(_outgoing(request, server, method, params, None))
            # Suggestions are small.
            body = answer.body if answer.stream is None else translate.with_id(request.id)(await whole(answer))
        except BaseException as error:  # noqa: BLE001 - it is raised again, as what it means
            asks = isinstance(error, translate.InputRequired)
            failure = call.failed(OutcomeUnknown(server.slug, "its answer cannot be read") if asks else error)
            await self._durable()
            raise failure from None
        call.finish(answer.outcome, answer.error_code, len(body))
        await self._durable()
        return Answer(body=body)

    # -- beside the calls

    async def _task(self, request: Request) -> Answer:
        """Ask after a task, or change it, at the server that runs it."""
        if not request.principal.may("mcp:tools:call"):
            raise ProtocolError(protocol.INVALID_REQUEST, "This needs the permission mcp:tools:call.", status=403)
        if TASKS_EXTENSION not in request.capabilities:
            raise needs_extension()
        sealed = text_param(request.params, "taskId")
        if request.headers.name is not None and headers.decode_value(request.headers.name) != sealed:
            raise ProtocolError(protocol.HEADER_MISMATCH, "Mcp-Name must equal the task id in the body.", status=400)
        server_id, task_id = self._tasks.open(request.principal, sealed)
        server = next((server for server in request.view.servers if server.id == server_id), None)
        if server is None:
            raise ProtocolError(protocol.INVALID_PARAMS, f"Unknown task: {sealed[:100]}")
        params = {**request.params, "taskId": msgspec.Raw(encode(task_id))}
        answer = await self._relay(request, server, params, task_id)
        self._tasks.seal(answer, request.principal, server_id)
        return answer

    async def _relay(self, request: Request, server: ServerEntry, params: Params, name: str | None) -> Answer:
        """Pass on a request that is no call: nothing is paid or recorded for it."""
        method = request.message.method
        outgoing = _outgoing(request, server, method, params, name)
        flight = Flight(
            request.receive,
            request.principal.org_id,
            monotonic() + server.connection.deadlines.first_byte,
            lambda: outgoing.late(server.slug),
            stoppable=True,
        )
        guard = self._upstreams.guard(server.connection)
        if guard is not None:
            guard.breaker.check()
        self._keeping.recheck(Attempt(request.principal, method, method, server, None, request.params))
        self._keeping.flights.take_off(flight)
        try:
            upstream = await self._upstreams.of(server.connection, request.principal)
            answer = await upstream.request(outgoing)
            if answer.stream is None:
                # As of a stream that is yet to come: what is about the task is told where it is followed.
                answer.before = b""
                return answer
            # Suggestions are small: read whole, they need no flight of their own once they are on their way back.
            return Answer(body=translate.with_id(request.id)(await whole(answer)))
        except asyncio.CancelledError as error:
            raise (flight.reason() or error) from None
        except (*UNREADABLE, RecursionError, translate.InputRequired):
            raise OutcomeUnknown(server.slug, "its answer cannot be read") from None
        finally:
            self._keeping.flights.land(flight)

    async def _subscribe(self, request: Request, session: LegacySession, *, on: bool) -> Answer:
        uri = text_param(request.params, "uri")
        place = watchable(request.view, uri)
        if place is None or not request.principal.may("mcp:resources:read"):
            raise ProtocolError(protocol.RESOURCE_NOT_FOUND, f"No resource to watch: {uri}", data={"uri": uri})
        if not on:
            session.unwatch(place)
        elif len(session.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(protocol.INVALID_PARAMS, f"More than {MAX_SUBSCRIPTIONS} resources cannot be watched.")
        else:
            session.watch(place, uri)
        await self._notices.watched_changed({place[0]})
        return Answer(body=envelope.result(request.id, b"{}"))

    def _set_level(self, request: Request) -> Answer:
        level = text_param(request.params, "level")
        if level not in LEVELS:
            raise ProtocolError(protocol.INVALID_PARAMS, f"level must be one of {', '.join(LEVELS)}.")
        if request.session is not None:
            request.session.set_level(level)
        return Answer(body=envelope.result(request.id, b"{}"))


def _find(request: Request, method: str, name: str) -> tuple[ServerEntry, Entry | None, str]:
    """Where a name leads: the server, what is listed under the name, and the upstream's own name."""
    if method == "resources/read":
        found = request.view.find_resource(name)
        if found is not None and request.principal.may("mcp:resources:list"):
            return found[0], request.view.find("resource", name), found[1]
        code = protocol.INVALID_PARAMS if request.modern else protocol.RESOURCE_NOT_FOUND
        raise ProtocolError(code, f"Resource not found: {name}", data={"uri": name})
    kind: Kind = "tool" if method == "tools/call" else "prompt"
    entry = request.view.find(kind, name)
    if entry is None:
        raise withheld(request.view, kind, name) or ProtocolError(protocol.INVALID_PARAMS, f"Unknown {kind}: {name}")
    return entry.server, entry, entry.name


def _outgoing(request: Request, server: ServerEntry, method: str, params: Params, name: str | None) -> Outgoing:
    return Outgoing(
        principal=request.principal,
        id=request.id,
        method=method,
        params=params,
        name=name,
        modern=request.modern,
        session=request.session,
        capabilities=request.capabilities,
        origin=server.title if request.view.single is None else None,
        log_level=request.log_level,
    )


def _completion_target(request: Request) -> tuple[ServerEntry, Entry | None, str, Params]:
    """The server that has what is completed, the prompt or template, its name, and the parameters for the server."""
    ref = object_param(request.params, "ref")
    named_by = "uri" if "uri" in ref else "name"
    name = text_param(ref, named_by)
    if named_by == "name":
        entry = request.view.find("prompt", name)
    else:
        entry = request.view.find("template", name) or request.view.find("resource", name)
    found = (entry.server, entry.name) if entry is not None else None
    if found is None and named_by == "uri":
        found = request.view.find_resource(name)
    if found is None:
        raise ProtocolError(protocol.INVALID_PARAMS, f"There is nothing to complete under {name!r}.")
    server, upstream_name = found
    ref = {**ref, named_by: msgspec.Raw(encode(upstream_name))}
    return server, entry, name, {**request.params, "ref": msgspec.Raw(encode(ref))}


def _param_headers(request: Request, attempt: Attempt) -> bytes:
    """The `Mcp-Param-*` headers for the upstream, checked against a modern client's, made for a legacy one."""
    if attempt.entry is None:
        return b""
    # A set may show fewer parameters than the server has: the client mirrors what it sees, the server what it gets.
    shown, declared = attempt.entry.shown.param_headers, attempt.entry.definition.param_headers
    if request.modern and shown:
        headers.check_params(shown, request.headers, request.params)
    if not declared:
        return b""
    values = headers.mirrored_params(declared, attempt.params)
    return "".join(f"Mcp-Param-{token}: {headers.encode_value(value)}\r\n" for token, value in values.items()).encode()


def _safe_to_repeat(attempt: Attempt, failure: UpstreamFailure) -> bool:
    if isinstance(failure, NotSent):
        # What goes on with a parked call has used up what it was parked under.
        return "requestState" not in attempt.params
    if attempt.method != "tools/call":
        return True
    hints = attempt.entry.definition.hints if attempt.entry is not None else None
    return hints is not None and (hints.readOnlyHint or hints.idempotentHint)


def capabilities(view: View) -> dict[str, object]:
    """What the gateway offers at an address, to clients of either era."""
    offered: dict[str, object] = {"tools": {"listChanged": True}, "logging": {}}
    names = {name for server in view.servers for name in server.capabilities}
    if view.curated is not None:
        # A server may offer what it does not list; a set offers what it lists.
        names &= {"completions"}
    if "resources" in names or view.entries["resource"] or view.entries["template"]:
        offered["resources"] = {"subscribe": True, "listChanged": True}
    if "prompts" in names or view.entries["prompt"]:
        offered["prompts"] = {"listChanged": True}
    if "completions" in names:
        offered["completions"] = {}
    return offered


def instructions(view: View) -> str | None:
    """The servers' own instructions, told apart by their names where there are several; a set has its own."""
    if view.curated is not None:
        return view.curated.description
    if view.single is not None:
        return view.single.instructions
    parts = [
        f"{server.title} (tools begin with {server.slug}__): {server.instructions}"
        for server in view.servers
        if server.instructions
    ]
    return "\n\n".join(parts) or None


def _extensions(view: View) -> dict[str, object]:
    """What the servers at an address add to the protocol: it passes through. Legacy clients know of no extensions."""
    found: dict[str, object] = {}
    for server in view.servers:
        extensions = server.capabilities.get("extensions")
        found |= cast("dict[str, object]", extensions) if isinstance(extensions, dict) else {}
    return {"extensions": found} if found else {}


def discover_result(view: View) -> bytes:
    body: dict[str, object] = {
        "resultType": "complete",
        "supportedVersions": list(protocol.MODERN_VERSIONS),
        "capabilities": capabilities(view) | _extensions(view),
        "ttlMs": view.ttl_ms,
        "cacheScope": "private",
        "_meta": {protocol.META_SERVER_INFO: msgspec.Raw(translate.SERVER_INFO)},
    }
    text = instructions(view)
    return encode({**body, "instructions": text} if text else body)


def initialize_result(view: View, version: str) -> bytes:
    body: dict[str, object] = {
        "protocolVersion": version,
        "capabilities": capabilities(view),
        "serverInfo": msgspec.Raw(translate.SERVER_INFO),
    }
    text = instructions(view)
    return encode({**body, "instructions": text} if text else body)
