from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.sse import EventReader

STREAM = (
    b": hello\r\n\r\n"
    b'id: 1\r\nevent: message\r\ndata: {"a":1}\r\n\r\n'
    b'data:{"b":\ndata: 2}\n\n'
    b"id: 7\nretry: 1500\ndata: \n\n"
    b"event: endpoint\rdata: /elsewhere\r\r"
    b'event: message\ndata: {"c":3}\n\n'
    b"data: never finished"
)
EXPECTED = [b'{"a":1}', b'{"b":\n2}', b'{"c":3}']


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_division_into_chunks_gives_the_same_messages(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    found = [data for start, end in pairwise(edges) for data in reader.feed(STREAM[start:end])]
    assert found == EXPECTED
    assert reader.last_id == "7"
    assert reader.retry_seconds == 1.5


@pytest.mark.parametrize("line", [b"id: a\0b\n\n", b"retry: soon\n\n", b"unknown: x\n\n"])
def test_what_has_no_meaning_is_ignored(line: bytes) -> None:
    reader = EventReader()
    assert list(reader.feed(line)) == []
    assert (reader.last_id, reader.retry_seconds) == (None, None)
