"""The MCP endpoint as a bare ASGI callable: reads the body, writes the answer, and nothing else.

It stands in front of everything else, without middleware. What an exchange means is `gateway.mcp.handler`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import structlog

from gateway.auth.credentials import CredentialMissing
from gateway.cycle import SHORT
from gateway.fields import once_per_head
from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.flights import ClientGone
from gateway.mcp.upstream.port import Answer
from registry.core.errors import Forbidden, GatehouseError, Unauthenticated

if TYPE_CHECKING:
    from gateway.cycle import Cycle
    from gateway.mcp.headers import RawHeaders

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
_JSON = ((b"content-type", b"application/json"), *_SAFE)
_EVENTS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)


class Exchanges(Protocol[A_contra]):
    """What exchanges with one kind of address mean: `handler.Handler`, `sse_clients.SseClients`."""

    async def handle(
        self,
        method: str,
        address: A_contra,
        raw_headers: RawHeaders,
        body: bytes,
        receive: Receive | None,
        client: Callable[[], str],
    ) -> Answer: ...


class McpEndpoint(Generic[A]):
    """Answers exchanges with an MCP address.

    Args:
        hosts: which `Host` and `Origin` are answered.
        max_body_bytes: larger requests are answered 413, unread.
        client_of: the client's address.
        challenges: tells clients how to get a token.
    """

    def __init__(
        self,
        handler: Exchanges[A],
        hosts: Hosts,
        max_body_bytes: int,
        client_of: Callable[[Scope], str],
        challenges: Challenges,
    ) -> None:
        self._handler = handler
        self._hosts = hosts
        self._guard = once_per_head(self._judge)
        self._max_body_bytes = max_body_bytes
        self._client_of = client_of
        self._challenges = challenges

    async def serve(self, address: A, scope: Scope, receive: Receive, send: Send) -> None:
        identifier = b""
        short: Cycle | None = scope.get(SHORT)
        try:
            self._guard(scope["headers"])
            body = short.taken() if short is not None else None
            if body is None:
                body = await self._body(scope, receive)
            elif len(body) > self._max_body_bytes:
                raise _TooLarge(more=False)
            client = partial(self._client_of, scope)
            answer = await self._handler.handle(scope["method"], address, scope["headers"], body, receive, client)
        except ClientGone:
            answer = Answer(status=202)
        except Unauthenticated as error:
            invalid = not isinstance(error, CredentialMissing)
            answer = _unauthenticated(error, self._challenges.sign_in(scope, invalid=invalid))
        except _TooLarge as error:
            failure = ProtocolError(
                protocol.INVALID_REQUEST, f"The body is larger than {self._max_body_bytes} bytes.", status=413
            )
            answer = Answer(status=413, body=envelope.error(identifier, failure), headers=((b"connection", b"close"),))
            if error.more:
                await self._drain(receive)
        except GatehouseError as error:
            answer = _failed(error)
        except Exception:
            log.exception("an MCP exchange failed")
            failure = ProtocolError(protocol.INTERNAL_ERROR, "The gateway failed to answer; the failure was logged.")
            answer = Answer(status=200, body=envelope.error(identifier, failure))
        if answer.before:
            answer.body = answer.before + sse.frame(answer.body)
        if answer.step_up is not None:
            answer.headers += ((b"www-authenticate", self._challenges.step_up(scope, answer.step_up)),)
        if short is None or answer.stream is not None or not short.respond(answer.status, _head(answer), answer.body):
            await _write(answer, send)

    def _judge(self, headers: RawHeaders) -> None:
        fields = dict(headers)
        host, origin = fields.get(b"host"), fields.get(b"origin")
        if len(fields) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
            raise HostRefused("The request must have exactly one Host header.")
        if host is None or not self._hosts.admits_host(host):
            raise HostRefused("This Host is not answered here: add it to GATEHOUSE_ALLOWED_HOSTS.")
        if origin is not None and not self._hosts.admits_origin(origin, host):
            raise HostRefused("Requests of this Origin are not answered: add it to GATEHOUSE_ALLOWED_HOSTS.")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > self._max_body_bytes):
                raise _TooLarge(more=True)
        message = await receive()
        body: bytes = message.get("body", b"")
        if len(body) > self._max_body_bytes:
            raise _TooLarge(more=bool(message.get("more_body")))
        if not message.get("more_body"):
            return body
        pieces, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._max_body_bytes:
                raise _TooLarge(more=bool(message.get("more_body")))
            pieces.append(piece)
        return b"".join(pieces)

    async def _drain(self, receive: Receive) -> None:
        """Read on for a while: a connection closed with bytes unread is reset, and the answer lost with it."""
        left = 4 * self._max_body_bytes
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return


class _TooLarge(Exception):
    """The body is larger than allowed.

    Args:
        more: some of it has not been read.
    """

    def __init__(self, *, more: bool) -> None:
        super().__init__("too large")
        self.more = more


class HostRefused(Forbidden):
    """The defence against DNS rebinding and cross-site requests, as on the REST façade."""

    code = "HOST_NOT_ALLOWED"


class Hosts(Protocol):
    def admits_host(self, host: bytes) -> bool: ...

    def admits_origin(self, origin: bytes, host: bytes) -> bool: ...


class Challenges(Protocol):
    """Makes the values of `WWW-Authenticate`: `gateway.auth.challenge`."""

    def sign_in(self, scope: Scope, *, invalid: bool) -> bytes: ...

    def step_up(self, scope: Scope, wanted: str) -> bytes: ...


def _unauthenticated(error: Unauthenticated, challenge: bytes) -> Answer:
    failure = ProtocolError(
        protocol.INVALID_REQUEST, error.message, data={"code": error.code, **error.details}, status=401
    )
    return Answer(status=401, body=envelope.error(b"", failure), headers=((b"www-authenticate", challenge),))


def _failed(error: GatehouseError) -> Answer:
    failure = ProtocolError(protocol.INVALID_REQUEST, error.message, data={"code": error.code, **error.details})
    return Answer(status=error.status, body=envelope.error(b"", failure))


def _head(answer: Answer) -> tuple[tuple[bytes, bytes], ...]:
    common = _EVENTS if answer.before else _JSON if answer.body else _SAFE
    return common + answer.headers if answer.headers else common


async def _write(answer: Answer, send: Send) -> None:
    if answer.stream is None:
        body = answer.body
        headers = [*_head(answer), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    headers = [*(_JSON if answer.large else _EVENTS), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await _write_stream(answer.stream, answer, send)


async def _write_stream(stream: AsyncIterator[bytes], answer: Answer, send: Send) -> None:
    try:
        async for chunk in stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except ClientGone:
        # It may only have withdrawn its request, and still be there to see the end of the answer.
        pass
    except ProtocolError as error:
        if answer.large:
            # Half a body has gone out: only breaking the connection tells the client that it is not whole.
            raise
        failure = sse.frame(envelope.error(answer.id, error))
        await send({"type": "http.response.body", "body": failure, "more_body": True})
    finally:
        await translate.close(stream)
    await send({"type": "http.response.body", "body": b""})
