"""Buckets of rate limits that several processes share, in Redis; see `gateway.mcp.policies.rate`.

One script a call, with the server's own time. Where Redis does not answer, each process counts by itself with half of
the limit: calls go on, and a handful of processes do not let many times too much through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.mcp.policies.rate import MINUTE, Key, MemoryBuckets
from registry.core.redis import redis_client

if TYPE_CHECKING:
    from registry.core.clock import Clock

log = structlog.get_logger(__name__)

PREFIX = "gatehouse:calls:"
ANSWER_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""How long Redis is left alone after it did not answer, so that not every call waits for it."""

_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local step, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
if full_at < now then full_at = now end
local missing = full_at + step - now
if missing > window + 0.000001 then return tostring(missing - window) end
redis.call('SET', KEYS[1], string.format('%.6f', full_at + step), 'PX', math.ceil(missing * 1000) + 1000)
return '0'
"""


class RedisBuckets:
    """Buckets in Redis.

    Args:
        url: `redis://…`.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._redis = redis_client(url, ANSWER_SECONDS)
        self._script = self._redis.register_script(_SCRIPT)
        self._clock = clock
        self._own = MemoryBuckets(clock)
        self._away_until = float("-inf")

    async def take(self, key: Key, per_minute: int) -> float:
        if self._clock.monotonic() >= self._away_until:
            try:
                return float(await self._asked(key, per_minute))
            except OSError as error:
                self._miss(error)
            except Exception as error:
                if not type(error).__module__.startswith("redis."):
                    raise
                self._miss(error)
        return self._own.take(key, max(1, per_minute // 2))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _asked(self, key: Key, per_minute: int) -> bytes:
        return await self._script(keys=[PREFIX + "\x1f".join(key)], args=[MINUTE / per_minute, MINUTE])

    def _miss(self, error: Exception) -> None:
        log.warning("redis does not answer, rate limits are counted here", error=str(error))
        self._away_until = self._clock.monotonic() + RETRY_SECONDS
