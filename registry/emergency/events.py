"""What is told when an emergency stop begins and ends."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event
from registry.emergency.stop import Stop


@dataclass(frozen=True, slots=True)
class EmergencyStopped(Event):
    """Published once per stop, by the process that was asked for it."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class EmergencyResumed(Event):
    """Published once per stop that was ended, by the process that was asked for it."""

    stop: Stop
    by: str
