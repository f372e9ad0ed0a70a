"""What a look at a server says about its health, and who is told: a port that `registry.health.book` implements."""

from __future__ import annotations

from typing import Protocol

from registry.core.clock import Clock
from registry.core.db import Session
from registry.servers.connection import Offer
from registry.servers.models import Server


class HealthKeeping(Protocol):
    async def looked(self, session: Session, server: Server, offer: Offer) -> None:
        """Write down how healthy a server was found; `health` and `health_status` of the record are its to set."""
        ...


class LastLook:
    """Keeps the latest look alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def looked(self, session: Session, server: Server, offer: Offer) -> None:
        server.health_status = "healthy" if offer.reachable else "unhealthy"
        server.health = {
            "last_check_at": self._clock.now().isoformat(),
            "response_time_ms": offer.response_time_ms,
            "error_message": offer.error,
            "checks": offer.checks,
        }
