"""What is told of teams."""

from __future__ import annotations

from dataclasses import dataclass

from registry.servers.events import OffersChanged


@dataclass(frozen=True, slots=True)
class TeamsChanged(OffersChanged):
    """A team was added, changed or removed, or has other members: rules about it hold for others than before."""

    team_id: str
