"""What runs behind requests and calls in every process: the outbox's worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.core.outbox import OutboxWorker

if TYPE_CHECKING:
    from gateway.wiring.ground import Ground


class Background:
    """The work, with its beginning and end."""

    def __init__(self, ground: Ground) -> None:
        self.outbox = OutboxWorker(ground.database, ground.clock, ground.events)

    def start(self) -> None:
        self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()
