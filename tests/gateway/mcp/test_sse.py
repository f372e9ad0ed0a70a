"""Event streams: the same events however they are cut, whatever their line ends, in time that grows with their size."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mcp import sse

lines = st.sampled_from(
    [b"data: a", b"data:b", b": note", b"event: message", b"id: 7", b"retry: 5", b"data", b"", b"x"]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, ends), max_size=20).map(lambda made: b"".join(line + end for line, end in made))


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(borders)]


def split(chunks: list[bytes]) -> list[bytes]:
    splitter = sse.Splitter()
    return [event for chunk in chunks for event in splitter.feed(chunk)]


@given(streams, st.lists(st.integers(0, 400), max_size=20))
def test_any_chunking_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    assert split(cut(stream, places)) == split([stream])


@given(streams)
def test_byte_by_byte(stream: bytes) -> None:
    assert split([bytes([byte]) for byte in stream]) == split([stream])


@given(streams)
def test_line_ends_do_not_matter(stream: bytes) -> None:
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert split([stream]) == split([plain])


@given(streams)
def test_no_byte_of_a_whole_event_is_lost(stream: bytes) -> None:
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    whole = plain[: plain.rfind(b"\n\n") + 2] if b"\n\n" in plain else b""
    assert b"".join(split([stream])).replace(b"\n", b"") == whole.replace(b"\n", b"")


@given(streams)
def test_a_stream_that_has_ended_gives_the_same_events(stream: bytes) -> None:
    assert sse.events_in(stream) == split([stream])


@given(streams)
def test_events_are_reframed_by_their_data_alone(stream: bytes) -> None:
    for event in split([stream]):
        data = sse.data_of(event)
        assert sse.reframed(event) == (sse.frame(data) if data else b"")
        assert sse.reframed(sse.frame(data)) == sse.frame(data) or not data


def test_an_event_is_there_as_soon_as_its_blank_line() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        assert split([b"data: x" + end + end]) == [b"data: x\n\n"]


@given(st.binary(max_size=60).filter(lambda data: b"\r" not in data))
def test_what_is_framed_is_read_again(message: bytes) -> None:
    framed = sse.frame(message)
    (event,) = split([framed])
    assert event == framed
    assert sse.data_of(event) == message
    assert sse.field_of(event, b"event") == b"message"


def test_a_carriage_return_between_tokens_does_not_break_a_frame() -> None:
    (event,) = split([sse.frame(b'{"a":\r1,\r\n"b":2}')])
    assert sse.data_of(event).replace(b"\n", b"") == b'{"a":1,"b":2}'


def test_a_large_event_in_small_pieces_is_looked_through_once() -> None:
    splitter = sse.Splitter()
    began = time.process_time()
    for _ in range(100_000):
        assert splitter.feed(b"x" * 100) == []
    # Ten million bytes: a splitter that looks at all of them each time needs minutes.
    assert time.process_time() - began < 5
    assert len(splitter.feed(b"\n\n")[0]) == 10_000_002


def test_an_event_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_MAX_EVENT", 1000)
    splitter = sse.Splitter()
    with pytest.raises(sse.EventTooLarge):
        for _ in range(100):
            splitter.feed(b"data: xxxxxxxxx")


async def test_a_mailbox_gives_events_in_order_and_a_comment_while_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.0)
    mailbox = sse.Mailbox(3)
    assert await mailbox.next_event() == sse.KEEP_ALIVE
    for event in (b"1", b"2"):
        mailbox.put(event)
    mailbox.end()
    assert [await mailbox.next_event() for _ in range(3)] == [b"1", b"2", None]
    assert await mailbox.next_event() == sse.KEEP_ALIVE


async def test_whoever_waits_at_a_mailbox_hears_at_once() -> None:
    mailbox = sse.Mailbox(3)
    for put, expected in ((lambda: mailbox.put(b"1"), b"1"), (mailbox.end, None)):
        reading = asyncio.create_task(mailbox.next_event())
        await asyncio.sleep(0)
        put()
        async with asyncio.timeout(10):
            assert await reading == expected


async def test_a_mailbox_that_is_full_ends_its_reader() -> None:
    mailbox = sse.Mailbox(3)
    for number in range(4):
        mailbox.put(b"%d" % number)
    assert [await mailbox.next_event() for _ in range(3)] == [b"1", b"2", None]
