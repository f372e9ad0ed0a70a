"""What runs behind requests and calls in every process: the outbox's worker, and the monitor of servers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.core.outbox import OutboxWorker, Retries
from registry.health.monitor import Monitor
from registry.notifications.service import TOPIC
from registry.pins.queries import forget as forget_pins
from registry.servers.cleanup import TOPIC as CLEANUP
from registry.servers.cleanup import ServerCleanup
from registry.servers.queries import forget as forget_offer

if TYPE_CHECKING:
    from gateway.wiring.data_path import DataPath
    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services

NOTIFICATIONS = Retries(most=8, first_seconds=2.0, last_seconds=600.0, within=30.0)
CLEANUPS = Retries(most=30, first_seconds=1.0, last_seconds=600.0, within=60.0)
"""Longer than notices are tried, which the last step waits for."""


class Background:
    """The work, with its beginning and end."""

    def __init__(self, ground: Ground, services: Services, path: DataPath) -> None:
        database, clock, events = ground.database, ground.clock, ground.events
        self.outbox = OutboxWorker(database, clock, events)
        self.outbox.handle(TOPIC, partial(services.notifications.deliver, database), NOTIFICATIONS)
        kept = (
            services.accounts.forget,
            forget_pins,
            forget_offer,
            services.book.forget,
            services.notifications.forget,
        )
        self.outbox.handle(CLEANUP, ServerCleanup(database, kept).carry_out, CLEANUPS)
        self._monitor = Monitor(database, services.book, path.checker, clock, events)

    def start(self) -> None:
        self.outbox.start()
        self._monitor.start()

    async def stop(self) -> None:
        await self._monitor.stop()
        await self.outbox.stop()
