"""Clients of Redis, for those that share something through it. What is shared, and what a failure means, is theirs."""

from __future__ import annotations

from typing import Any


def redis_client(url: str, answer_seconds: float, *, decode_responses: bool = False) -> Any:
    """A client that connects when it is first used.

    Args:
        url: `redis://…`.
        answer_seconds: how long connecting and each answer may take.
    """
    # Only where Redis is configured; it is slow to import, so not when the first answer is waited for.
    from redis.asyncio import Redis

    make: Any = Redis
    return make.from_url(
        url,
        decode_responses=decode_responses,
        socket_timeout=answer_seconds,
        socket_connect_timeout=answer_seconds,
    )
