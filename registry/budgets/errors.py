"""What can go wrong with budgets. Without SQL, so that the data path can know the refusal."""

from __future__ import annotations

from datetime import datetime

from registry.core.errors import Forbidden, GatehouseError, Invalid, NotFound


class BudgetExceeded(GatehouseError):
    """A limit refuses.

    Args:
        limit: the limit's name.
        resets_at: when its period ends.
        paused: it stays shut until somebody resumes it, also in the next period.
    """

    status = 402
    code = "BUDGET_EXCEEDED"
    title = "Payment Required"

    def __init__(self, limit: str, limit_id: str, resets_at: datetime, *, paused: bool = False) -> None:
        when = resets_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        until = "it is paused until somebody resumes it" if paused else f"it resets at {when}"
        super().__init__(
            f"The budget limit {limit!r} is used up: {until}.",
            details={"limit": limit, "limit_id": limit_id, "resets_at": when, "paused": paused},
        )


class LimitNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Budget limit not found")


class LimitInvalid(Invalid):
    pass


class GlobalNeedsOperator(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "A global limit holds for all organisations and needs the permission gateway:operate: "
            "use the scope organization for your own."
        )


class LeaseLost(GatehouseError):
    """This process was taken for dead: what it held has been booked as spent, and it must begin anew."""

    code = "LEASE_LOST"
    title = "Lease lost"
