"""The health of the gateway itself: what it needs to work, and whether that is there.

The health of registered servers is kept with the servers.
"""

from __future__ import annotations

from typing import Literal

import structlog
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.version import VERSION

log = structlog.get_logger(__name__)

Status = Literal["healthy", "degraded", "unhealthy"]


class SystemHealth(BaseModel):
    """Source: `sprintconnect.md`, System Health; `checks` is ours.

    Args:
        timestamp: seconds since the epoch.
    """

    status: Status
    version: str
    timestamp: float
    checks: dict[str, str]


class HealthService:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def check(self) -> SystemHealth:
        database = "healthy" if await self._database_answers() else "unhealthy"
        return SystemHealth(
            status="healthy" if database == "healthy" else "unhealthy",
            version=VERSION,
            timestamp=self._clock.now().timestamp(),
            checks={"database": database},
        )

    async def _database_answers(self) -> bool:
        try:
            async with self._database.reading() as session:
                await session.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            log.exception("the database does not answer")
            return False
        return True
