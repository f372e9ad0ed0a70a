"""The record of one call, as the data path hands it over: a plain value without SQL."""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """One tool call, resource read or prompt get; the fields are the columns of `CallRecord`, in order.

    Args:
        at: when it began, in microseconds since the epoch.
        outcome: `ok`, `tool_error`, `error`, `denied`, `not_sent` or `unknown`.
    """

    at: int
    org_id: str
    user_id: str | None
    key_id: int | None
    server_id: str | None
    server_slug: str
    method: str
    name: str
    outcome: str
    error_code: int | None
    duration_us: int
    bytes_in: int
    bytes_out: int
    cost_usd: float
    request_id: str | None
