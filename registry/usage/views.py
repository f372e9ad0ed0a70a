"""What usage is told as: sums over calls, and one call. The same shapes for REST and for tools."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from registry.usage.models import CallRecord

GroupBy = Literal["server", "tool", "user", "key", "outcome", "hour", "day"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

BYTES_PER_TOKEN = 4
"""An estimate: about right for English text and JSON, too low for other scripts. No tokenizer is asked."""


class Usage(BaseModel):
    """Sums over calls.

    Args:
        errors: calls whose outcome is not `ok`.
        estimated_tokens: of arguments and results together, by `BYTES_PER_TOKEN`.
        duration_ms_p50: and the like are the smallest duration that this share of the calls did not exceed.
    """

    calls: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    estimated_tokens: int = 0
    cost_usd: float = 0.0
    duration_ms_avg: float | None = None
    duration_ms_p50: float | None = None
    duration_ms_p95: float | None = None
    duration_ms_p99: float | None = None
    duration_ms_max: float | None = None


class UsageGroup(Usage):
    """Usage of the calls that have one thing in common.

    Args:
        key: a slug, name, id or outcome, or the start of an hour or day in UTC; `None` where the calls have none.
    """

    key: str | None


class CallView(BaseModel):
    id: int
    at: datetime
    user_id: str | None
    key_id: int | None
    server: str
    method: str
    name: str
    outcome: str
    error_code: int | None
    duration_ms: float
    bytes_in: int
    bytes_out: int
    estimated_tokens: int
    cost_usd: float
    request_id: str | None


def time_of(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def call_view(row: CallRecord) -> CallView:
    return CallView(
        id=row.id,
        at=time_of(row.at),
        user_id=row.user_id,
        key_id=row.key_id,
        server=row.server_slug,
        method=row.method,
        name=row.name,
        outcome=row.outcome,
        error_code=row.error_code,
        duration_ms=row.duration_us / 1000,
        bytes_in=row.bytes_in,
        bytes_out=row.bytes_out,
        estimated_tokens=tokens(row.bytes_in + row.bytes_out),
        cost_usd=row.cost_usd,
        request_id=row.request_id,
    )


def tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
