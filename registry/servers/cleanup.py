"""The cleanup after a removed server: what features keep for it goes, behind the request that removed it.

A server that is removed leaves every list at once (`ServerService.remove`), which puts a job of this topic into the
same transaction. What happened stays: records of calls, the audit log, alerts. What a feature keeps beside, it removes
itself, by a `Forget` that `gateway.wiring` gives; each has a transaction of its own, and must bear being called again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from registry.core import outbox
from registry.core.db import Database, Session
from registry.core.outbox import Job, JobRefused
from registry.servers.models import Server

if TYPE_CHECKING:
    from datetime import datetime

TOPIC = "servers.cleanup"
Forget = Callable[[Session, Server], Awaitable[None]]
"""Removes what is kept for a server; raises if that must wait."""


async def promise(session: Session, server: Server, now: datetime) -> str:
    """Have a removed server cleaned up after; gives the job's id."""
    return await outbox.put(session, TOPIC, {"server_id": server.id}, org_id=server.org_id, now=now)


class ServerCleanup:
    def __init__(self, database: Database, forget: Sequence[Forget]) -> None:
        self._database = database
        self._forget = forget

    async def carry_out(self, job: Job) -> None:
        """Carry out a job of `TOPIC`. Raises `JobRefused` for a server that has not been removed."""
        for forget in self._forget:
            async with self._database.transaction() as session:
                server = await session.get(Server, job.payload["server_id"])
                if server is None or server.deleted_at is None:
                    raise JobRefused("This server has not been removed.")
                await forget(session, server)
