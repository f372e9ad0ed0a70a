"""What real calls say about servers, read from the records of calls in batches: never on a call's way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sqlalchemy import case, func, select

from registry.core.db import Session
from registry.usage.models import CallRecord

WINDOW_SECONDS = 60.0
ENOUGH_CALLS = 5
FAILING_SHARE = 0.5
_FAILED = ("not_sent", "unknown")
"""Outcomes that are the server's: any other means that it answered."""


@dataclass(slots=True)
class _Lately:
    batches: deque[tuple[float, int, int]] = field(default_factory=deque[tuple[float, int, int]])


class CallSignals:
    """Follows the records of calls."""

    def __init__(self) -> None:
        self._last_id: int | None = None
        self._lately: dict[str, _Lately] = {}

    async def read(self, session: Session, now: float) -> set[str]:
        """Take in what was recorded since the last time; gives the servers of which calls failed.

        Args:
            now: seconds of any clock that only goes forward.
        """
        newest = await session.scalar(select(func.max(CallRecord.id))) or 0
        since, self._last_id = self._last_id, newest
        if since is None or newest <= since:
            return set()
        found = (
            select(CallRecord.server_id, func.count(), func.sum(case((CallRecord.outcome.in_(_FAILED), 1), else_=0)))
            .where(CallRecord.id > since, CallRecord.id <= newest, CallRecord.outcome != "denied")
            .group_by(CallRecord.server_id)
        )
        failing: set[str] = set()
        for server_id, calls, failed in (await session.execute(found)).all():
            if server_id is not None:
                self._lately.setdefault(server_id, _Lately()).batches.append((now, calls, int(failed)))
                if failed:
                    failing.add(server_id)
        return failing

    def trouble(self, server_id: str, now: float) -> str | None:
        """What is to be said of a server of whose calls many failed lately."""
        lately = self._lately.get(server_id)
        if lately is None:
            return None
        while lately.batches and now - lately.batches[0][0] > WINDOW_SECONDS:
            lately.batches.popleft()
        if not lately.batches:
            del self._lately[server_id]
            return None
        calls = sum(batch[1] for batch in lately.batches)
        failed = sum(batch[2] for batch in lately.batches)
        if calls < ENOUGH_CALLS or failed < calls * FAILING_SHARE:
            return None
        return f"{failed} of {calls} calls failed in the last minute."
