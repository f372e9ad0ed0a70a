"""Tools for usage: `usage_summary`, `usage_calls`, and `metrics_query` for sums by group; see `registry.usage`."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.usage.queries import CallFilter
from registry.usage.service import READ, UsageService
from registry.usage.views import CallView, GroupBy, Usage, UsageGroup


class WhichCalls(Arguments):
    since: AwareDatetime | None = Field(default=None, description="Calls that began then or later.")
    until: AwareDatetime | None = Field(default=None, description="Calls that began before.")
    server: str | None = Field(default=None, description="Slug of the server.")
    name: str | None = Field(default=None, description="Name of the tool or prompt, or URI of the resource.")
    outcome: str | None = Field(default=None, description="ok, tool_error, error, denied, not_sent or unknown.")
    user_id: str | None = None
    key_id: int | None = Field(default=None, ge=0, le=2**31 - 1)

    def filter(self) -> CallFilter:
        return CallFilter(**{name: getattr(self, name) for name in WhichCalls.model_fields})


class Groups(WhichCalls):
    group_by: GroupBy = Field(default="tool", description="What the calls of one group have in common.")
    limit: int = Field(default=50, ge=1, le=500)


class Page(WhichCalls):
    limit: int = Field(default=50, ge=1, le=200)
    offset: int = Field(default=0, ge=0, le=1_000_000_000)


class GroupedUsage(BaseModel):
    group_by: GroupBy
    groups: list[UsageGroup]


class CallPage(BaseModel):
    calls: list[CallView]
    total: int
    limit: int
    offset: int


class UsageTools:
    def __init__(self, database: Database, usage: UsageService) -> None:
        self._database = database
        self._usage = usage

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "usage_summary",
                "Usage in sum",
                "Sum up the calls through the gateway: how many, errors, bytes, estimated tokens, cost, durations.",
                READ,
                WhichCalls,
                self._summary,
                read_only=True,
            ),
            Tool(
                "metrics_query",
                "Usage by group",
                "The same sums by server, tool, user, key or outcome, or over time by hour or day.",
                READ,
                Groups,
                self._groups,
                read_only=True,
            ),
            Tool(
                "usage_calls",
                "List calls",
                "List single calls, newest first, with their outcome, duration, size and cost.",
                READ,
                Page,
                self._calls,
                read_only=True,
            ),
        ]

    async def _summary(self, principal: Principal, wanted: WhichCalls) -> Usage:
        async with self._database.reading() as session:
            return await self._usage.summary(session, principal, wanted.filter())

    async def _groups(self, principal: Principal, wanted: Groups) -> GroupedUsage:
        by = wanted.group_by
        async with self._database.reading() as session:
            groups = await self._usage.grouped(session, principal, wanted.filter(), by, limit=wanted.limit)
        return GroupedUsage(group_by=by, groups=groups)

    async def _calls(self, principal: Principal, wanted: Page) -> CallPage:
        page = {"limit": wanted.limit, "offset": wanted.offset}
        async with self._database.reading() as session:
            found, total = await self._usage.calls(session, principal, wanted.filter(), **page)
        return CallPage(calls=found, total=total, **page)
