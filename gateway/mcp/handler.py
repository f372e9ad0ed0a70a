"""One HTTP exchange with an MCP address, without ASGI: credentials, era, envelope, session, then the router.

Sources: specification 2026-07-28 transports/streamable-http and basic; 2025-11-25 basic/transports (sessions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

import msgspec

from gateway.auth.credentials import CredentialMissing
from gateway.mcp import batch, envelope, headers, protocol
from gateway.mcp.catalog import place_of
from gateway.mcp.envelope import UNREADABLE, Message, Params, ProtocolError, encode, object_param, params_of, text_param
from gateway.mcp.log_levels import LEVELS
from gateway.mcp.policies.permission import ScopeMissing
from gateway.mcp.request import Request
from gateway.mcp.router import ROOTS_CHANGED, Router, initialize_result
from gateway.mcp.streams import Streams, TooManyStreams
from gateway.mcp.upstream.port import Answer
from gateway.mcp.visits import TooManyVisits

if TYPE_CHECKING:
    from gateway.mcp.catalog import View
    from gateway.mcp.flights import Receive
    from gateway.mcp.headers import McpHeaders, RawHeaders
    from gateway.mcp.session import LegacySession
    from gateway.mcp.sessions import LegacySessions
    from gateway.mcp.visits import Visits
    from registry.identity.principal import Principal

_MODERN = tuple(version.encode() for version in protocol.MODERN_VERSIONS)
_LEGACY = tuple(version.encode() for version in protocol.LEGACY_VERSIONS)
MAX_CAPABILITIES = 8 * 1024
"""Of a legacy client; they travel in its session id, which is a header."""
_COLLECTIONS = (("/servers/", False), ("/sets/", True))
_WORKSPACES = "/ws/"
_ALLOW_POST = ((b"allow", b"POST"),)


class Authenticator(Protocol):
    """Finds the caller behind a request's headers."""

    def cached(self, headers: RawHeaders, address: str) -> Principal | None: ...

    async def authenticate(self, headers: RawHeaders, address: str) -> Principal:
        """Raises `registry.core.errors.Unauthenticated`, also for a token of another address."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Which MCP endpoint was addressed: all servers (`slug` is `None`), one, a set (`curated`) or a workspace.

    Args:
        workspace: its name, which is unique among those of one user.
        owner: that user's id, where it is not the caller.
    """

    slug: str | None
    curated: bool = False
    workspace: str | None = None
    owner: str | None = None

    @property
    def place(self) -> str:
        return place_of(self.slug, curated=self.curated)

    @property
    def path(self) -> str:
        """The address as tokens are issued for it."""
        return "/mcp" if self.slug is None else f"/{self.place}/mcp"


_EVERYTHING = Address(None)


class Meta(msgspec.Struct, gc=False):
    """The members of a modern request's `_meta` that the gateway reads."""

    version: str = msgspec.field(default="", name=protocol.META_VERSION)
    capabilities: msgspec.Raw = msgspec.field(default=envelope.ABSENT, name=protocol.META_CAPABILITIES)
    log_level: str | None = msgspec.field(default=None, name=protocol.META_LOG_LEVEL)


_decode_meta = msgspec.json.Decoder(Meta).decode


def address_of(path: str, query: bytes = b"") -> Address | None:
    """The MCP endpoint at a path, `None` if the path is none."""
    if path in ("/mcp", "/mcp/"):
        return _EVERYTHING
    if path.startswith(_WORKSPACES):
        name, slash, rest = path[len(_WORKSPACES) :].partition("/")
        if not (name and slash and rest in ("mcp", "mcp/")) or name == "health":
            return None
        owner = parse_qs(query.decode("latin-1")).get("user_id") if query else None
        return Address(None, workspace=name, owner=owner[0] if owner else None)
    for begins, curated in _COLLECTIONS:
        if path.startswith(begins):
            slug, slash, rest = path[len(begins) :].partition("/")
            if slug and slash and rest in ("mcp", "mcp/"):
                return Address(slug, curated)
    return None


class Handler:
    def __init__(
        self,
        authenticator: Authenticator,
        router: Router,
        sessions: LegacySessions,
        streams: Streams,
        visits: Visits,
    ) -> None:
        self._authenticator = authenticator
        self._router = router
        self._streams = streams
        self._sessions = sessions
        self._visits = visits

    async def handle(
        self,
        method: str,
        address: Address,
        raw_headers: RawHeaders,
        body: bytes,
        receive: Receive | None,
        client: Callable[[], str],
    ) -> Answer:
        """Answer one exchange.

        Args:
            client: finds the client's address, which only callers without a credential are counted by.

        Raises:
            Unauthenticated: no good credential.
            ClientGone: nobody is left to answer.
        """
        try:
            principal = await self.identify(address, raw_headers, client)
        except TooManyVisits as error:
            return too_many(body, error)
        answer = await self.answer(principal, method, address, raw_headers, body, receive)
        if principal.place is not None and answer.stream is not None:
            answer.stream = self._visits.staying(client(), answer.stream)
        return answer

    async def answer(
        self,
        principal: Principal,
        method: str,
        address: Address,
        raw_headers: RawHeaders,
        body: bytes,
        receive: Receive | None,
    ) -> Answer:
        """Answer one exchange of a known caller. Raises `ClientGone`."""
        view = self._view(principal, address)
        if view is None:
            what = "workspace" if address.workspace else "set" if address.curated else "server"
            name = address.workspace or address.slug
            missing = ProtocolError(protocol.INVALID_REQUEST, f"There is no {what} {name!r} here.", status=404)
            return _refused(b"", missing, modern=True)
        given = headers.read(raw_headers)
        modern = given.version is not None and given.version not in _LEGACY
        if method != "POST":
            return await self._other_method(method, principal, view, given, receive, modern=modern)
        identifier = b""
        try:
            message = envelope.parse(body)
            identifier = bytes(message.id)
            if modern:
                return await self._modern(principal, view, message, given, receive, len(body))
            return await self._legacy(principal, view, message, given, receive, len(body))
        except ProtocolError as error:
            if error.code != protocol.INVALID_REQUEST or not batch.is_batch(body):
                return _refused(identifier, error, modern=modern)
        try:
            return await self._batch(principal, view, body, given, modern=modern)
        except ProtocolError as error:
            return _refused(b"", error, modern=modern)

    def serves(self, principal: Principal, address: Address) -> bool:
        """Whether there is something at this address for this caller."""
        return self._view(principal, address) is not None

    def _view(self, principal: Principal, address: Address) -> View | None:
        catalog = self._router.catalog.of(principal.org_id)
        if address.workspace is None:
            return catalog.view(address.slug, principal, curated=address.curated)
        slug = catalog.workspace(address.owner or principal.user_id, address.workspace)
        return None if slug is None else catalog.view(slug, principal)

    async def identify(self, address: Address, raw_headers: RawHeaders, client: Callable[[], str]) -> Principal:
        """Who is calling. Only a request without any credential is a visit; a wrong one is never taken for none.

        Raises:
            Unauthenticated: no good credential.
            TooManyVisits: too many without one.
        """
        path = address.path
        principal = self._authenticator.cached(raw_headers, path)
        if principal is not None:
            return principal
        try:
            return await self._authenticator.authenticate(raw_headers, path)
        except CredentialMissing:
            visitor = self._router.catalog.visitor(address.place)
            if visitor is None:
                raise
        self._visits.count(client())
        return visitor

    # -- modern era

    async def _modern(
        self, principal: Principal, view: View, message: Message, given: McpHeaders, receive: Receive | None, size: int
    ) -> Answer:
        if given.version not in _MODERN:
            raise _unsupported((given.version or b"").decode("latin-1"))
        if not message.is_request:
            if message.method:
                return Answer(status=202)
            raise ProtocolError(protocol.INVALID_REQUEST, "Answers are not posted in this revision.", status=400)
        params = params_of(message)
        meta = _meta_of(params)
        if meta.version != given.version.decode("latin-1"):
            raise ProtocolError(
                protocol.HEADER_MISMATCH, "MCP-Protocol-Version must equal the version in _meta.", status=400
            )
        named_by = protocol.NAMED_BY.get(message.method)
        headers.check_mirrors(given, message.method, text_param(params, named_by) if named_by else None)
        if meta.log_level is not None and meta.log_level not in LEVELS:
            raise ProtocolError(
                protocol.INVALID_PARAMS, f"{protocol.META_LOG_LEVEL} must be one of {', '.join(LEVELS)}."
            )
        capabilities = bytes(meta.capabilities)
        request = Request(
            principal, view, message, params, True, None, given, capabilities, receive, size, meta.log_level
        )
        return await self._router.handle(request)

    # -- legacy era

    async def _legacy(
        self, principal: Principal, view: View, message: Message, given: McpHeaders, receive: Receive | None, size: int
    ) -> Answer:
        if message.method == "initialize" and message.is_request:
            return self._initialize(principal, view, message)
        session = await self._session(principal, given, message)
        if not message.is_request:
            await self._hear(principal, view, session, message)
            return Answer(status=202)
        answer = await self._ask(principal, view, session, message, given, receive, size)
        if answer.stream is not None and not answer.large:
            answer.stream = session.replay.record(answer.stream)
        elif answer.before:
            answer.before = session.replay.keep(answer.before, answer.body)
        return answer

    async def _ask(
        self,
        principal: Principal,
        view: View,
        session: LegacySession,
        message: Message,
        given: McpHeaders,
        receive: Receive | None,
        size: int,
    ) -> Answer:
        params = params_of(message)
        object_param(params, "_meta")
        capabilities = session.capabilities
        level = session.log_level
        request = Request(principal, view, message, params, False, session, given, capabilities, receive, size, level)
        session.arrive(request.id)
        try:
            return await self._router.handle(request)
        finally:
            session.answered(request.id)

    async def _batch(self, principal: Principal, view: View, body: bytes, given: McpHeaders, *, modern: bool) -> Answer:
        session = None if modern else await self._session(principal, given, Message())
        if session is None or session.version != batch.VERSION:
            raise ProtocolError(
                protocol.INVALID_REQUEST,
                f"Only revision {batch.VERSION} has batches: send each message by itself.",
                status=400,
            )
        works: list[batch.Work] = []
        for item in batch.split(body):
            identifier = b""
            try:
                message = envelope.parse(item)
                identifier = bytes(message.id)
                if message.method == "initialize":
                    raise ProtocolError(protocol.INVALID_REQUEST, "initialize cannot be part of a batch.")
                if message.is_request:
                    # Nobody can tell from the connection which of the requests a client has given up.
                    ask = partial(self._ask, principal, view, session, message, given, None, len(item))
                    works.append((identifier, ask))
                else:
                    await self._hear(principal, view, session, message)
            except ProtocolError as error:
                works.append((identifier, partial(_ready, _refused(identifier, error, modern=False))))
        return Answer(stream=session.replay.record(batch.answers(works))) if works else Answer(status=202)

    def _initialize(self, principal: Principal, view: View, message: Message) -> Answer:
        params = params_of(message)
        wanted = text_param(params, "protocolVersion")
        version = wanted if wanted in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        declared = encode(object_param(params, "capabilities"))
        if len(declared) > MAX_CAPABILITIES:
            raise ProtocolError(protocol.INVALID_PARAMS, f"capabilities are larger than {MAX_CAPABILITIES} bytes.")
        opened = self._sessions.open(principal, version, declared)
        return Answer(
            body=envelope.result(bytes(message.id), initialize_result(view, version)),
            headers=((b"mcp-session-id", opened.encode()),),
        )

    async def _session(self, principal: Principal, given: McpHeaders, message: Message) -> LegacySession:
        if given.session_id is None:
            if protocol.META_VERSION.encode() in bytes(message.params):
                raise ProtocolError(
                    protocol.HEADER_MISMATCH,
                    "A request with a version in _meta needs MCP-Protocol-Version.",
                    status=400,
                )
            raise ProtocolError(
                protocol.INVALID_REQUEST,
                "Mcp-Session-Id is missing: send initialize first, then its session id with every message.",
                status=400,
            )
        identifier = given.session_id.decode("latin-1")
        # In memory as a rule; only the first request that a process sees of a session waits for anything.
        session = self._sessions.find(principal, identifier) or await self._sessions.recall(principal, identifier)
        if session is None:
            raise ProtocolError(protocol.INVALID_REQUEST, "Session not found: send initialize again.", status=404)
        return session

    async def _hear(self, principal: Principal, view: View, session: LegacySession, message: Message) -> None:
        """Take a notification, or the answer to a request that was sent to the client."""
        if message.is_answer:
            session.hear(message)
        elif message.method == "notifications/cancelled":
            session.give_up(bytes(params_of(message).get("requestId", envelope.ABSENT)))
        elif message.method == ROOTS_CHANGED:
            await self._router.roots_changed(principal, view, session, params_of(message))

    async def _other_method(
        self, method: str, principal: Principal, view: View, given: McpHeaders, receive: Receive | None, *, modern: bool
    ) -> Answer:
        if modern or method not in ("GET", "DELETE"):
            return Answer(status=405, headers=_ALLOW_POST)
        try:
            session = await self._session(principal, given, Message())
        except ProtocolError as error:
            return _refused(b"", error, modern=False)
        if method == "DELETE":
            self._sessions.end(session)
            return Answer(status=204)
        again = session.replay.resume(given.last_event_id) if given.last_event_id else None
        try:
            if again is not None:
                return Answer(stream=self._streams.open(principal, receive, again, session))
            return self._router.listen(principal, view, session, receive)
        except TooManyStreams as error:
            return _refused(b"", error, modern=False)


async def _ready(answer: Answer) -> Answer:
    return answer


def _meta_of(params: Params) -> Meta:
    raw = params.get("_meta")
    try:
        meta = _decode_meta(raw) if raw is not None else Meta()
    except UNREADABLE:
        meta = Meta()
    if not meta.version or bytes(meta.capabilities)[:1] != b"{":
        raise ProtocolError(
            protocol.INVALID_PARAMS,
            f"params._meta must have {protocol.META_VERSION} and {protocol.META_CAPABILITIES}.",
            status=400,
        )
    return meta


def _unsupported(requested: str) -> ProtocolError:
    supported = list(protocol.MODERN_VERSIONS)
    return ProtocolError(
        protocol.UNSUPPORTED_VERSION,
        "Unsupported protocol version",
        data={"supported": supported, "requested": requested},
        status=400,
    )


def too_many(body: bytes, error: TooManyVisits) -> Answer:
    """The answer to a caller without a credential who comes too often."""
    try:
        identifier = bytes(envelope.parse(body).id)
    except ProtocolError:
        identifier = b""
    answer = Answer(status=200 if identifier else 429, body=envelope.error(identifier, error))
    answer.headers = ((b"retry-after", b"%d" % error.retry_after),)
    return answer


def _refused(identifier: bytes, error: ProtocolError, *, modern: bool) -> Answer:
    by_code = protocol.HTTP_STATUS.get(error.code, 200) if modern else 200
    step_up = error.scope if isinstance(error, ScopeMissing) else None
    return Answer(status=error.status or by_code, body=envelope.error(identifier, error), step_up=step_up)
