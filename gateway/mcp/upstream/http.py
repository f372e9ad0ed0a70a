"""Streamable HTTP upstreams of both eras: the fast transport.

A modern server gets each request on its own; a legacy one needs a session, opened once per client session (or once
per principal for modern clients, whose request ids are then replaced). Between the same eras bytes pass unchanged;
`gateway.mcp.translate` does what the eras need of each other.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import Message, decode_message, encode
from gateway.mcp.headers import encode_value
from gateway.mcp.upstream.pool import ConnectionFailed, Pool, Response
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing
from registry.core.egress import EgressRefused, EgressTimeout, EgressUnreachable, HeaderInvalid, vet_url
from registry.core.version import VERSION

if TYPE_CHECKING:
    from registry.core.egress import Egress
    from registry.identity.principal import Principal
    from registry.servers.connection import Connection

MAX_WHOLE = 64 * 1024 * 1024
"""Largest answer that is collected where it must be read whole."""


class HttpUpstream:
    """One server reached over streamable HTTP.

    Args:
        connection: with its era known; the URL has been vetted or is vetted here.
    """

    def __init__(self, connection: Connection, egress: Egress) -> None:
        assert connection.url is not None
        target = vet_url(connection.url)
        self._slug = connection.slug
        self._server_id = connection.server_id
        self._modern = connection.era == "modern"
        self._version = connection.protocol_version or protocol.LATEST_LEGACY
        self._pool = Pool(egress, target, connection.deadlines.connect)
        path = target.path + (f"?{target.query}" if target.query else "")
        self._common = _head(path, target.authority, connection.headers)
        self._shared: dict[str, bytes | None] = {}
        self._opening: dict[object, asyncio.Task[bytes | None]] = {}
        self._ids = itertools.count(1)
        self._background: set[asyncio.Task[None]] = set()

    async def request(self, outgoing: Outgoing) -> Answer:
        if self._modern:
            return await self._request_modern(outgoing)
        try:
            return await self._request_legacy(outgoing)
        except _SessionGone:
            self._forget_session(outgoing)
            return await self._request_legacy(outgoing)

    async def notify(self, outgoing: Outgoing) -> None:
        if self._modern:
            return
        session_id = await self._session(outgoing)
        body = envelope.notification(outgoing.method, outgoing.params)
        with suppress(NotSent, OutcomeUnknown):
            await _discard(await self._send("POST", self._legacy_head(session_id), body))

    async def end_session(self, session_id: bytes) -> None:
        """Tell a legacy server that a session is over."""
        with suppress(NotSent, OutcomeUnknown):
            await _discard(await self._send("DELETE", self._legacy_head(session_id), b""))

    async def close(self) -> None:
        for task in (*self._background, *self._opening.values()):
            task.cancel()
        await self._pool.close()

    # -- modern servers

    async def _request_modern(self, outgoing: Outgoing) -> Answer:
        params = outgoing.params if outgoing.modern else translate.stamp(outgoing.params, outgoing.capabilities)
        head = b"mcp-protocol-version: 2026-07-28\r\nmcp-method: " + outgoing.method.encode() + b"\r\n"
        if outgoing.name is not None:
            head += b"mcp-name: " + encode_value(outgoing.name).encode() + b"\r\n"
        body = envelope.request(outgoing.id, outgoing.method, params)
        response = await self._send("POST", head + outgoing.param_headers, body)
        rewrite = None if outgoing.modern else translate.to_legacy(outgoing.id)
        return await self._answer(response, outgoing, outgoing.id, rewrite)

    # -- legacy servers

    async def _request_legacy(self, outgoing: Outgoing) -> Answer:
        session_id = await self._session(outgoing)
        identifier, params, rewrite = outgoing.id, outgoing.params, None
        if outgoing.modern:
            # Clients that share a session may use the same id at the same time.
            identifier = b"%d" % next(self._ids)
            params = translate.unstamp(params)
            rewrite = translate.to_modern(outgoing.method, outgoing.id)
        body = envelope.request(identifier, outgoing.method, params)
        abandon = lambda: self._later(self._cancel(session_id, identifier))  # noqa: E731
        try:
            response = await self._send("POST", self._legacy_head(session_id), body)
        except asyncio.CancelledError:
            abandon()
            raise
        if response.status == 404 and session_id is not None:
            await _discard(response)
            raise _SessionGone
        return await self._answer(response, outgoing, identifier, rewrite, abandon)

    async def _session(self, outgoing: Outgoing) -> bytes | None:
        known = outgoing.session.upstream_ids if outgoing.session is not None else self._shared
        key = self._server_id if outgoing.session is not None else outgoing.principal.subject
        if key in known:
            return known[key]
        place = (id(known), key)
        task = self._opening.get(place)
        if task is None:
            task = self._opening[place] = asyncio.create_task(self._open_session())

            def opened(_: object) -> None:
                self._opening.pop(place, None)

            task.add_done_callback(opened)
        session_id = known[key] = await asyncio.shield(task)
        return session_id

    def _forget_session(self, outgoing: Outgoing) -> None:
        if outgoing.session is not None:
            outgoing.session.upstream_ids.pop(self._server_id, None)
        else:
            self._shared.pop(outgoing.principal.subject, None)

    async def introduce(self, principal: Principal) -> Message:
        """Open the session for this principal's modern requests; gives the server's `initialize` answer."""
        session_id, message = await self._initialize()
        self._shared[principal.subject] = session_id
        return message

    async def _open_session(self) -> bytes | None:
        session_id, _ = await self._initialize()
        return session_id

    async def _initialize(self) -> tuple[bytes | None, Message]:
        params = {"protocolVersion": self._version, "capabilities": {}, "clientInfo": translate.CLIENT}
        body = envelope.request(
            b"0", "initialize", {name: msgspec.Raw(encode(value)) for name, value in params.items()}
        )
        response = await self._send("POST", b"", body)
        message = await self._whole(response, b"0")
        if bytes(message.error) or not bytes(message.result):
            raise NotSent(self._slug, "it refused to open a session")
        session_id = response.session_id
        self._version = _negotiated(message) or self._version
        await _discard(
            await self._send("POST", self._legacy_head(session_id), envelope.notification("notifications/initialized"))
        )
        return session_id, message

    def _legacy_head(self, session_id: bytes | None) -> bytes:
        head = b"mcp-protocol-version: " + self._version.encode() + b"\r\n"
        return head if session_id is None else head + b"mcp-session-id: " + session_id + b"\r\n"

    async def _cancel(self, session_id: bytes | None, identifier: bytes) -> None:
        params = {"requestId": msgspec.Raw(identifier), "reason": "the client gave up"}
        body = envelope.notification("notifications/cancelled", params)
        with suppress(NotSent, OutcomeUnknown):
            await _discard(await self._send("POST", self._legacy_head(session_id), body))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- both

    async def _send(self, method: str, head: bytes, body: bytes) -> Response:
        whole = b"%b %b%bcontent-length: %d\r\n\r\n" % (method.encode(), self._common, head, len(body))
        try:
            return await self._pool.send(whole, body)
        except ConnectionFailed as error:
            raise (OutcomeUnknown if error.sent else NotSent)(self._slug, str(error)) from None
        except (EgressRefused, EgressUnreachable, EgressTimeout) as error:
            raise NotSent(self._slug, error.message) from None

    async def _answer(
        self,
        response: Response,
        outgoing: Outgoing,
        identifier: bytes,
        rewrite: translate.Rewrite | None,
        abandon: Callable[[], None] | None = None,
    ) -> Answer:
        kind = response.content_type
        if kind.startswith(b"text/event-stream") and response.stream is not None:
            answer = Answer()
            answer.stream = self._events(response.stream, answer, identifier, rewrite, abandon)
            return answer
        if not kind.startswith(b"application/json"):
            await _discard(response)
            raise self._refusal(response)
        if response.stream is not None and rewrite is None and response.status == 200:
            return Answer(stream=response.stream, large=True)
        message = await self._whole(response, identifier)
        answer = Answer(status=response.status if outgoing.modern else 200)
        answer.judge(message)
        answer.body = (
            response.body if rewrite is None and response.body else (rewrite or translate.with_id(identifier))(message)
        )
        if outgoing.modern and answer.error_code is not None:
            answer.status = protocol.HTTP_STATUS.get(answer.error_code, 200)
        return answer

    async def _events(
        self,
        stream: AsyncIterator[bytes],
        answer: Answer,
        identifier: bytes,
        rewrite: translate.Rewrite | None,
        abandon: Callable[[], None] | None,
    ) -> AsyncIterator[bytes]:
        """The events as they come, up to the answer; what a server sends after it is dropped."""
        splitter = sse.Splitter()
        answered = False
        try:
            async for chunk in stream:
                out: list[bytes] = []
                for event in () if answered else splitter.feed(chunk):
                    message = _answer_in(event, identifier)
                    if message is None:
                        out.append(event)
                        continue
                    answer.judge(message)
                    answered = True
                    out.append(event if rewrite is None else sse.frame(rewrite(message)))
                    break
                if out:
                    yield b"".join(out)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            if not answered:
                raise OutcomeUnknown(self._slug, str(error) or "an event was too large") from None
        finally:
            await translate.close(stream)
            if not answered and abandon is not None:
                abandon()
        if not answered:
            raise OutcomeUnknown(self._slug, "the stream ended without an answer")

    async def _whole(self, response: Response, identifier: bytes) -> Message:
        """The answer's message, read whole whatever form it comes in."""
        try:
            if response.stream is None:
                data = response.body
            elif response.content_type.startswith(b"text/event-stream"):
                return await self._first_answer(response.stream, identifier)
            else:
                data = await _collect(response.stream)
            message = decode_message(data)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self._slug, str(error)) from None
        except (msgspec.DecodeError, RecursionError):
            raise self._refusal(response) from None
        if message.method or not _same_id(bytes(message.id), identifier):
            if response.status >= 400 and bytes(message.error):
                # Errors about the request as a whole may come without its id.
                return message
            raise OutcomeUnknown(self._slug, "it answered another request than the one it was sent")
        return message

    async def _first_answer(self, stream: AsyncIterator[bytes], identifier: bytes) -> Message:
        splitter = sse.Splitter()
        found: Message | None = None
        async for chunk in stream:
            for event in splitter.feed(chunk):
                found = found or _answer_in(event, identifier)
        if found is None:
            raise OutcomeUnknown(self._slug, "the stream ended without an answer")
        return found

    def _refusal(self, response: Response) -> NotSent | OutcomeUnknown:
        if response.status in (401, 403):
            return NotSent(self._slug, f"it refused the gateway's credentials (HTTP {response.status})")
        if response.status in (404, 405, 406, 415, 421, 429, 503):
            return NotSent(self._slug, f"it did not take the request (HTTP {response.status})")
        return OutcomeUnknown(self._slug, f"it answered HTTP {response.status} without an MCP message")


class _SessionGone(Exception):
    """A legacy server no longer knows the session: nothing was carried out."""


class _Negotiated(msgspec.Struct):
    protocolVersion: str


def _head(path: str, authority: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [
        f"{path} HTTP/1.1",
        f"host: {authority}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        f"user-agent: gatehouse/{VERSION}",
    ]
    for name, value in headers:
        if any(character in name + value for character in "\r\n\0"):
            raise HeaderInvalid(f"The header {name!r} has a line break: remove it.", field="headers")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _negotiated(message: Message) -> str | None:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(message.result, type=_Negotiated).protocolVersion
    return None


def _same_id(given: bytes, wanted: bytes) -> bool:
    if given == wanted:
        return True
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(given) == msgspec.json.decode(wanted)
    return False


def _answer_in(event: bytes, identifier: bytes) -> Message | None:
    """The message in an event, if it is the answer to that request."""
    if b'"result"' not in event and b'"error"' not in event:
        return None
    with suppress(msgspec.DecodeError, RecursionError):
        message = decode_message(sse.data_of(event))
        if not message.method and _same_id(bytes(message.id), identifier):
            return message
    return None


async def _collect(stream: AsyncIterator[bytes]) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in stream:
        size += len(piece)
        if size > MAX_WHOLE:
            await translate.close(stream)
            raise ConnectionFailed("the answer is too large", sent=True)
        pieces.append(piece)
    return b"".join(pieces)


async def _discard(response: Response) -> None:
    if response.stream is not None:
        await translate.close(response.stream)
