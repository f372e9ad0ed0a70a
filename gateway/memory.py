"""Memory that large messages have used stays with the process for the next ones, up to a bound.

Otherwise glibc gives each large block back at once, and the kernel clears it anew, page by page, for each of the copies
of the next message. And all threads share what is kept, where glibc would keep some for each of them, and the more the
longer they work. Elsewhere this does nothing. Why, and what it costs, is in docs/adr/0023.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

LARGEST = 4 * 1024 * 1024
"""Bytes of the largest block that is kept."""
KEPT = 32 * 1024 * 1024
"""Bytes that are kept at most."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Their numbers in glibc's malloc.h."""


def keep_freed() -> None:
    """Set it for this process and those that it forks."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGEST)
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_ARENA_MAX, 1)
