"""Pins in the Registry API: what a server offers that waits for a person, and the decision. Our own routes."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.pins.service import PinService, Status
from registry.pins.views import PinsView, PinView, pin_view

PINS = Limit("pins", 100, 60, "user")


class DecisionBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digest: str | None = Field(None, description="held_digest of what was looked at: refused if it changed since.")


def router(front: Front, pins: PinService) -> APIRouter:
    api = front.router(tags=["Pins"], limit=PINS)

    @api.get("/v1/mcp/servers/{server_id}/pins")
    async def list_pins(server_id: str, session: Session, caller: Caller, status: Status = "held") -> PinsView:
        found = await pins.list(session, caller, server_id, status)
        return PinsView(pins=[pin_view(pin) for pin in found], total=len(found))

    @api.post("/v1/mcp/servers/{server_id}/pins/{pin_id}/approve")
    async def approve_pin(
        server_id: str, pin_id: str, session: Session, caller: Caller, body: DecisionBody | None = None
    ) -> PinView:
        return pin_view(await pins.approve(session, caller, server_id, pin_id, body.digest if body else None))

    @api.post("/v1/mcp/servers/{server_id}/pins/{pin_id}/keep")
    async def keep_pin(
        server_id: str, pin_id: str, session: Session, caller: Caller, body: DecisionBody | None = None
    ) -> PinView:
        return pin_view(await pins.keep(session, caller, server_id, pin_id, body.digest if body else None))

    return api
