"""How long to leave a server alone that keeps failing: a pause that doubles, and is forgotten after a steady while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.core.clock import Clock

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
"""What has come back is used again within 10 seconds."""
STEADY_SECONDS = 60.0
"""What has lived this long is not held to have been failing."""


class Backoff:
    """The failures of one thing that is started again and again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = 0.0
        self._pause = 0.0
        self._not_before = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the next start may be tried; not positive if it may be now."""
        return self._not_before - self._clock.monotonic()

    def started(self) -> None:
        self._started_at = self._clock.monotonic()

    def failed(self) -> None:
        """It could not be started, or has died."""
        now = self._clock.monotonic()
        steady = now - self._started_at > STEADY_SECONDS
        self._pause = 0.0 if steady else min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._not_before = now + self._pause
