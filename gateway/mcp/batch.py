"""JSON-RPC batches: several messages in one body. Revision 2025-03-26 has them, the others do not.

Requests are answered on one event stream, each as soon as it is done. What the messages mean, `gateway.mcp.handler`
says; nothing of a single message's way is here.
Source: specification 2025-03-26, basic (batching) and basic/transports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import UNREADABLE, ProtocolError
from gateway.mcp.flights import ClientGone
from gateway.mcp.upstream.port import Answer
from registry.core.errors import GatehouseError

log = structlog.get_logger(__name__)

VERSION: Final = "2025-03-26"
MOST: Final = 100
"""Messages of one batch."""
_AHEAD = 16
"""Events that wait for a client that reads slowly."""

Work = tuple[bytes, Callable[[], Awaitable[Answer]]]
"""The id of a request, and what answers it."""

_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


def is_batch(body: bytes) -> bool:
    """Whether a body that is no single message is meant as several."""
    return body.lstrip(b" \t\r\n").startswith(b"[")


def split(body: bytes) -> list[bytes]:
    """The messages, each still to be read. Raises `ProtocolError`."""
    try:
        items = [bytes(item) for item in _decode(body)]
    except (*UNREADABLE, RecursionError):
        raise ProtocolError(protocol.PARSE_ERROR, "The body is not valid JSON.", status=400) from None
    if not 0 < len(items) <= MOST:
        raise ProtocolError(protocol.INVALID_REQUEST, f"A batch has 1 to {MOST} messages.", status=400)
    return items


async def answers(works: Sequence[Work]) -> AsyncIterator[bytes]:
    """The events of all answers, as they come."""
    events: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
    tasks = [asyncio.create_task(_answer(identifier, work, events)) for identifier, work in works]
    try:
        left = len(tasks)
        while left:
            event = await events.get()
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    identifier: bytes, work: Callable[[], Awaitable[Answer]], events: asyncio.Queue[bytes | None]
) -> None:
    """Put an answer's events, and `None` behind them."""
    failure: ProtocolError | None = None
    try:
        await pass_on(await work(), events)
    except ClientGone:
        # The client has cancelled this request and waits for no answer.
        pass
    except ProtocolError as error:
        failure = error
    except GatehouseError as error:
        failure = as_protocol(error)
    except Exception:
        log.exception("a message of a batch failed")
        failure = ProtocolError(protocol.INTERNAL_ERROR, "The gateway failed to answer; the failure was logged.")
    if failure is not None:
        await events.put(sse.frame(envelope.error(identifier, failure)))
    await events.put(None)


async def pass_on(answer: Answer, events: asyncio.Queue[bytes | None]) -> None:
    """Put an answer's events, whatever form it comes in."""
    if answer.stream is None:
        if answer.body:
            await events.put(answer.before + sse.frame(answer.body))
        return
    try:
        if answer.large:
            await events.put(sse.frame(b"".join([piece async for piece in answer.stream])))
            return
        async for chunk in answer.stream:
            await events.put(chunk)
    finally:
        await translate.close(answer.stream)


def as_protocol(error: GatehouseError) -> ProtocolError:
    return ProtocolError(protocol.INVALID_REQUEST, error.message, data={"code": error.code, **error.details})
