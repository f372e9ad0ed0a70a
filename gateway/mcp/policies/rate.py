"""Rate limits on the data path: so many calls a minute for a principal, for a server and for a tool.

Each limit is a bucket of a minute's calls that refills steadily, kept as one number (the time at which it would be full
again), so that asking costs a look-up and a comparison. `Buckets` is the port: `MemoryBuckets` counts within this
process, `gateway.mcp.policies.rate_redis` for all processes together. The façade has limits of its own
(`gateway.api.shared.rate_limits`). The tools of the emergency stop are never limited.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError
from registry.core.errors import GatehouseError
from registry.servers.names import prefixed

if TYPE_CHECKING:
    from gateway.mcp.policies.policy import Attempt
    from registry.core.clock import Clock

MINUTE = 60.0
MOST_BUCKETS = 50_000
"""In memory; when there are more, those that are full again are forgotten."""

Key = tuple[str, ...]
_Limit = tuple[str, Key, int]
"""What is limited, its bucket, and how many calls a minute."""


class CallLimitInvalid(GatehouseError):
    code = "CALL_LIMIT_INVALID"
    title = "Call limit invalid"


class Buckets(Protocol):
    def take(self, key: Key, per_minute: int) -> float | Awaitable[float]:
        """Take one call from a bucket: 0, or the seconds until there will be one again, and then nothing was taken."""
        ...


class MemoryBuckets:
    """Buckets of this process."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._full_at: dict[Key, float] = {}

    def take(self, key: Key, per_minute: int) -> float:
        now = self._monotonic()
        full_at = self._full_at.get(key, now)
        step = MINUTE / per_minute
        if full_at < now:  # noqa: PLR1730 - max() costs twice as much, and every call comes by here
            full_at = now
        missing = full_at + step - now
        if missing > MINUTE + 1e-9:
            return missing - MINUTE
        if len(self._full_at) >= MOST_BUCKETS and key not in self._full_at:
            self._full_at = {other: at for other, at in self._full_at.items() if at > now}
        self._full_at[key] = full_at + step
        return 0.0


def parse_call_limits(entries: Sequence[str]) -> dict[str, int]:
    """Limits by the name of a server or tool, from `NAME=CALLS` entries.

    Raises:
        CallLimitInvalid: an entry is not of that form.
    """
    limits: dict[str, int] = {}
    for entry in entries:
        name, _, amount = entry.partition("=")
        if not name.strip() or not amount.strip().isdigit() or int(amount) < 1:
            raise CallLimitInvalid(
                f"GATEHOUSE_CALL_LIMITS has {entry!r}: write NAME=CALLS, a server's slug or a tool's name "
                "and how many calls a minute may come."
            )
        limits[name.strip()] = int(amount)
    return limits


class RatePolicy:
    """Refuses what comes too fast.

    Args:
        per_principal: calls a minute of one key or user; 0 is no limit.
        by_name: calls a minute in one organisation, by a server's slug or by a tool's name on `/mcp`, by which it is
            known at every address.
    """

    def __init__(self, buckets: Buckets, per_principal: int, by_name: Mapping[str, int]) -> None:
        self._buckets = buckets
        self._per_principal = per_principal
        self._by_name = dict(by_name)
        self._wanted: dict[object, tuple[_Limit, ...]] = {}
        """The buckets that a call takes from, by who calls what: they are the same each time."""

    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        """Raises `ProtocolError` with `RATE_LIMITED`."""
        principal, entry = attempt.principal, attempt.entry
        who = (principal.org_id, principal.user_id, principal.key_id, principal.place)
        place = (who, attempt.server.slug, entry.name if entry is not None else None)
        wanted = self._wanted.get(place)
        if wanted is None:
            if len(self._wanted) >= MOST_BUCKETS:
                self._wanted.clear()
            wanted = self._wanted[place] = () if attempt.is_emergency else tuple(self._limits(attempt))
        return self._take(wanted) if wanted else None

    def _limits(self, attempt: Attempt) -> Iterator[_Limit]:
        principal, slug, entry = attempt.principal, attempt.server.slug, attempt.entry
        if self._per_principal:
            yield "principal", (principal.org_id, principal.subject), self._per_principal
        for kind, name in (("server", slug), ("tool", prefixed(slug, entry.name) if entry is not None else "")):
            amount = self._by_name.get(name)
            if amount is not None:
                yield kind, (principal.org_id, kind, name), amount

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """A call that was let through counts, however it ended."""

    def _take(self, wanted: tuple[_Limit, ...]) -> Awaitable[None] | None:
        for index, (kind, key, amount) in enumerate(wanted):
            waits = self._buckets.take(key, amount)
            if waits == 0:
                continue
            if not isinstance(waits, float | int):
                return self._wait(waits, wanted[index:])
            _judge(waits, kind, amount)
        return None

    async def _wait(self, first: Awaitable[float], wanted: tuple[_Limit, ...]) -> None:
        _judge(await first, wanted[0][0], wanted[0][2])
        rest = self._take(wanted[1:])
        if rest is not None:
            await rest


def _judge(seconds: float, kind: str, amount: int) -> None:
    if seconds > 0:
        wait = max(1, math.ceil(seconds))
        raise ProtocolError(
            protocol.RATE_LIMITED,
            f"Too many calls: {amount} a minute are allowed for this {kind}. Try again in {wait} s.",
            data={"code": "RATE_LIMITED", "limit": kind, "calls_per_minute": amount, "retry_after": wait},
        )
