"""Structured logs: one line per event, JSON by default, with secrets taken out wherever they appear.

Line breaks and control characters in values never make a new line: they are escaped by the renderer.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import structlog

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"authorization|password|passwd|secret|token|api[-_]?key|cookie|credential|private[-_]?key|session[-_]?id",
    re.IGNORECASE,
)
_SECRET_VALUES = re.compile(
    r"mcp_[A-Za-z0-9-]{1,32}_[\x21-\x7e]{16,}"  # API keys
    r"|ses_[A-Za-z0-9_-]{16,}"  # login sessions
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # JWTs
    r"|(?i:(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,})"
    r"|(?<=://)[^/@\s]+@"  # user information in URLs
)


def redact(value: Any) -> Any:
    """`value` without what looks like a secret, at any depth."""
    if isinstance(value, str):
        return _SECRET_VALUES.sub(REDACTED, value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return {name: REDACTED if _SECRET_NAMES.search(str(name)) else redact(item) for name, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in cast("list[Any]", value)]
    return value


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return redact(event)


def configure_logs(level: str, form: str) -> None:
    """Send everything, the libraries' logs too, through one pipeline to stderr.

    Args:
        form: `json`, or `console` for people.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.INFO))
    # What these tell at lower levels is told by whoever uses them.
    for name in ("uvicorn.error", "asyncio", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
