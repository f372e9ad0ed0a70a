"""Tools for budgets: `budget_summary`, `budget_limits_create`, …; see `registry.budgets`."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.budgets.scopes import ScopeType
from registry.budgets.service import (
    Action,
    BudgetService,
    Granularity,
    LimitChanges,
    NewLimit,
    PeriodName,
)
from registry.budgets.units import Unit
from registry.budgets.views import LimitPage, LimitView, Spenders, Summary, Timeline, TimezoneView, ToolPriceView
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.servers.prices import MOST_USD, PriceService


class GetSummary(Arguments):
    pass


class Days(Arguments):
    start_date: date | None = Field(None, description="First day; 30 days before the last when left out.")
    end_date: date | None = Field(None, description="Last day; today when left out.")


class GetTimeline(Days):
    granularity: Granularity = "day"


class ListLimits(Arguments):
    page: int = Field(1, ge=1, le=1_000_000)
    limit: int = Field(20, ge=1, le=100)


class CreateLimit(Arguments):
    name: str = Field(min_length=1, max_length=200)
    amount: float = Field(ge=0, le=1e18, description="In the limit's unit.")
    unit: Unit = "usd"
    period: PeriodName = "daily"
    scope_type: ScopeType = Field("organization", description="Whose calls are counted.")
    scope_id: str | None = Field(
        None, max_length=300, description="Id of the user, key or server; server__tool for a tool."
    )
    alert_threshold: float = Field(0.8, gt=0, le=1, description="Tell when this fraction is spent.")
    action_on_exceed: Action = Field("warn", description="warn lets pass, block refuses, pause refuses until resumed.")


class OneLimit(Arguments):
    id: str = Field(description="The limit's id.")


class UpdateLimit(OneLimit):
    name: str | None = Field(None, min_length=1, max_length=200)
    amount: float | None = Field(None, ge=0, le=1e18, description="In the limit's unit.")
    period: PeriodName | None = None
    alert_threshold: float | None = Field(None, gt=0, le=1)
    action_on_exceed: Action | None = None


class SetPrice(Arguments):
    server: str = Field(description="Id or slug of the server.")
    tool: str = Field(description="The server's own name of the tool.")
    price_usd: float | None = Field(ge=0, le=MOST_USD, description="Dollars per call; null for the server's price.")


class GetTimezone(Arguments):
    pass


class SetTimezone(Arguments):
    timezone: str = Field(min_length=1, max_length=64, description="Like Europe/Berlin.")


class RemovedLimit(BaseModel):
    id: str
    removed: bool = True


class BudgetTools:
    """The tools' bodies: each is one transaction around one call of the service."""

    def __init__(self, database: Database, budgets: BudgetService, prices: PriceService) -> None:
        self._database = database
        self._budgets = budgets
        self._prices = prices

    def tools(self) -> list[Tool[Any]]:
        return [*self._reading(), *self._changing()]

    def _reading(self) -> list[Tool[Any]]:
        def tool(name: str, title: str, about: str, arguments: type[Any], run: Any) -> Tool[Any]:
            return Tool(name, title, about, "budgets:read", arguments, run, read_only=True)

        return [
            tool(
                "budget_summary",
                "Show spending",
                "Tell what was spent today, this week and this month, and which budget limits are close.",
                GetSummary,
                self._summary,
            ),
            tool(
                "budget_by_project",
                "Spending by project",
                "Tell what each project spent between two days.",
                Days,
                self._by_project,
            ),
            tool(
                "budget_by_agent",
                "Spending by agent",
                "Tell what each agent spent between two days.",
                Days,
                self._by_agent,
            ),
            tool(
                "budget_timeline",
                "Spending over time",
                "Tell what was spent on each day, or in each week or month.",
                GetTimeline,
                self._timeline,
            ),
            tool(
                "budget_limits_list",
                "List budget limits",
                "List the budget limits, each with what is spent and reserved, and when it resets.",
                ListLimits,
                self._list,
            ),
            tool(
                "budget_timezone_get",
                "Show the time zone of budgets",
                "Tell in which time zone the organisation's days, weeks and months begin.",
                GetTimezone,
                self._timezone,
            ),
        ]

    def _changing(self) -> list[Tool[Any]]:
        manage = "budgets:manage"
        return [
            Tool(
                "budget_limits_create",
                "Set a budget limit",
                "Limit what may be spent in each hour, day, week or month, in dollars, calls, tokens or minutes.",
                manage,
                CreateLimit,
                self._create,
            ),
            Tool(
                "budget_limits_update",
                "Change a budget limit",
                "Change a budget limit. What is left out stays as it is.",
                manage,
                UpdateLimit,
                self._update,
                idempotent=True,
            ),
            Tool(
                "budget_limits_resume",
                "Resume a budget limit",
                "Let calls pass again that a used-up limit has paused.",
                manage,
                OneLimit,
                self._resume,
                idempotent=True,
            ),
            Tool(
                "budget_limits_delete",
                "Remove a budget limit",
                "Remove a budget limit. What was spent under it stays on record.",
                manage,
                OneLimit,
                self._delete,
                destructive=True,
            ),
            Tool(
                "budget_timezone_set",
                "Set the time zone of budgets",
                "Say in which time zone the organisation's days, weeks and months begin.",
                manage,
                SetTimezone,
                self._set_timezone,
                idempotent=True,
            ),
            Tool(
                "budget_prices_set",
                "Price a tool",
                "Set what one call of a server's tool costs.",
                "mcp:servers:update",
                SetPrice,
                self._price,
                idempotent=True,
            ),
        ]

    async def _summary(self, principal: Principal, _wanted: GetSummary) -> Summary:
        async with self._database.reading() as session:
            return await self._budgets.summary(session, principal)

    async def _by_project(self, principal: Principal, wanted: Days) -> Spenders:
        async with self._database.reading() as session:
            return await self._budgets.spenders(session, principal, "project", wanted.start_date, wanted.end_date)

    async def _by_agent(self, principal: Principal, wanted: Days) -> Spenders:
        async with self._database.reading() as session:
            return await self._budgets.spenders(session, principal, "agent", wanted.start_date, wanted.end_date)

    async def _timeline(self, principal: Principal, wanted: GetTimeline) -> Timeline:
        async with self._database.reading() as session:
            return await self._budgets.timeline(
                session, principal, wanted.start_date, wanted.end_date, wanted.granularity
            )

    async def _list(self, principal: Principal, wanted: ListLimits) -> LimitPage:
        async with self._database.reading() as session:
            return await self._budgets.limits(session, principal, page=wanted.page, limit=wanted.limit)

    async def _create(self, principal: Principal, wanted: CreateLimit) -> LimitView:
        async with self._database.transaction() as session:
            return await self._budgets.create_limit(session, principal, NewLimit(**wanted.model_dump()))

    async def _update(self, principal: Principal, wanted: UpdateLimit) -> LimitView:
        changes = LimitChanges(**wanted.model_dump(exclude={"id"}))
        async with self._database.transaction() as session:
            return await self._budgets.update_limit(session, principal, wanted.id, changes)

    async def _resume(self, principal: Principal, wanted: OneLimit) -> LimitView:
        async with self._database.transaction() as session:
            return await self._budgets.resume_limit(session, principal, wanted.id)

    async def _delete(self, principal: Principal, wanted: OneLimit) -> RemovedLimit:
        async with self._database.transaction() as session:
            return RemovedLimit(id=(await self._budgets.delete_limit(session, principal, wanted.id)).id)

    async def _timezone(self, principal: Principal, _wanted: GetTimezone) -> TimezoneView:
        async with self._database.reading() as session:
            return await self._budgets.timezone(session, principal)

    async def _set_timezone(self, principal: Principal, wanted: SetTimezone) -> TimezoneView:
        async with self._database.transaction() as session:
            return await self._budgets.set_timezone(session, principal, wanted.timezone)

    async def _price(self, principal: Principal, wanted: SetPrice) -> ToolPriceView:
        async with self._database.transaction() as session:
            server = await self._prices.set_price(session, principal, wanted.server, wanted.tool, wanted.price_usd)
            return ToolPriceView(server_id=server.id, tool=wanted.tool, price_usd=wanted.price_usd)
