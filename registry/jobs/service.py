"""Jobs as people see them: which wait, which are dead and why, and a second chance for those.

Putting jobs and carrying them out is `registry.core.outbox`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Select, func, select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, as_uuid
from registry.core.errors import Conflict, NotFound
from registry.core.outbox import OutboxJob, revive
from registry.identity.principal import Principal

READ = "jobs:read"
MANAGE = "jobs:manage"

Status = Literal["waiting", "done", "dead"]


class JobNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Job not found")


class JobNotDead(Conflict):
    def __init__(self, status: str) -> None:
        super().__init__(f"This job is {status}: only a dead one can be replayed.")


class JobView(BaseModel):
    """One job.

    Args:
        due_at: when it is tried next; while it is carried out, when it would be if nothing were heard of it.
        last_error: of the latest attempt, where that failed.
    """

    id: str
    org_id: str | None
    topic: str
    payload: dict[str, Any]
    status: str
    attempts: int
    due_at: datetime
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class JobsView(BaseModel):
    jobs: list[JobView]
    total: int
    limit: int
    offset: int


def job_view(job: OutboxJob) -> JobView:
    return JobView.model_validate(job, from_attributes=True)


def _visible(principal: Principal) -> Select[OutboxJob]:
    """The organisation's jobs; all of them for an operator."""
    statement = select(OutboxJob)
    return statement if principal.operates else statement.where(OutboxJob.org_id == principal.org_id)


class JobService:
    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def list(
        self,
        session: Session,
        principal: Principal,
        *,
        status: Status | None = None,
        topic: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> JobsView:
        """Newest first."""
        principal.require(READ)
        found = _visible(principal)
        if status is not None:
            found = found.where(OutboxJob.status == status)
        if topic is not None:
            found = found.where(OutboxJob.topic == topic)
        total = await session.scalar(select(func.count()).select_from(found.subquery()))
        rows = await session.scalars(
            found.order_by(OutboxJob.created_at.desc(), OutboxJob.id).limit(limit).offset(offset)
        )
        return JobsView(jobs=[job_view(row) for row in rows], total=total or 0, limit=limit, offset=offset)

    async def get(self, session: Session, principal: Principal, job_id: str) -> OutboxJob:
        principal.require(READ)
        found = await session.scalar(_visible(principal).where(OutboxJob.id == as_uuid(job_id)))
        if found is None:
            raise JobNotFound
        return found

    async def replay(self, session: Session, principal: Principal, job_id: str) -> OutboxJob:
        """Have a dead job tried again, with all its attempts before it. Raises `JobNotDead` for any other."""
        principal.require(MANAGE)
        job = await self.get(session, principal, job_id)
        if job.status != "dead":
            raise JobNotDead(job.status)
        await revive(session, job, self._clock.now())
        await self._audit.record(session, principal, "jobs.replay", target=("job", job.id), detail={"topic": job.topic})
        return job
