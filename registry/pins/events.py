"""What is told of pins."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class DefinitionHeld(Event):
    """A server offers something that waits for a person."""

    org_id: str
    server_id: str
    pin_id: str
    kind: str
    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DefinitionApproved(Event):
    """A held definition was approved, or the approved one kept."""

    org_id: str
    server_id: str
    pin_id: str
    kept: bool
