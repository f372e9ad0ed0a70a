"""Visits: how often callers without a credential may come, counted for each client address.

Who such a caller is and what is open to it, says `gateway.mcp.catalog`; limits of known callers are policies. Counted
in this process only, in a bounded table.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError

if TYPE_CHECKING:
    from registry.core.clock import Clock

MAX_ADDRESSES = 10_000
"""Addresses that are remembered; the one longest unseen is forgotten first."""


class TooManyVisits(ProtocolError):
    """Answered as RATE_LIMITED.

    Args:
        limit: visits a minute.
        seconds: until the next visit is welcome.
        resets_at: the same as a time, ISO 8601.
    """

    def __init__(self, limit: int, seconds: int, resets_at: str) -> None:
        super().__init__(
            protocol.RATE_LIMITED,
            f"More than {limit} requests a minute without a credential: wait {seconds} s, or use an API key.",
            data={"code": "RATE_LIMITED", "limit": limit, "resets_at": resets_at, "retry_after": seconds},
        )
        self.retry_after = seconds


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Visits:
    """A token bucket for each client address, holding a minute's worth.

    Args:
        per_minute: `None` counts nothing.
    """

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def count(self, client: str) -> None:
        """Count a visit from an address. Raises `TooManyVisits` where its bucket is empty."""
        limit = self._per_minute
        if limit is None:
            return
        now = self._clock.monotonic()
        key = _counted_as(client)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(limit, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.tokens = min(limit, bucket.tokens + (now - bucket.at) * limit / 60)
            bucket.at = now
        if bucket.tokens < 1:
            seconds = math.ceil((1 - bucket.tokens) * 60 / limit)
            raise TooManyVisits(limit, seconds, (self._clock.now() + timedelta(seconds=seconds)).isoformat())
        bucket.tokens -= 1


def _counted_as(client: str) -> str:
    """An IPv6 network counts as one address: whoever has one address of it has them all."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
