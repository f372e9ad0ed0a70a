"""Our own routes for jobs of the outbox: which wait, which are dead, and replaying those."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.route import Caller, Front, Session
from registry.jobs.service import JobService, JobsView, JobView, Status, job_view


def router(front: Front, jobs: JobService) -> APIRouter:
    api = front.router(tags=["Jobs"])

    @api.get("/v1/jobs")
    async def list_jobs(
        session: Session,
        caller: Caller,
        status: Status | None = None,
        topic: Annotated[str | None, Query(max_length=64)] = None,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> JobsView:
        return await jobs.list(session, caller, status=status, topic=topic, limit=limit, offset=offset)

    @api.get("/v1/jobs/{job_id}")
    async def get_job(job_id: str, session: Session, caller: Caller) -> JobView:
        return job_view(await jobs.get(session, caller, job_id))

    @api.post("/v1/jobs/{job_id}/replay")
    async def replay_job(job_id: str, session: Session, caller: Caller) -> JobView:
        return job_view(await jobs.replay(session, caller, job_id))

    return api
