"""What can go wrong with teams."""

from __future__ import annotations

from registry.core.errors import Conflict, Invalid, NotFound


class TeamNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Team not found")


class TeamNameTaken(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is a team {name!r} already: choose another name or change that one.")


class MemberUnknown(Invalid):
    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no user with the id {user_id!r} in the organisation.", field="user_id")


class NotAMember(NotFound):
    def __init__(self) -> None:
        super().__init__("This user is not in the team.")
