"""Budgets in the Agents API: summary, spending, timeline and limits; and the price of a tool, our own route.

Source: `mission-control.md`, Budget & Analytics and Budget Limits, whose budget checks are unlimited: only what changes
something is counted.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.agents.shared import PAGE_LIMIT, REQUESTS, WORDS, Page
from gateway.api.shared.paging import ShortPageLimit
from gateway.api.shared.route import Caller, Front, Session
from registry.budgets.errors import LimitInvalid
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
from registry.servers.prices import MOST_USD, PriceService

Amount = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]


class CreateBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    scope_type: ScopeType = "organization"
    scope_id: str | None = Field(None, max_length=300)
    amount_usd: Amount | None = None
    amount: Amount | None = None
    unit: Unit = "usd"
    period: PeriodName = "daily"
    alert_threshold: float = Field(0.8, gt=0, le=1)
    action_on_exceed: Action = "warn"


class UpdateBody(BaseModel):
    """What a limit is for, and its unit, stay: make another for another."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200)
    amount_usd: Amount | None = None
    amount: Amount | None = None
    period: PeriodName | None = None
    alert_threshold: float | None = Field(None, gt=0, le=1)
    action_on_exceed: Action | None = None


class TimezoneBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    timezone: str = Field(min_length=1, max_length=64)


class DeletedAnswer(BaseModel):
    id: str
    message: str = "Budget limit deleted"


class PriceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    price_usd: float | None = Field(ge=0, le=MOST_USD, allow_inf_nan=False)


def router(front: Front, budgets: BudgetService) -> APIRouter:
    """What only reads."""
    api = front.router(tags=["Budget"], words=WORDS)

    @api.get("/api/v1/budget/summary")
    async def get_summary(session: Session, caller: Caller) -> Summary:
        return await budgets.summary(session, caller)

    @api.get("/api/v1/budget/by-project")
    async def get_by_project(
        session: Session, caller: Caller, start_date: date | None = None, end_date: date | None = None
    ) -> Spenders:
        return await budgets.spenders(session, caller, "project", start_date, end_date)

    @api.get("/api/v1/budget/by-agent")
    async def get_by_agent(
        session: Session, caller: Caller, start_date: date | None = None, end_date: date | None = None
    ) -> Spenders:
        return await budgets.spenders(session, caller, "agent", start_date, end_date)

    @api.get("/api/v1/budget/timeline")
    async def get_timeline(
        session: Session,
        caller: Caller,
        start_date: date | None = None,
        end_date: date | None = None,
        granularity: Granularity = "day",
    ) -> Timeline:
        return await budgets.timeline(session, caller, start_date, end_date, granularity)

    @api.get("/api/v1/budget/limits")
    async def list_limits(
        session: Session, caller: Caller, page: Page = 1, limit: ShortPageLimit = PAGE_LIMIT
    ) -> LimitPage:
        return await budgets.limits(session, caller, page=page, limit=limit)

    @api.get("/api/v1/budget/timezone")
    async def get_timezone(session: Session, caller: Caller) -> TimezoneView:
        return await budgets.timezone(session, caller)

    return api


def changing_router(front: Front, budgets: BudgetService) -> APIRouter:
    """What sets, changes, resumes and removes limits."""
    api = front.router(tags=["Budget"], limit=REQUESTS, words=WORDS)

    @api.post("/api/v1/budget/limits", status_code=201)
    async def create_limit(body: CreateBody, session: Session, caller: Caller) -> LimitView:
        amount = _amount(body.amount, body.amount_usd, body.unit)
        if amount is None:
            raise LimitInvalid("Give amount_usd, or amount and unit.", field="amount_usd")
        fields = body.model_dump(exclude={"amount", "amount_usd"})
        return await budgets.create_limit(session, caller, NewLimit(amount=amount, **fields))

    @api.patch("/api/v1/budget/limits/{limit_id}")
    async def update_limit(limit_id: str, body: UpdateBody, session: Session, caller: Caller) -> LimitView:
        unit: Literal["usd"] | None = "usd" if body.amount_usd is not None else None
        fields = body.model_dump(exclude={"amount", "amount_usd"})
        changes = LimitChanges(amount=_amount(body.amount, body.amount_usd, "usd"), amount_unit=unit, **fields)
        return await budgets.update_limit(session, caller, limit_id, changes)

    @api.post("/api/v1/budget/limits/{limit_id}/resume")
    async def resume_limit(limit_id: str, session: Session, caller: Caller) -> LimitView:
        return await budgets.resume_limit(session, caller, limit_id)

    @api.delete("/api/v1/budget/limits/{limit_id}")
    async def delete_limit(limit_id: str, session: Session, caller: Caller) -> DeletedAnswer:
        return DeletedAnswer(id=(await budgets.delete_limit(session, caller, limit_id)).id)

    @api.put("/api/v1/budget/timezone")
    async def set_timezone(body: TimezoneBody, session: Session, caller: Caller) -> TimezoneView:
        return await budgets.set_timezone(session, caller, body.timezone)

    return api


def prices_router(front: Front, prices: PriceService) -> APIRouter:
    api = front.router(tags=["Servers"])

    # A tool's name is its server's choice and may have slashes.
    @api.put("/v1/mcp/servers/{server_id}/tools/{tool:path}/price")
    async def set_tool_price(
        server_id: str, tool: str, body: PriceBody, session: Session, caller: Caller
    ) -> ToolPriceView:
        server = await prices.set_price(session, caller, server_id, tool, body.price_usd)
        return ToolPriceView(server_id=server.id, tool=tool, price_usd=body.price_usd)

    return api


def _amount(amount: float | None, amount_usd: float | None, unit: Unit) -> float | None:
    if amount is not None and amount_usd is not None:
        raise LimitInvalid("Give either amount_usd or amount, not both.", field="amount")
    if amount_usd is not None and unit != "usd":
        raise LimitInvalid(f"amount_usd is of dollars: give amount for a limit of {unit}.", field="amount_usd")
    return amount_usd if amount is None else amount
