"""Events of sets: the data path's catalog listens."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class SetChanged(Event):
    """A set was created, changed or removed."""

    org_id: str
    slug: str
