"""A pin as callers see it. REST and MCP tools show the same."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from registry.pins.digest import difference
from registry.pins.models import Pin


class PinView(BaseModel):
    id: str
    server_id: str
    kind: str
    name: str
    status: Literal["held", "approved"]
    digest: str | None = Field(description="Of the approved definition, which is the one that is served.")
    approved_at: datetime | None
    approved_by: str | None
    held_digest: str | None = Field(description="Of the definition that waits.")
    held_at: datetime | None
    reasons: list[str] = Field(description="Why it is held.")
    difference: str | None = Field(description="From the approved definition to the held one.")
    warnings: list[str]
    kept: bool = Field(description="The server says something else, and the approved text was kept.")


class PinsView(BaseModel):
    pins: list[PinView]
    total: int


def pin_view(pin: Pin) -> PinView:
    return PinView(
        id=pin.id,
        server_id=pin.server_id,
        kind=pin.kind,
        name=pin.name,
        status="approved" if pin.held_digest is None else "held",
        digest=pin.digest,
        approved_at=pin.approved_at,
        approved_by=pin.approved_by,
        held_digest=pin.held_digest,
        held_at=pin.held_at,
        reasons=pin.reasons,
        difference=None if pin.held_definition is None else difference(pin.definition, pin.held_definition),
        warnings=pin.warnings,
        kept=pin.kept_digest is not None,
    )
