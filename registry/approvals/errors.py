"""What can go wrong with approvals."""

from __future__ import annotations

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound


class RuleInvalid(Invalid):
    pass


class RuleNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such approval rule.")


class ApprovalNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such approval.")


class ApprovalClosed(Conflict):
    def __init__(self, status: str) -> None:
        super().__init__(f"It cannot be decided any more: it is {status}.", details={"status": status})


class OwnApproval(Forbidden):
    def __init__(self) -> None:
        super().__init__("A call is not decided by the key or person that made it: somebody else must.")
