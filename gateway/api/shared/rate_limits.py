"""Rate limits of the façade, by the documents' tables. The MCP data path has its own policy for calls.

`RateLimiter` is the port; `MemoryRateLimiter` counts within this process.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from registry.core.errors import GatehouseError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

VERDICT = "gatehouse.rate_limit"
"""Key of the verdict on a request in the ASGI scope."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in so many seconds.

    Args:
        name: what is counted; limits of one name share their count.
        per: counted for each client address, or for each user.
    """

    name: str
    amount: int
    seconds: int
    per: Literal["address", "user"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is admitted, and what is left.

    Args:
        reset: when the count falls next, as a Unix time.
        retry_after: the same in seconds from now.
    """

    limit: Limit
    admitted: bool
    remaining: int
    reset: int
    retry_after: int

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit.amount),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }


class RateLimited(GatehouseError):
    status = 429
    code = "RATE_LIMIT_EXCEEDED"
    title = "Too Many Requests"


class RateLimiter(Protocol):
    def hit(self, limit: Limit, key: str) -> Verdict:
        """Count a request of `key`, unless there is none left."""
        ...


@dataclass(slots=True)
class MemoryRateLimiter:
    """A moving window of exact times in this process's memory."""

    _window: MovingWindowRateLimiter | None = None
    _items: dict[Limit, RateLimitItem] = field(default_factory=dict["Limit", "RateLimitItem"])

    def hit(self, limit: Limit, key: str) -> Verdict:
        if self._window is None:
            # Heavy vendor, imported at the first limited request.
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter

            self._window = MovingWindowRateLimiter(MemoryStorage())
        if limit not in self._items:
            from limits import RateLimitItemPerSecond

            self._items[limit] = RateLimitItemPerSecond(limit.amount, limit.seconds, limit.name)
        item = self._items[limit]
        admitted = self._window.hit(item, key)
        stats = self._window.get_window_stats(item, key)
        wait = max(1, math.ceil(stats.reset_time - time.time()))
        return Verdict(limit, admitted, max(0, stats.remaining), math.ceil(stats.reset_time), wait)


def refusal(verdict: Verdict) -> RateLimited:
    """The error for a request that was not admitted."""
    return RateLimited(
        f"Rate limit exceeded: {verdict.limit.amount} requests in {verdict.limit.seconds} seconds.",
        details={"retry_after": verdict.retry_after, "limit": verdict.limit.name},
    )
