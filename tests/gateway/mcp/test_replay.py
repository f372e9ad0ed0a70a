"""What a broken stream is resumed from is kept for a while, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.mcp.replay import Replay


async def events(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield b"data: %b\n\n" % one


async def read(stream: AsyncIterator[bytes] | None) -> bytes:
    assert stream is not None
    return b"".join([piece async for piece in stream])


async def test_an_ended_stream_can_be_resumed_for_a_while() -> None:
    replay = Replay("2025-06-18")
    await read(replay.record(events(b"1", b"2")))
    going = replay.record(events(b"3", b"4"))
    await anext(going)
    replay.tidy()
    assert b"data: 2" in await read(replay.resume(b"1-1"))
    replay.tidy()
    assert replay.resume(b"1-1") is None
    await read(going)
    replay.tidy()
    assert b"data: 4" in await read(replay.resume(b"2-1")), "it has only just ended"
