"""Rounds of input: a modern server asks, a legacy client is asked as its era does it, and the call is made again.

What the server wants arrives as an `InputRequired`; the client gets it as requests on its stream, and its answers go
back with the same call. Source: specification 2026-07-28, basic/patterns/mrtr; DESIGN §5.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import Message, Params, ProtocolError, decode_error, decode_params, decode_text, encode
from gateway.mcp.translate import InputRequired
from gateway.mcp.upstream.port import Answer, Outgoing, Upstream

if TYPE_CHECKING:
    from gateway.mcp.session import LegacySession

MOST_ROUNDS = 16


async def request_in_rounds(upstream: Upstream, outgoing: Outgoing, session: LegacySession) -> Answer:
    """A legacy client's request to a server that may ask for input, as often as it asks."""
    try:
        answer = await upstream.request(outgoing)
    except InputRequired as needed:
        asking = Answer(patient=True)
        asking.stream = _rounds(upstream, outgoing, session, needed, asking)
        return asking
    if answer.stream is not None and not answer.large:
        answer.stream = _then_rounds(answer.stream, upstream, outgoing, session, answer)
    return answer


async def _then_rounds(
    stream: AsyncIterator[bytes], upstream: Upstream, outgoing: Outgoing, session: LegacySession, answer: Answer
) -> AsyncIterator[bytes]:
    needed: InputRequired | None = None
    try:
        async for chunk in stream:
            yield chunk
    except InputRequired as error:
        needed = error
    finally:
        await translate.close(stream)
    if needed is not None:
        answer.patient = True
        async for chunk in _rounds(upstream, outgoing, session, needed, answer):
            yield chunk


async def _rounds(
    upstream: Upstream, outgoing: Outgoing, session: LegacySession, needed: InputRequired, answer: Answer
) -> AsyncIterator[bytes]:
    for _ in range(MOST_ROUNDS):
        waiting: dict[str, asyncio.Future[Message]] = {}
        for key, raw in needed.requests.items():
            future = waiting[key] = asyncio.get_running_loop().create_future()
            yield sse.frame(_asked(raw, session.expect(setter(future)), outgoing.origin))
        answers: Params = {}
        for key, future in waiting.items():
            while not future.done():
                await asyncio.wait([future], timeout=sse.KEEP_ALIVE_SECONDS)
                if not future.done():
                    yield sse.KEEP_ALIVE
            answers[key] = _answered(future.result())
        again = replace(outgoing, params=_retried(outgoing.params, answers, needed.state))
        try:
            given = await upstream.request(again)
            async for chunk in events_of(given):
                yield chunk
        except InputRequired as error:
            needed = error
            continue
        answer.outcome, answer.error_code = given.outcome, given.error_code
        return
    raise ProtocolError(protocol.INTERNAL_ERROR, f"The server asked for input more than {MOST_ROUNDS} times.")


async def events_of(answer: Answer) -> AsyncIterator[bytes]:
    """An answer of any form, as events."""
    if answer.stream is None:
        yield answer.before + sse.frame(answer.body)
        return
    if answer.large:
        yield sse.frame(b"".join([piece async for piece in answer.stream]))
        return
    try:
        async for chunk in answer.stream:
            yield chunk
    finally:
        await translate.close(answer.stream)


def setter(future: asyncio.Future[Message]) -> Callable[[Message], None]:
    """Gives an answer to whoever still waits for it."""

    def set_result(message: Message) -> None:
        if not future.done():
            future.set_result(message)

    return set_result


def _asked(raw: msgspec.Raw, identifier: bytes, origin: str | None) -> bytes:
    fields = decode_params(raw)
    params = decode_params(fields["params"]) if "params" in fields else {}
    method = decode_text(fields["method"])
    if bytes(params.get("mode", b"")) == b'"url"' and "elicitationId" not in params:
        # This era tells requests for a visit apart by it.
        params["elicitationId"] = msgspec.Raw(encode(str(uuid.uuid4())))
    return envelope.request(identifier, method, translate.with_origin(method, params, origin))


def _answered(message: Message) -> msgspec.Raw:
    """The client's answer as an input response. A client that cannot or will not answer ends the call."""
    if bytes(message.error):
        error = decode_error(message.error)
        raise ProtocolError(error.code, f"The client did not give the input that was asked for: {error.message}")
    return message.result


def _retried(params: Params, answers: Params, state: msgspec.Raw | None) -> Params:
    again = {**params, "inputResponses": msgspec.Raw(encode(answers))}
    again.pop("requestState", None)
    return again if state is None else {**again, "requestState": state}
