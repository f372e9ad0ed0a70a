"""The port to where legacy sessions are remembered beyond one process and its life.

A session's id says what was agreed when it was opened; the record says what has happened since, and most sessions
have none. Implementations: `registry.sessions.service` (the database) and `registry.sessions.redis`. None is on a
call's path: `gateway.mcp.sessions` reads when a process first sees a session that it has not just opened itself, and
writes behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from registry.sessions.patch import Fields, Patch


class SessionStore(Protocol):
    """Each process has one of its own, and all of them the same records. Any method raises what its vendor raises."""

    async def load(self, key: str) -> Fields | None:
        """The record of a session; `None` if there is none, or it has expired."""
        ...

    async def save(self, patches: Sequence[Patch]) -> Mapping[str, Fields]:
        """Apply patches, each wholly or not at all; gives the records as they are then."""
        ...

    async def changed(self, seconds: float) -> Mapping[str, Fields]:
        """The records that were changed in the latest so many seconds, by another process last."""
        ...

    async def close(self) -> None: ...
