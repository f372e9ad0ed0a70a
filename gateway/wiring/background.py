"""What runs behind requests and calls in every process: the outbox's worker, and the monitor of servers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.core.outbox import OutboxWorker, Retries
from registry.health.monitor import Monitor
from registry.notifications.service import TOPIC

if TYPE_CHECKING:
    from gateway.wiring.data_path import DataPath
    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services

NOTIFICATIONS = Retries(most=8, first_seconds=2.0, last_seconds=600.0, within=30.0)


class Background:
    """The work, with its beginning and end."""

    def __init__(self, ground: Ground, services: Services, path: DataPath) -> None:
        database, clock, events = ground.database, ground.clock, ground.events
        self.outbox = OutboxWorker(database, clock, events)
        self.outbox.handle(TOPIC, partial(services.notifications.deliver, database), NOTIFICATIONS)
        self._monitor = Monitor(database, services.book, path.checker, clock, events)

    def start(self) -> None:
        self.outbox.start()
        self._monitor.start()

    async def stop(self) -> None:
        await self._monitor.stop()
        await self.outbox.stop()
