"""With `GATEHOUSE_AUDIT=durable` a streamed answer ends only after the record of its call is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.mcp.durable import durably
from gateway.mcp.records import Recorder

NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
WORDY = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"result":1}}\n\n'
ANSWER = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'


class Slow:
    """A sink that stores when it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.stored: list[Any] = []

    async def __call__(self, calls: Any) -> None:
        self.entered.set()
        await self.open.wait()
        self.stored += calls


async def told(stream: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for piece in stream:
        into += [piece]


@pytest.mark.parametrize(
    ("pieces", "large", "early"),
    [
        ([NOTE, NOTE, ANSWER], False, 2),
        ([NOTE, ANSWER, NOTE], False, 1),
        ([WORDY, NOTE + ANSWER], False, 1),
        ([NOTE], False, 1),
        ([b'{"jsonrpc":"2.0","id":1,"re', b'sult":{"a":1', b"}}"], True, 2),
        ([], True, 0),
    ],
)
async def test_the_answer_waits_for_its_record(pieces: list[bytes], large: bool, early: int) -> None:
    sink = Slow()
    recorder = Recorder(sink, durable=True)
    recorder.start()

    async def answering() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        recorder.add("the record")  # type: ignore[arg-type] # as the call does when its stream has ended

    seen: list[bytes] = []
    reading = asyncio.create_task(told(durably(answering(), recorder, large=large), seen))
    await asyncio.wait_for(sink.entered.wait(), 30)
    for _ in range(10):
        await asyncio.sleep(0)
    assert seen == pieces[:early]
    assert not reading.done()
    sink.open.set()
    await asyncio.wait_for(reading, 30)
    assert seen == pieces
    assert sink.stored == ["the record"]
    await recorder.stop()


async def test_a_failure_on_the_way_waits_as_well() -> None:
    sink = Slow()
    recorder = Recorder(sink, durable=True)
    recorder.start()

    async def failing() -> AsyncIterator[bytes]:
        yield NOTE
        recorder.add("the record")  # type: ignore[arg-type]
        raise ConnectionError("the server has gone")

    reading = asyncio.create_task(told(durably(failing(), recorder, large=False), []))
    await asyncio.wait_for(sink.entered.wait(), 30)
    assert not reading.done()
    sink.open.set()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reading, 30)
    assert sink.stored == ["the record"]
    await recorder.stop()
