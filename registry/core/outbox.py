"""The outbox: work that is promised in a transaction and carried out after it, at least once, by any process.

`put` writes a job into the transaction of what causes it, so that there is neither one without the other. A worker
claims a job by moving its due time to the end of a lease: of a process that dies nothing must be cleaned up, its jobs
are due again. What fails is tried again, ever later, and is dead in the end; `revive` brings it back. Jobs have no
order among each other, and a handler must bear being given one twice. Periodic work has `registry.core.leases`; who
may see and replay jobs is `registry.jobs`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Index, String, Text, Uuid, and_, delete, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.clock import Clock
from registry.core.db import Base, Database, Session, UuidKey, emit, new_id
from registry.core.errors import GatehouseError
from registry.core.events import Event, EventBus

log = structlog.get_logger(__name__)

AT_ONCE = 16
POLL_SECONDS = 2.0
"""How soon a worker sees what another process has put, or what is due again; its own process's jobs it sees at once."""
MARGIN_SECONDS = 30.0
"""By how much a lease outlives the time that its job may take."""
TOO_LONG = 2000
"""Characters of an error that are kept."""
PURGE_SECONDS = 3600.0
KEEP_DONE = timedelta(days=7)
KEEP_DEAD = timedelta(days=30)


class OutboxJob(UuidKey, Base):
    """One job."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_status_due_at", "status", "due_at"),)

    org_id: Mapped[str | None] = mapped_column(Uuid(as_uuid=False), index=True)
    topic: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    """Never a secret: it is shown to whoever may see jobs."""
    status: Mapped[str] = mapped_column(String(8))
    """`waiting` (also while it is carried out), `done` or `dead`."""
    attempts: Mapped[int]
    due_at: Mapped[datetime]
    holder: Mapped[str | None] = mapped_column(String(36))
    """Whose attempt is the latest."""
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class JobPut(Event):
    """A job was put, or brought back."""

    topic: str


class JobRefused(GatehouseError):
    """Raised by a handler for what no further attempt can mend: the job is dead at once."""

    code = "JOB_REFUSED"
    title = "Job refused"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its handler gets it.

    Args:
        attempt: 1 for the first.
    """

    id: str
    org_id: str | None
    topic: str
    payload: dict[str, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when a job is tried.

    Args:
        most: attempts, the first included.
        first_seconds, last_seconds: pauses after the first and before the last attempts; they double in between.
        within: seconds that an attempt may take.
    """

    most: int = 8
    first_seconds: float = 2.0
    last_seconds: float = 600.0
    within: float = 30.0

    def pause(self, attempts: int) -> float:
        """Seconds until the next attempt; up to half of it is left to chance, so that failures spread."""
        whole = min(self.last_seconds, self.first_seconds * 2.0 ** min(attempts - 1, 30))
        return whole * random.uniform(0.5, 1)  # noqa: S311 - spreads load, keeps no secret


Handler = Callable[[Job], Awaitable[None]]
DEFAULT_RETRIES = Retries()


async def put(session: Session, topic: str, payload: dict[str, Any], *, org_id: str | None, now: datetime) -> str:
    """Promise a job with the session's transaction; gives its id.

    Args:
        payload: JSON; never a secret.
        org_id: whose job it is; `None` for the gateway's own.
    """
    job = OutboxJob(
        id=new_id(),
        org_id=org_id,
        topic=topic,
        payload=payload,
        status="waiting",
        attempts=0,
        due_at=now,
        created_at=now,
    )
    session.add(job)
    await session.flush()
    emit(session, JobPut(topic))
    return job.id


async def revive(session: Session, job: OutboxJob, now: datetime) -> None:
    """Have a dead job tried again, as if it had never been."""
    job.status, job.attempts, job.due_at, job.holder, job.finished_at = "waiting", 0, now, None, None
    await session.flush()
    emit(session, JobPut(job.topic))


class OutboxWorker:
    """Carries out the jobs of the topics that it has handlers for. Every process may have one."""

    def __init__(self, database: Database, clock: Clock, events: EventBus) -> None:
        self._database = database
        self._clock = clock
        self._handlers: dict[str, tuple[Handler, Retries]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._purge_at = float("-inf")
        self._unsubscribe = events.subscribe(JobPut, lambda _put: self._wake.set())

    def handle(self, topic: str, handler: Handler, retries: Retries = DEFAULT_RETRIES) -> None:
        """Have jobs of `topic` carried out by `handler`, which raises if it could not."""
        self._handlers[topic] = handler, retries

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel what is under way; it is due again at the end of its lease."""
        self._unsubscribe()
        tasks = [*self._running, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def tick(self) -> int:
        """Begin the jobs that are due, as many as there is room for; gives how many."""
        room = AT_ONCE - len(self._running)
        jobs = await self._claim(room) if room > 0 else []
        for job in jobs:
            task = asyncio.create_task(self._carry_out(job))
            self._running.add(task)
            task.add_done_callback(self._finished)
        return len(jobs)

    async def idle(self) -> None:
        """Return when nothing is under way."""
        await asyncio.gather(*self._running)

    async def purge(self) -> None:
        """Forget what has been done a week ago, or dead for a month."""
        now = self._clock.now()
        old = or_(
            and_(OutboxJob.status == "done", OutboxJob.finished_at <= now - KEEP_DONE),
            and_(OutboxJob.status == "dead", OutboxJob.finished_at <= now - KEEP_DEAD),
        )
        async with self._database.transaction() as session:
            await session.execute(delete(OutboxJob).where(old))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
                if self._clock.monotonic() >= self._purge_at:
                    self._purge_at = self._clock.monotonic() + PURGE_SECONDS
                    await self.purge()
            except Exception:
                log.warning("jobs cannot be read, trying later", exc_info=True)
            await self._rest()

    async def _rest(self) -> None:
        pause = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({pause, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (pause, woken):
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
        self._wake.clear()

    async def _claim(self, most: int) -> list[tuple[Job, str]]:
        now = self._clock.now()
        due = [OutboxJob.status == "waiting", OutboxJob.due_at <= now, OutboxJob.topic.in_(self._handlers)]
        async with self._database.reading() as session:
            # Asking first keeps an idle worker from taking the write lock again and again.
            if await session.scalar(select(OutboxJob.id).where(*due).limit(1)) is None:
                return []
        longest = max(retries.within for _, retries in self._handlers.values())
        holder = new_id()
        ids = select(OutboxJob.id).where(*due).order_by(OutboxJob.due_at).limit(most).with_for_update(skip_locked=True)
        claim = (
            update(OutboxJob)
            .where(OutboxJob.id.in_(ids))
            .values(
                holder=holder,
                attempts=OutboxJob.attempts + 1,
                due_at=now + timedelta(seconds=longest + MARGIN_SECONDS),
            )
            .returning(OutboxJob.id, OutboxJob.org_id, OutboxJob.topic, OutboxJob.payload, OutboxJob.attempts)
            .execution_options(synchronize_session=False)
        )
        async with self._database.transaction() as session:
            rows = (await session.execute(claim)).all()
        return [(Job(*row), holder) for row in rows]

    async def _carry_out(self, claimed: tuple[Job, str]) -> None:
        job, holder = claimed
        handler, retries = self._handlers[job.topic]
        error: str | None = None
        dead = False
        try:
            async with asyncio.timeout(retries.within):
                await handler(job)
        except JobRefused as refused:
            error, dead = refused.message, True
        except TimeoutError:
            error = f"It took more than {retries.within:g} s."
        except GatehouseError as failure:
            error = failure.message
        except Exception as failure:
            log.exception("a job failed", topic=job.topic, job_id=job.id)
            error = f"{type(failure).__name__}: {failure}"
        try:
            await self._settle(job, holder, retries, error, dead=dead or job.attempt >= retries.most)
        except Exception:
            log.warning("the end of a job could not be noted: it is tried again", job_id=job.id, exc_info=True)

    async def _settle(self, job: Job, holder: str, retries: Retries, error: str | None, *, dead: bool) -> None:
        now = self._clock.now()
        values: dict[str, Any] = {"last_error": error[:TOO_LONG] if error else None}
        if error is None:
            values |= {"status": "done", "finished_at": now}
        elif dead:
            values |= {"status": "dead", "finished_at": now}
            log.warning("a job is dead", topic=job.topic, job_id=job.id, error=error)
        else:
            values["due_at"] = now + timedelta(seconds=retries.pause(job.attempt))
        # Somebody else may have claimed it since: then the end is theirs to note.
        mine = update(OutboxJob).where(OutboxJob.id == job.id, OutboxJob.holder == holder)
        async with self._database.transaction() as session:
            await session.execute(mine.values(**values).execution_options(synchronize_session=False))
