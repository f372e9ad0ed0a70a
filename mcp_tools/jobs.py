"""Tools for jobs of the outbox: `jobs_list`, `jobs_get`, `jobs_replay`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.jobs.service import MANAGE, READ, JobService, JobsView, JobView, Status, job_view


class ListJobs(Arguments):
    status: Status | None = Field(None, description="waiting, done or dead; all when left out.")
    topic: str | None = None
    limit: int = Field(50, ge=1, le=1000)
    offset: int = Field(0, ge=0)


class OneJob(Arguments):
    id: str = Field(description="Of the job.")


class JobTools:
    def __init__(self, database: Database, jobs: JobService) -> None:
        self._database = database
        self._jobs = jobs

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "jobs_list",
                "List jobs",
                "List notifications and other work that is carried out behind requests: what waits, is done, or failed "
                "for good (dead), with the last error.",
                READ,
                ListJobs,
                self._list,
                read_only=True,
            ),
            Tool(
                "jobs_get",
                "Show a job",
                "Show how one piece of work behind requests stands, such as the cleanup after a removed server.",
                READ,
                OneJob,
                self._get,
                read_only=True,
            ),
            Tool(
                "jobs_replay",
                "Replay a dead job",
                "Have a job that failed for good tried again.",
                MANAGE,
                OneJob,
                self._replay,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListJobs) -> JobsView:
        async with self._database.reading() as session:
            return await self._jobs.list(session, principal, **wanted.model_dump())

    async def _get(self, principal: Principal, wanted: OneJob) -> JobView:
        async with self._database.reading() as session:
            return job_view(await self._jobs.get(session, principal, wanted.id))

    async def _replay(self, principal: Principal, wanted: OneJob) -> JobView:
        async with self._database.transaction() as session:
            return job_view(await self._jobs.replay(session, principal, wanted.id))
