"""Agents API, "Emergency": stop everything at once, and resume it.

Source: `mission-control.md`, Emergency; the body of the two and the status are our own.
"""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.agents.shared import WORDS
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.emergency.service import EmergencyService
from registry.emergency.stop import Scope, Stop

EMERGENCY = Limit("emergency", 100, 60, "address")
"""The document's limit, counted apart: other traffic of the same address must not use up the emergency stop."""


class EmergencyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: Scope = "organization"
    reason: str | None = Field(default=None, min_length=1, max_length=2000)


class StopAnswer(BaseModel):
    id: str
    scope: Scope
    org_id: str | None
    reason: str
    paused_by: str
    paused_at: datetime


class PausedAnswer(BaseModel):
    paused_agents: int = 0
    active_conversations: int = 0
    message: str = "All agents paused. Manual resume required."
    stop: StopAnswer


class ResumedAnswer(BaseModel):
    message: str
    resumed: StopAnswer | None
    still_paused: list[StopAnswer]


class StatusAnswer(BaseModel):
    paused: bool
    stops: list[StopAnswer]


def router(front: Front, emergency: EmergencyService) -> APIRouter:
    api = front.router(tags=["Emergency"], limit=EMERGENCY, words=WORDS)

    @api.post("/api/v1/emergency/pause-all")
    async def pause_all(session: Session, caller: Caller, body: EmergencyBody | None = None) -> PausedAnswer:
        wanted = body or EmergencyBody()
        return PausedAnswer(stop=_answer(await emergency.pause(session, caller, wanted.scope, wanted.reason)))

    @api.post("/api/v1/emergency/resume-all")
    async def resume_all(session: Session, caller: Caller, body: EmergencyBody | None = None) -> ResumedAnswer:
        wanted = body or EmergencyBody()
        ended = await emergency.resume(session, caller, wanted.scope, wanted.reason)
        return ResumedAnswer(
            message="All agents resumed." if ended is not None else "Nothing was paused.",
            resumed=None if ended is None else _answer(ended),
            still_paused=[_answer(stop) for stop in await emergency.status(session, caller)],
        )

    @api.get("/api/v1/emergency/status")
    async def emergency_status(session: Session, caller: Caller) -> StatusAnswer:
        found = await emergency.status(session, caller)
        return StatusAnswer(paused=bool(found), stops=[_answer(stop) for stop in found])

    return api


def _answer(stop: Stop) -> StopAnswer:
    return StopAnswer(
        id=stop.id,
        scope=stop.scope,
        org_id=stop.org_id,
        reason=stop.reason,
        paused_by=stop.by,
        paused_at=stop.since,
    )
