"""Where servers stand right now, for those who follow it: one query for many servers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from registry.core.db import Session
from registry.servers.models import Server


@dataclass(frozen=True, slots=True)
class Standing:
    """Args: at: of the latest check, in ISO 8601; `None` before the first."""

    org_id: str
    status: str
    at: str | None
    response_time_ms: float | None


async def standings(session: Session, server_ids: Collection[str]) -> dict[str, Standing]:
    """Those of the servers that are there, by their ids."""
    columns = (Server.id, Server.org_id, Server.health_status, Server.health)
    found = select(*columns).where(Server.id.in_(server_ids), Server.deleted_at.is_(None))
    return {
        server_id: Standing(org_id, status, health.get("last_check_at"), health.get("response_time_ms"))
        for server_id, org_id, status, health in (await session.execute(found)).all()
    }
