"""Events of sets: the data path's catalog listens."""

from __future__ import annotations

from dataclasses import dataclass

from registry.servers.events import OffersChanged


@dataclass(frozen=True, slots=True)
class SetChanged(OffersChanged):
    """A set was created, changed or removed."""

    slug: str
