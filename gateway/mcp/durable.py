"""Streams whose end is held back until the record of their call has been stored.

What comes before the answer, progress and log messages, goes through as it comes; the piece that may hold the answer
waits for the record. Only with `GATEHOUSE_AUDIT=durable`; the rest of the call is `gateway.mcp.call`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gateway.mcp import sse, translate
from gateway.mcp.envelope import decode_message

if TYPE_CHECKING:
    from gateway.mcp.records import Recorder

_WORDS = (b'"result"', b'"error"')


async def durably(stream: AsyncIterator[bytes], recorder: Recorder, *, large: bool) -> AsyncIterator[bytes]:
    """`stream`, whose end adds the call's record to `recorder`; that end is told only after the record is stored.

    Args:
        large: the pieces are of one body, whose last one counts; else they are whole events.
    """
    held: list[bytes] = []
    try:
        async for piece in stream:
            if large:
                # The one before was not the last.
                for earlier in held:
                    yield earlier
                held = [piece]
            elif held or _answers(piece):
                held.append(piece)
            else:
                yield piece
    except Exception:
        # How it failed is told as well.
        await recorder.written()
        raise
    finally:
        await translate.close(stream)
    await recorder.written()
    for piece in held:
        yield piece


def _answers(piece: bytes) -> bool:
    """Whether a response is among the events of a piece; a note may hold the words of one."""
    if not any(word in piece for word in _WORDS):
        return False
    messages = (decode_message(sse.data_of(event)) for event in sse.Splitter().feed(piece) if sse.data_of(event))
    return any(not message.method for message in messages)
