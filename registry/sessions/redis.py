"""Records of legacy sessions in Redis, where replicas share one. Its contract is `gateway.mcp.session_store`.

A record is a hash, which Redis itself forgets in time; a sorted set tells what was changed when. Redis may lose its
memory: sessions then go on with what processes know, so nothing here needs to be written to a disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry.core.clock import Clock
from registry.core.db import new_id
from registry.core.redis import redis_client
from registry.sessions.patch import Fields, Patch

RECORD = "gatehouse:session:"
CHANGED = "gatehouse:sessions:changed"
WRITER = "."
"""The field that names the process that changed a record last; a hash without fields would not exist."""
REMEMBERED_SECONDS = 60.0
ANSWER_SECONDS = 2.0


class RedisSessions:
    """The records, as one process reads and writes them.

    Args:
        url: `redis://…`.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._redis = redis_client(url, ANSWER_SECONDS, decode_responses=True)
        self._clock = clock
        self._writer = new_id()

    async def load(self, key: str) -> Fields | None:
        found: Fields = await self._redis.hgetall(RECORD + key)
        return _fields(found) if found else None

    async def save(self, patches: Sequence[Patch]) -> Mapping[str, Fields]:
        now = self._clock.now().timestamp()
        async with self._redis.pipeline(transaction=True) as pipe:
            for patch in patches:
                name = RECORD + patch.key
                if patch.drop:
                    pipe.hdel(name, *patch.drop)
                for field, value in patch.add.items():
                    pipe.hsetnx(name, field, value)
                pipe.hset(name, mapping={**patch.put, WRITER: self._writer})
                pipe.pexpire(name, max(1, round(patch.seconds * 1000)))
                pipe.zadd(CHANGED, {patch.key: now})
            pipe.zremrangebyscore(CHANGED, "-inf", now - REMEMBERED_SECONDS)
            await pipe.execute()
        return await self._read([patch.key for patch in patches])

    async def changed(self, seconds: float) -> Mapping[str, Fields]:
        since = self._clock.now().timestamp() - seconds
        return await self._read(await self._redis.zrangebyscore(CHANGED, since, "+inf"), others=True)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _read(self, keys: Sequence[str], *, others: bool = False) -> dict[str, Fields]:
        """The records of these keys; with `others`, those that another process changed last."""
        if not keys:
            return {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(RECORD + key)
            found: list[Fields] = await pipe.execute()
        return {
            key: _fields(record)
            for key, record in zip(keys, found, strict=True)
            if record and not (others and record.get(WRITER) == self._writer)
        }


def _fields(record: Fields) -> Fields:
    return {name: value for name, value in record.items() if name != WRITER}
