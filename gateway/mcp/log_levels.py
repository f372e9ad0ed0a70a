"""Log levels of the protocol, and which log messages a request of the modern era hears."""

from __future__ import annotations

import msgspec

from gateway.mcp import sse

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_MESSAGE = b'"notifications/message"'


class _Params(msgspec.Struct, frozen=True):
    level: str = "info"


class _Logged(msgspec.Struct):
    method: str = ""
    params: _Params = _Params()


_decode = msgspec.json.Decoder(_Logged).decode


def passes(event: bytes, wanted: str | None) -> bool:
    """Whether an event may go to a client that asked for log messages of this level, `None` for none at all."""
    if _MESSAGE not in event:
        return True
    try:
        logged = _decode(sse.data_of(event))
    except (msgspec.DecodeError, RecursionError):
        return True
    if logged.method != "notifications/message":
        return True
    return wanted in LEVELS and _rank(logged.params.level) >= _rank(wanted)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)
