"""Visits: how often callers without a credential may come and how many may stay, counted for each client address.

Who such a caller is and what is open to it, says `gateway.mcp.catalog`; limits of known callers are policies. Counted
in this process only, in a bounded table.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.mcp import protocol, translate
from gateway.mcp.envelope import ProtocolError

if TYPE_CHECKING:
    from registry.core.clock import Clock

MAX_STREAMS = 64
"""Streams that one address may have open; they cost nothing to open and may stay for ever."""
STREAM_SECONDS = 5
"""When to ask again where a stream has to end first."""
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
            f"Too many requests without a credential ({limit} a minute): wait {seconds} s, or use an API key.",
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
        self._streams: Counter[str] = Counter()

    def count(self, client: str) -> None:
        """Count a visit from an address.

        Raises:
            TooManyVisits: its bucket is empty, or too many of its streams are open.
        """
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
            raise self._refusal(limit, math.ceil((1 - bucket.tokens) * 60 / limit))
        if self._streams[key] >= MAX_STREAMS:
            raise self._refusal(limit, STREAM_SECONDS)
        bucket.tokens -= 1

    async def staying(self, client: str, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream of a visit, counted among its address's open ones until it ends."""
        key = _counted_as(client)
        self._streams[key] += 1
        try:
            async for chunk in stream:
                yield chunk
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]
            await translate.close(stream)

    def _refusal(self, limit: int, seconds: int) -> TooManyVisits:
        return TooManyVisits(limit, seconds, (self._clock.now() + timedelta(seconds=seconds)).isoformat())


def _counted_as(client: str) -> str:
    """An IPv6 network counts as one address: whoever has one address of it has them all."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
