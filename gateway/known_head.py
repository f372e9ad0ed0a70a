"""The head of a connection's last message, by which the next one is known that differs in nothing but its length.

The same client sends the same head again and again, and a server answers with the same. One that was parsed and
admitted need not be parsed again: byte for byte the same, it says the same. Only whole messages that come alone are
known; all others are the parser's, in `gateway.edge` and `gateway.mcp.upstream.pool`.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]{1,9})(?=\r\n)")
_DIGITS = 9


class KnownHead:
    """Args:
    before, after: the head's bytes around the digits of its length.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    @classmethod
    def of(cls, data: bytes) -> KnownHead | None:
        """The head of a message that the parser has found good.

        Args:
            data: the message, or something else.

        Returns:
            `None` if `data` is not one whole message with a plain length and nothing more.
        """
        end = data.find(b"\r\n\r\n") + 4
        found = _LENGTH.search(data, 0, end)
        if found is None or len(data) - end != int(found[1]):
            return None
        return cls(data[: found.start(1)], data[found.end(1) : end])

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole message with this head; else `None`."""
        if not data.startswith(self._before):
            return None
        start = len(self._before)
        end = data.find(b"\r", start, start + _DIGITS + 1)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(self._after, end):
            return None
        begin = end + len(self._after)
        return data[begin:] if len(data) - begin == int(length) else None
