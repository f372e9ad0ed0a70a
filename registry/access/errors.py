"""What can go wrong with access rules."""

from __future__ import annotations

from registry.core.errors import Invalid, NotFound


class AccessRuleInvalid(Invalid):
    """A rule that could not do what it says."""


class AccessRuleNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Access rule not found")
