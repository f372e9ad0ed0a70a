"""Undoing Content-Encoding in pieces, so that a small answer cannot become a large one in memory.

HTTP libraries inflate what they are given. 200 KB of gzip can hold 200 MB, so here at most `PIECE` bytes are inflated
before the consumer gets them, and inflation stops when the ratio or the size is none that an honest answer has.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from registry.core.egress.errors import EgressFailed, EgressTooLarge

ACCEPT_ENCODING = "gzip, deflate"
PIECE = 64 * 1024
MAX_RATIO = 100
# Short answers may be very repetitive; below this the ratio says nothing.
RATIO_FREE_BYTES = 1024 * 1024

_GZIP_WBITS = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = 0x1F


class _Inflater(Protocol):
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class Decoder:
    """Decodes one body.

    Args:
        encoding: the Content-Encoding header, empty or `identity` for none.
        max_bytes: how many decoded bytes may come out altogether; `None` for any number.

    Raises:
        EgressFailed: an encoding that was not asked for.
    """

    def __init__(self, encoding: str, max_bytes: int | None) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise EgressFailed("The answer has a Content-Encoding that was not asked for; expected gzip or deflate.")
        self._max_bytes = max_bytes
        self._inflater: _Inflater | None = None
        self._ended = False
        self._taken = 0
        self._given = 0

    @property
    def encoded(self) -> bool:
        return self._encoding not in ("", "identity")

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of at most `PIECE` bytes; a piece is inflated only when it is asked for.

        Raises:
            EgressTooLarge: too many bytes came out, altogether or for what went in.
            EgressFailed: the data is not what its encoding says.
        """
        self._taken += len(data)
        if not self.encoded:
            for start in range(0, len(data), PIECE):
                yield self._counted(data[start : start + PIECE])
            return
        more = False  # zlib may hold output back although it has taken all input
        while data or more:
            inflater = self._inflater or self._start(data)
            if inflater is None:
                return
            try:
                piece = inflater.decompress(data, PIECE)
            except zlib.error as error:
                raise EgressFailed("The answer's body is not what its Content-Encoding says.") from error
            data, more = inflater.unconsumed_tail, len(piece) == PIECE
            if inflater.eof:
                data, more, self._inflater, self._ended = inflater.unused_data, False, None, True
            if piece:
                yield self._counted(piece)

    def finish(self) -> None:
        """Raises `EgressFailed` if the body ended before its encoding did."""
        if self._inflater is not None:
            raise EgressFailed("The answer's compressed body ended early.")

    def _start(self, data: bytes) -> _Inflater | None:
        """For the next compressed member; `None` where what follows the end is only padding."""
        if self._ended and (self._encoding == "deflate" or data[0] != _GZIP_MAGIC):
            return None
        wbits = _GZIP_WBITS
        if self._encoding == "deflate":
            # "deflate" means zlib, but some servers send it bare; the low bits of the first byte tell them apart.
            wbits = zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
        self._inflater = zlib.decompressobj(wbits)
        return self._inflater

    def _counted(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._max_bytes is not None and self._given > self._max_bytes:
            raise EgressTooLarge(f"The answer is larger than {self._max_bytes} bytes.")
        if self.encoded and self._given > max(RATIO_FREE_BYTES, self._taken * MAX_RATIO):
            raise EgressTooLarge(
                f"The answer inflates more than {MAX_RATIO} times; it looks like a decompression bomb."
            )
        return piece
