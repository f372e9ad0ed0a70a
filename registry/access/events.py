"""What is told of access rules."""

from __future__ import annotations

from dataclasses import dataclass

from registry.servers.events import OffersChanged


@dataclass(frozen=True, slots=True)
class AccessRulesChanged(OffersChanged):
    """A rule was added or removed."""

    rule_id: str
