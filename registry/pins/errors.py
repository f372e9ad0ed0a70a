"""What can go wrong with pins."""

from __future__ import annotations

from registry.core.errors import Conflict, NotFound


class PinNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such pin: list the server's pins.")


class NothingHeld(Conflict):
    def __init__(self) -> None:
        super().__init__("Nothing is held here: it has been decided already, or the server took its change back.")


class HeldChanged(Conflict):
    def __init__(self) -> None:
        super().__init__("The server has changed its definition again: look at the pin anew, then decide.")


class NothingToKeep(Conflict):
    def __init__(self) -> None:
        super().__init__("There is no approved definition that could be kept: approve this one, or leave it held.")
