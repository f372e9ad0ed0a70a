"""Our own routes of usage: sums over calls, by group, and the calls themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.route import Caller, Front, Session
from registry.usage.queries import CallFilter
from registry.usage.service import UsageService
from registry.usage.views import CallView, GroupBy, Usage, UsageGroup


class GroupsAnswer(BaseModel):
    by: GroupBy
    groups: list[UsageGroup]


class CallsAnswer(BaseModel):
    calls: list[CallView]
    total: int
    limit: int
    offset: int


def _filter(
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    server: Annotated[str | None, Query(max_length=64)] = None,
    name: Annotated[str | None, Query(max_length=2000)] = None,
    outcome: Annotated[str | None, Query(max_length=20)] = None,
    user_id: Annotated[str | None, Query(max_length=36)] = None,
    key_id: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    method: Annotated[str | None, Query(max_length=64)] = None,
) -> CallFilter:
    return CallFilter(since, until, server, name, outcome, user_id, key_id, method)


Filter = Annotated[CallFilter, Depends(_filter)]


def router(front: Front, usage: UsageService) -> APIRouter:
    api = front.router(tags=["Usage"])

    @api.get("/v1/usage/summary")
    async def usage_summary(session: Session, caller: Caller, wanted: Filter) -> Usage:
        return await usage.summary(session, caller, wanted)

    @api.get("/v1/usage/groups")
    async def usage_groups(
        session: Session,
        caller: Caller,
        wanted: Filter,
        by: GroupBy,
        limit: PageLimit = 100,
    ) -> GroupsAnswer:
        return GroupsAnswer(by=by, groups=await usage.grouped(session, caller, wanted, by, limit=limit))

    @api.get("/v1/usage/calls")
    async def usage_calls(
        session: Session,
        caller: Caller,
        wanted: Filter,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> CallsAnswer:
        found, total = await usage.calls(session, caller, wanted, limit=limit, offset=offset)
        return CallsAnswer(calls=found, total=total, limit=limit, offset=offset)

    return api
