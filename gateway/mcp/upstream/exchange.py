"""One HTTP exchange with a server: request out, answer back, whatever form it comes in.

What `modern_http` and `legacy_http` have in common; it knows neither sessions nor eras. Same-era answers pass as the
bytes they are; a `Rewrite` changes the others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import protocol, sse, translate
from gateway.mcp.envelope import UNREADABLE, Message, decode_message
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed, Pool, Response
from gateway.mcp.upstream.port import Answer, CredentialsRefused, NotSent, OutcomeUnknown
from registry.core.egress import EgressRefused, EgressTimeout, EgressUnreachable, HeaderInvalid, vet_url
from registry.core.version import VERSION

if TYPE_CHECKING:
    from gateway.mcp.upstream.pool import Dialer
    from registry.servers.connection import Connection

LIST_CHANGED = b"/list_changed"
_NO_NOTICE = (b'"id"', b'"result"', b'"error"', LIST_CHANGED)
"""What a notification that is simply passed on has not; an answer may disguise its id."""
MAX_WHOLE = 64 * 1024 * 1024
"""Largest answer that is collected where it must be read whole."""


class HttpExchange:
    """Exchanges with one server.

    Args:
        connection: its URL is vetted here.
    """

    def __init__(self, connection: Connection, egress: Dialer) -> None:
        assert connection.url is not None
        target = vet_url(connection.url)
        self.slug = connection.slug
        self.pool = Pool(egress, target, connection.deadlines.connect)
        path = target.path + (f"?{target.query}" if target.query else "")
        self._common = _head(path, target.authority, connection.headers)

    async def send(self, method: str, head: bytes, body: bytes) -> Response:
        """Send one request.

        Args:
            head: header lines beside those that every request has.

        Raises:
            NotSent, OutcomeUnknown: no response came.
        """
        whole = b"%b %b%bcontent-length: %d\r\n\r\n" % (method.encode(), self._common, head, len(body))
        try:
            response = await self.pool.send(whole, body)
        except ConnectionFailed as error:
            raise (OutcomeUnknown if error.sent else NotSent)(self.slug, str(error)) from None
        except (EgressRefused, EgressUnreachable, EgressTimeout) as error:
            raise NotSent(self.slug, error.message, blames=not isinstance(error, EgressRefused)) from None
        if response.encoding not in (b"", b"identity"):
            await self._refuse_encoding(response)
        return response

    async def _refuse_encoding(self, response: Response) -> None:
        """An encoded body can neither be read nor passed on; what an error's status says is enough without it."""
        await discard(response)
        if response.status < 400:
            raise OutcomeUnknown(self.slug, "it encoded its answer, although it was asked not to")
        response.body, response.stream, response.content_type = b"", None, b""

    async def close(self) -> None:
        await self.pool.close()

    async def answer(
        self, response: Response, identifier: bytes, rewrite: translate.Rewrite | None, *, modern: bool
    ) -> Answer | None:
        """The answer that came as JSON, or in an event stream with nothing to wait for; `None` if it is yet to come.

        Args:
            identifier: of the request, as the server was given it.
            modern: the client's era, which decides the HTTP status.
        """
        if is_events(response):
            return _come_whole(response, identifier, rewrite, modern=modern)
        if not response.content_type.startswith(b"application/json"):
            await discard(response)
            raise self.refusal(response)
        if response.stream is not None and rewrite is None and response.status == 200:
            return Answer(stream=response.stream, large=True, size=response.length)
        message = await self.whole(response, identifier)
        answer = Answer()
        answer.judge(message)
        if rewrite is not None:
            answer.body = rewrite(message)
        else:
            answer.body = response.body or translate.with_id(identifier)(message)
        if modern and answer.error_code is not None:
            answer.status = protocol.HTTP_STATUS.get(answer.error_code, 200)
        return answer

    async def whole(self, response: Response, identifier: bytes) -> Message:
        """The answer's message, read whole whatever form it comes in."""
        if response.challenge and response.status in (401, 403):
            # Whatever it says beside that: it wants other credentials.
            await discard(response)
            raise self.refusal(response)
        try:
            if response.stream is None:
                data = response.body
            elif is_events(response):
                return await self._first_answer(response.stream, identifier)
            else:
                data = await _collect(response.stream)
            message = decode_message(data)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self.slug, str(error)) from None
        except (*UNREADABLE, RecursionError):
            raise self.refusal(response) from None
        if not message.is_answer:
            raise OutcomeUnknown(self.slug, "its answer has neither a result nor an error")
        if not same_id(bytes(message.id), identifier):
            if response.status >= 400:
                if message.jsonrpc == "2.0" and bytes(message.error):
                    # Errors about the request as a whole may come without its id.
                    return message
                raise self.refusal(response)
            raise OutcomeUnknown(self.slug, "it answered another request than the one it was sent")
        return message

    async def _first_answer(self, stream: BodyStream, identifier: bytes) -> Message:
        splitter = sse.Splitter()
        try:
            async for chunk in stream:
                for event in splitter.feed(chunk):
                    if (found := answer_in(event, identifier)) is not None:
                        stream.leave()
                        return found
        except BaseException:
            await stream.aclose()
            raise
        raise OutcomeUnknown(self.slug, "the stream ended without an answer")

    def refusal(self, response: Response) -> NotSent | OutcomeUnknown:
        """What a response that is no MCP message means."""
        if response.status in (401, 403):
            return CredentialsRefused(self.slug, response.status, response.challenge)
        if response.status in (404, 405, 406, 415, 421, 429, 503):
            why = f"it did not take the request (HTTP {response.status})"
            return NotSent(self.slug, why, blames=response.status == 503)
        return OutcomeUnknown(self.slug, f"it answered HTTP {response.status} without an MCP message")


def is_events(response: Response) -> bool:
    return response.content_type.startswith(b"text/event-stream") and response.stream is not None


def same_id(given: bytes, wanted: bytes) -> bool:
    if given == wanted:
        return True
    with suppress(*UNREADABLE):
        one, other = msgspec.json.decode(given), msgspec.json.decode(wanted)
        return type(one) is type(other) and one == other
    return False


def answer_in(event: bytes, identifier: bytes) -> Message | None:
    """The message in an event, if it is the answer to that request."""
    message = answered_in(event)
    return message if message is not None and same_id(bytes(message.id), identifier) else None


def answered_in(event: bytes) -> Message | None:
    """The message in an event, if it is the answer to any request."""
    if b'"result"' not in event and b'"error"' not in event:
        return None
    with suppress(*UNREADABLE, RecursionError):
        message = decode_message(sse.data_of(event))
        if message.is_answer:
            return message
    return None


def notice_in(event: bytes) -> bool:
    """Whether an event may be passed on as it is: neither a request of the server's nor another request's answer."""
    if b'"id"' not in event:
        return True
    with suppress(*UNREADABLE, RecursionError):
        return not bytes(decode_message(sse.data_of(event)).id)
    return False


async def announced(stream: AsyncIterator[bytes]) -> AsyncGenerator[Message]:
    """The notifications on a stream that the server keeps open."""
    splitter = sse.Splitter()
    try:
        async for chunk in stream:
            for event in splitter.feed(chunk):
                with suppress(*UNREADABLE, RecursionError):
                    message = decode_message(sse.data_of(event) or b"{}")
                    if message.method and not bytes(message.id):
                        yield message
    except (ConnectionFailed, sse.EventTooLarge):
        return
    finally:
        await translate.close(stream)


def _come_whole(
    response: Response, identifier: bytes, rewrite: translate.Rewrite | None, *, modern: bool
) -> Answer | None:
    """The answer of an event stream that has ended, with the notifications ahead of it, if there is nothing else.

    Passing on a stream is much more work than passing on what is known already.
    """
    data = response.stream.whole() if response.stream is not None else None
    events = sse.events_in(data) if data else None
    if not events:
        return None
    message, before = answer_in(events.pop(), identifier), b"".join(events)
    if message is None or any(mark in before for mark in _NO_NOTICE):
        return None
    if before and modern and rewrite is not None:
        # A legacy server tells more than a modern client may have asked for.
        return None
    answer = Answer(before=before)
    answer.judge(message)
    try:
        answer.body = (rewrite or translate.with_id(identifier))(message)
    except translate.InputRequired:
        return None
    if modern and answer.error_code is not None and not before:
        answer.status = protocol.HTTP_STATUS.get(answer.error_code, 200)
    return answer


async def discard(response: Response) -> None:
    """Be done with a response that nobody reads."""
    if response.stream is not None:
        await translate.close(response.stream)


async def _collect(stream: BodyStream) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in stream:
            size += len(piece)
            if size > MAX_WHOLE:
                raise ConnectionFailed("the answer is too large", sent=True)
            pieces.append(piece)
    finally:
        # Ended early, for whatever reason, it would hold its connection for ever.
        await stream.aclose()
    return b"".join(pieces)


def _head(path: str, authority: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [
        f"{path} HTTP/1.1",
        f"host: {authority}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        f"user-agent: gatehouse/{VERSION}",
    ]
    return ("\r\n".join([*lines, *header_lines(headers)]) + "\r\n").encode()


def header_lines(headers: tuple[tuple[str, str], ...]) -> list[str]:
    """A server's registered headers as they are written.

    Raises:
        HeaderInvalid: one could be read as something else.
    """
    for name, value in headers:
        if any(character in name + value for character in "\r\n\0"):
            raise HeaderInvalid(f"The header {name!r} has a line break: remove it.", field="headers")
    return [f"{name}: {value}" for name, value in headers]
