"""Tools for the emergency stop: `emergency_pause`, `emergency_resume`, `emergency_status`; see `registry.emergency`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.emergency.service import MANAGE, READ, EmergencyService
from registry.emergency.stop import Scope, Stop
from registry.identity.principal import Principal


class Pause(Arguments):
    scope: Scope = Field(default="organization", description="The caller's organisation, or the whole gateway.")
    reason: str | None = Field(
        default=None, min_length=1, max_length=2000, description="Why; shown to everyone refused."
    )


class Resume(Arguments):
    scope: Scope = Field(default="organization", description="The caller's organisation, or the whole gateway.")
    reason: str | None = Field(default=None, min_length=1, max_length=2000, description="Why it is over.")


class Status(Arguments):
    pass


class StopView(BaseModel):
    id: str
    scope: Scope
    reason: str
    paused_by: str
    paused_at: datetime


class EmergencyState(BaseModel):
    paused: bool
    stops: list[StopView]


class EmergencyTools:
    """The tools' bodies: each is one transaction around one call of the service, and tells the state after it."""

    def __init__(self, database: Database, emergency: EmergencyService) -> None:
        self._database = database
        self._emergency = emergency

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "emergency_pause",
                "Emergency stop",
                "Stop everything at once: every call under way is cancelled and every new one refused, until somebody "
                "resumes. For when agents do harm.",
                MANAGE,
                Pause,
                self._pause,
                destructive=True,
                idempotent=True,
            ),
            Tool(
                "emergency_resume",
                "End the emergency stop",
                "Let calls pass again after an emergency stop.",
                MANAGE,
                Resume,
                self._resume,
                idempotent=True,
            ),
            Tool(
                "emergency_status",
                "State of the emergency stop",
                "Tell whether an emergency stop is in force, since when, by whom and why.",
                READ,
                Status,
                self._status,
                read_only=True,
            ),
        ]

    async def _pause(self, principal: Principal, wanted: Pause) -> EmergencyState:
        async with self._database.transaction() as session:
            await self._emergency.pause(session, principal, wanted.scope, wanted.reason)
            return _state(await self._emergency.status(session, principal))

    async def _resume(self, principal: Principal, wanted: Resume) -> EmergencyState:
        async with self._database.transaction() as session:
            await self._emergency.resume(session, principal, wanted.scope, wanted.reason)
            return _state(await self._emergency.status(session, principal))

    async def _status(self, principal: Principal, _wanted: Status) -> EmergencyState:
        async with self._database.reading() as session:
            return _state(await self._emergency.status(session, principal))


def _state(stops: Sequence[Stop]) -> EmergencyState:
    views = [
        StopView(id=stop.id, scope=stop.scope, reason=stop.reason, paused_by=stop.by, paused_at=stop.since)
        for stop in stops
    ]
    return EmergencyState(paused=bool(views), stops=views)
