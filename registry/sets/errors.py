"""What can go wrong with sets."""

from __future__ import annotations

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound


class SetNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Set not found")


class SetSlugTaken(Conflict):
    def __init__(self, slug: str) -> None:
        super().__init__(f"There is a set {slug!r} already: choose another slug or update that one.")


class PublicSetSlugTaken(Conflict):
    def __init__(self, slug: str) -> None:
        super().__init__(
            f"Another organisation has a public set at /sets/{slug}/mcp: a public address names no organisation, so "
            "there can be only one. Create this set under another slug to make it public."
        )


class SetInvalid(Invalid):
    """A set that could not do what it says."""


class PublicSetNeedsOperator(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "Making a set public, or changing what a public set offers, needs the permission gateway:operate."
        )
