"""`requestState` of calls that wait for input: sealed for its caller and its call, so that nobody else can use it.

What a server sent as state (or what this process parked) is inside; it opens only for the same principal, server,
method and name, and only for a while. Source: specification 2026-07-28, basic/patterns/mrtr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import protocol, sse, translate
from gateway.mcp.envelope import Message, Params, ProtocolError, decode_message, decode_params, decode_text, encode
from gateway.mcp.parking import PARKED
from gateway.mcp.upstream.pool import ConnectionFailed
from gateway.mcp.upstream.port import OutcomeUnknown
from registry.core.security import SealBroken, Sealer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.mcp.upstream.port import Answer, Outgoing
    from registry.core.clock import Clock

LIFETIME_SECONDS = 600
MARK = b'"input_required"'
_ASKING = (MARK, b'"inputRequests"', b'"requestState"')
HEAD = 64 * 1024
"""Bytes of a large answer in which it shows whether it asks for something: an answer that does has little else."""
MOST_ASKED = 4 * 1024 * 1024
"""Largest answer that asks for something: as much as a client could send back."""


class _State(msgspec.Struct, array_like=True):
    expires: float
    state: str


class RequestStates:
    """Seals and opens request states."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    def open(self, outgoing: Outgoing, server_id: str) -> None:
        """Put the server's own state back into a modern client's retry.

        Raises:
            ProtocolError: the state was altered, is another caller's or call's, or is too old.
        """
        raw = outgoing.params.get("requestState")
        if raw is None or not outgoing.modern:
            return
        try:
            state = msgspec.json.decode(self._sealer.open(decode_text(raw), _place(outgoing, server_id)), type=_State)
        except (SealBroken, msgspec.DecodeError):
            raise ProtocolError(protocol.INVALID_PARAMS, "requestState is not valid for this call.") from None
        if state.expires < self._clock.now().timestamp():
            raise ProtocolError(protocol.INVALID_PARAMS, "requestState has expired: call again without it.")
        outgoing.params = {**outgoing.params, "requestState": msgspec.Raw(encode(state.state))}

    def seal(self, answer: Answer, outgoing: Outgoing, server_id: str) -> None:
        """Seal the state in an answer to a modern client, if it asks for input, and say which server asks."""
        if not outgoing.modern:
            return
        if answer.stream is not None and not answer.large:
            answer.stream = self._sealed_events(answer.stream, outgoing, server_id)
        elif MARK in answer.body:
            answer.body = self._sealed(decode_message(answer.body), outgoing, server_id) or answer.body

    async def hold(self, answer: Answer, outgoing: Outgoing, server: str) -> None:
        """Make a large answer a whole one if it asks a modern client for input, so that it can be sealed.

        Args:
            server: its slug.

        Raises:
            OutcomeUnknown: it is too large for that, or its connection was lost.
        """
        stream = answer.stream
        if not outgoing.modern or not answer.large or stream is None:
            return
        head = await _read(stream, HEAD, server)
        if not any(word in head for word in _ASKING):
            answer.stream = _joined(head, stream)
            return
        body = head + await _read(stream, MOST_ASKED - len(head), server)
        await translate.close(stream)
        if len(body) > MOST_ASKED:
            raise OutcomeUnknown(server, f"what it asks its client for is larger than {MOST_ASKED} bytes")
        answer.body, answer.stream, answer.large = body, None, False

    async def _sealed_events(
        self, stream: AsyncIterator[bytes], outgoing: Outgoing, server_id: str
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in stream:
                yield chunk if MARK not in chunk else self._sealed_chunk(chunk, outgoing, server_id)
        finally:
            await translate.close(stream)

    def _sealed_chunk(self, chunk: bytes, outgoing: Outgoing, server_id: str) -> bytes:
        out: list[bytes] = []
        for event in sse.Splitter().feed(chunk):
            data = sse.data_of(event)
            message = self._sealed(decode_message(data), outgoing, server_id) if MARK in data else None
            out.append(event if message is None else sse.frame(message))
        return b"".join(out)

    def _sealed(self, message: Message, outgoing: Outgoing, server_id: str) -> bytes | None:
        """The message as its client gets it; `None` if it asks for nothing."""
        if message.method or not bytes(message.result):
            return None
        result: Params = decode_params(message.result)
        if bytes(result.get("resultType", b"")) != MARK:
            return None
        state = decode_text(result["requestState"]) if "requestState" in result else None
        if outgoing.origin is not None and "inputRequests" in result and not (state or "").startswith(PARKED):
            # What is parked was asked by this gateway, which has said who asks.
            result["inputRequests"] = _named(result["inputRequests"], outgoing.origin)
        if state is not None:
            inner = _State(self._clock.now().timestamp() + LIFETIME_SECONDS, state)
            sealed = self._sealer.seal(msgspec.json.encode(inner), _place(outgoing, server_id))
            result["requestState"] = msgspec.Raw(encode(sealed))
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(message.id), encode(result))


async def _read(stream: AsyncIterator[bytes], most: int, server: str) -> bytes:
    """The stream's next pieces, until there are more than so many bytes, or it has ended."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
    except ConnectionFailed as error:
        raise OutcomeUnknown(server, str(error)) from None
    except BaseException:
        await translate.close(stream)
        raise
    return b"".join(pieces)


async def _joined(head: bytes, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield head
        async for piece in stream:
            yield piece
    finally:
        await translate.close(stream)


def _named(raw: msgspec.Raw, origin: str) -> msgspec.Raw:
    """Requests for input, with the server's name where people read it."""
    requests = decode_params(raw)
    for key, each in requests.items():
        asked = decode_params(each)
        if "method" in asked and "params" in asked:
            method, params = decode_text(asked["method"]), decode_params(asked["params"])
            asked["params"] = msgspec.Raw(encode(translate.with_origin(method, params, origin)))
            requests[key] = msgspec.Raw(encode(asked))
    return msgspec.Raw(encode(requests))


def _place(outgoing: Outgoing, server_id: str) -> str:
    return f"{outgoing.principal.subject}|{server_id}|{outgoing.method}|{outgoing.name}"
