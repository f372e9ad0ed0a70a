"""Calls counted: outcomes, durations, bytes and refusals, from the batches of records that are written anyway.

Nothing is counted on a call's own way. Servers beyond the first `MOST_SERVERS` are counted together as `OTHER`, so that
the number of series has a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from gateway.mcp import protocol
from registry.usage.calls import Call

MOST_SERVERS = 100
OTHER = "other"
OUTCOMES = ("ok", "tool_error", "error", "denied", "not_sent", "unknown")
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's buckets, in seconds."""
RULES = {
    protocol.INVALID_REQUEST: "permission",
    protocol.INVALID_PARAMS: "arguments",
    protocol.EMERGENCY_STOP: "stop",
    protocol.BUDGET_EXCEEDED: "budget",
    protocol.RATE_LIMITED: "rate",
    protocol.APPROVAL_REQUIRED: "approval",
    protocol.DEFINITION_HELD: "definition",
}
"""Which rule refuses with which error."""

_BOUNDS_US = tuple(int(bound * 1_000_000) for bound in BOUNDS)


class ServerTally:
    """What is known of one server's calls.

    Attributes:
        buckets: calls by duration; the last are those above every bound.
        microseconds: of all calls together.
    """

    __slots__ = ("buckets", "bytes_in", "bytes_out", "microseconds", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.microseconds = 0
        self.bytes_in = 0
        self.bytes_out = 0


class Tally:
    """All calls that have ended in this process."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerTally] = {}
        self.refusals: Counter[str] = Counter()

    def observe(self, calls: Sequence[Call]) -> None:
        servers = self.servers
        for call in calls:
            entry = servers.get(call.server_slug) or self._entry(call.server_slug)
            entry.outcomes[call.outcome] += 1
            entry.buckets[bisect_left(_BOUNDS_US, call.duration_us)] += 1
            entry.microseconds += call.duration_us
            entry.bytes_in += call.bytes_in
            entry.bytes_out += call.bytes_out
            if call.outcome == "denied":
                self.refusals[RULES.get(call.error_code or 0, OTHER)] += 1

    def name_of(self, slug: str) -> str:
        """The value of the label `server` for a server."""
        return slug if slug in self.servers or len(self.servers) < MOST_SERVERS else OTHER

    def _entry(self, slug: str) -> ServerTally:
        name = self.name_of(slug)
        if name not in self.servers:
            self.servers[name] = ServerTally()
        return self.servers[name]
