"""Decompression in bounded pieces, up to a real bomb over a real connection."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.core.egress import Egress, EgressFailed, EgressPolicy, EgressTooLarge
from registry.core.egress.decode import PIECE, RATIO_FREE_BYTES, Decoder
from tests.support.canary import canary, http_answer

BOMB_BYTES = 210 * 1024 * 1024
RSS_BOUND_KIB = 20 * 1024


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


FORMS = {
    "identity": ("", bytes),
    "gzip": ("gzip", gzip.compress),
    "members": ("x-gzip", two_members),
    "padded": ("gzip", lambda data: gzip.compress(data) + bytes(64)),
    "deflate": ("deflate", zlib.compress),
    "bare": (" Deflate", bare),
}


def decode(encoding: str, data: bytes, step: int, max_bytes: int | None = None) -> list[bytes]:
    decoder = Decoder(encoding, max_bytes)
    pieces = [piece for start in range(0, len(data), step) for piece in decoder.feed(data[start : start + step])]
    decoder.finish()
    return pieces


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=2000), repeat=st.integers(1, 300), step=st.integers(1, 5000))
def test_what_was_encoded_comes_back_however_it_is_cut(form: str, data: bytes, repeat: int, step: int) -> None:
    encoding, encode = FORMS[form]
    pieces = decode(encoding, encode(data * repeat), max(step, len(data) * repeat // 200))
    assert b"".join(pieces) == data * repeat
    assert all(0 < len(piece) <= PIECE for piece in pieces)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_sizes_around_a_piece(size: int) -> None:
    for encoding, encode in FORMS.values():
        for data in (bytes(size), random.Random(size).randbytes(size)):
            assert b"".join(decode(encoding, encode(data), 100_000)) == data


@pytest.mark.parametrize("form", FORMS)
def test_the_size_is_bounded(form: str) -> None:
    encoding, encode = FORMS[form]
    data = random.Random(1).randbytes(3000)
    assert len(b"".join(decode(encoding, encode(data), 10_000, max_bytes=3000))) == 3000
    with pytest.raises(EgressTooLarge):
        decode(encoding, encode(data), 10_000, max_bytes=2999)


@pytest.mark.parametrize("form", ["gzip", "members", "deflate", "bare"])
def test_inflating_beyond_reason_stops_early(form: str) -> None:
    encoding, encode = FORMS[form]
    given_out = 0
    with pytest.raises(EgressTooLarge, match="bomb"):
        for piece in Decoder(encoding, None).feed(encode(bytes(8 * RATIO_FREE_BYTES))):
            given_out += len(piece)
    assert given_out <= RATIO_FREE_BYTES


@pytest.mark.parametrize("form", ["gzip", "deflate", "bare"])
def test_broken_data_is_a_failure(form: str) -> None:
    encoding, encode = FORMS[form]
    whole = encode(random.Random(2).randbytes(5000))
    with pytest.raises(EgressFailed, match="ended early"):
        decode(encoding, whole[:-20], 100)
    if form != "bare":  # which has no checksum
        with pytest.raises(EgressFailed):
            decode(encoding, whole[:100] + b"\xff" * 200 + whole[300:], 100)
    with pytest.raises(EgressFailed):
        decode(encoding, b"\x07 plain text", 100)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_encodings_that_were_not_asked_for_are_failures(encoding: str) -> None:
    with pytest.raises(EgressFailed, match="not asked for"):
        Decoder(encoding, None)


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    megabyte = bytes(1024 * 1024)
    return b"".join([*(packer.compress(megabyte) for _ in range(BOMB_BYTES // len(megabyte))), packer.flush()])


def peak_kib() -> int:
    """This process's highest resident size since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def reset_peak() -> int:
    Path(f"/proc/{os.getpid()}/clear_refs").write_text("5")
    return peak_kib()


@pytest.mark.parametrize("max_bytes", [8 * 1024 * 1024, 2 * BOMB_BYTES])
async def test_a_bomb_does_not_fill_the_memory(max_bytes: int) -> None:
    egress = Egress(EgressPolicy(local_mode=True))
    answer = http_answer(body=gzip_bomb(), content_encoding="gzip")
    assert len(answer) < 250_000
    async with canary() as warm, canary(answer) as server:
        await egress.client.request("GET", warm.url)
        before = reset_peak()
        with pytest.raises(EgressTooLarge):
            await egress.client.request("GET", server.url, max_bytes=max_bytes)
        async with egress.client.stream("GET", server.url) as streamed:
            with pytest.raises(EgressTooLarge):
                async for _ in streamed.chunks():
                    pass
        assert peak_kib() - before < RSS_BOUND_KIB
    await egress.close()
