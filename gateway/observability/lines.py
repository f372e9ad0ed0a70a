"""A structured line for each call on stderr, in the form of the other logs, made of the batches of records.

It writes one piece of text for a batch and renders with msgspec rather than through structlog's chain, because there
may be many thousand calls a second; level, time and redaction are those of `registry.core.logs`. The record in the
database is what counts: lines are for whoever watches or collects logs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.mcp.envelope import encode
from registry.core.logs import redact
from registry.usage.calls import Call

Chosen = Literal["all", "failures", "off"]

_LOST = frozenset({"not_sent", "unknown"})


class CallLines:
    """Writes the lines.

    Args:
        chosen: `all` calls, or those that did not end `ok`.
        level: of the logs; calls that the server did not answer are warnings, others information.
        form: `json` or `console`.
    """

    def __init__(self, chosen: Chosen, level: str, form: str, write: Callable[[str], Any] | None = None) -> None:
        least = logging.getLevelNamesMapping()[level.upper()]
        self._all = chosen == "all" and least <= logging.INFO
        self._failures = chosen != "off" and least <= logging.INFO
        self._lost = chosen != "off" and least <= logging.WARNING
        self._render = _as_json if form == "json" else _as_text
        self._write = write

    @property
    def wanted(self) -> bool:
        """Whether any line may ever be written."""
        return self._lost

    def observe(self, calls: Sequence[Call]) -> None:
        lines = [self._render(_fields(call)) for call in self._chosen(calls)]
        if lines:
            # Looked up each time: whoever redirects stderr gets the lines as well.
            (self._write or sys.stderr.write)("".join(lines))

    def _chosen(self, calls: Sequence[Call]) -> Iterable[Call]:
        if self._all:
            return calls
        if self._failures:
            return [call for call in calls if call.outcome != "ok"]
        return [call for call in calls if call.outcome in _LOST] if self._lost else ()


def _fields(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event": "call",
        "level": "warning" if call.outcome in _LOST else "info",
        "timestamp": datetime.fromtimestamp(call.at / 1e6, UTC).isoformat().replace("+00:00", "Z"),
        "org": call.org_id,
        "user": call.user_id,
        "key": call.key_id,
        "server": call.server_slug,
        "method": call.method,
        "name": redact(call.name),
        "outcome": call.outcome,
        "code": call.error_code,
        "ms": call.duration_us / 1000,
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
        "cost_usd": call.cost_usd or None,
        "request_id": redact(call.request_id),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _as_json(fields: dict[str, Any]) -> str:
    return encode(fields).decode() + "\n"


def _as_text(fields: dict[str, Any]) -> str:
    level, timestamp, event = fields.pop("level"), fields.pop("timestamp"), fields.pop("event")
    told = " ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{timestamp} [{level:<8}] {event:<30} {told}\n"
