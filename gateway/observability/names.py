"""The names of all metrics, as data: `docs/metrics.md` lists the same, and `metrics` fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: as Prometheus shows it.
        labels: each has a bounded number of values.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("gatehouse_info", "gauge", ("version",), "1, with the gateway's version."),
        Metric("gatehouse_calls_total", "counter", ("server", "outcome"), "Calls that have ended."),
        Metric("gatehouse_call_duration_seconds", "histogram", ("server",), "From a call's arrival to its end."),
        Metric("gatehouse_call_bytes_total", "counter", ("server", "direction"), "Bytes of requests and of answers."),
        Metric("gatehouse_refusals_total", "counter", ("rule",), "Calls that a rule of the gateway refused."),
        Metric("gatehouse_calls_in_flight", "gauge", (), "Calls and streams under way, whatever their server."),
        Metric("gatehouse_sessions", "gauge", (), "Sessions of clients of older revisions in memory."),
        Metric("gatehouse_streams", "gauge", ("kind",), "Open streams of clients: notices, and HTTP+SSE."),
        Metric("gatehouse_upstream_requests_total", "counter", ("server",), "Calls sent on, repetitions included."),
        Metric("gatehouse_upstream_retries_total", "counter", ("server",), "Calls sent on once more."),
        Metric("gatehouse_upstream_calls", "gauge", ("server", "state"), "Calls at a server, and waiting for a place."),
        Metric("gatehouse_upstream_connections", "gauge", ("server", "state"), "Connections to a server over HTTP."),
        Metric("gatehouse_breaker_state", "gauge", ("server",), "0: closed, 1: half open, 2: open."),
        Metric("gatehouse_breaker_opened_total", "counter", ("server",), "How often the breaker has opened."),
        Metric("gatehouse_records_waiting", "gauge", (), "Records of calls that are not written yet."),
        Metric("gatehouse_budget_allotments", "gauge", (), "Parts of budgets that this process holds to spend."),
        Metric("gatehouse_event_loop_lag_seconds", "gauge", (), "The longest wait for the event loop, of late."),
    )
}
