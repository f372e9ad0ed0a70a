"""How often calls to one server may be repeated: a share of its calls, so that trouble is not multiplied.

Which calls may be repeated at all is the router's to say. Every call earns a tenth of a repetition, a few are there
from the start, and there is an end to saving.
"""

from __future__ import annotations

SHARE = 0.1
FIRST = 3.0
MOST = 10.0


class RetryBudget:
    """The repetitions left for one server."""

    __slots__ = ("left", "spent")

    def __init__(self) -> None:
        self.left = FIRST
        self.spent = 0

    def earn(self) -> None:
        """A call was made."""
        if self.left < MOST:
            self.left += SHARE

    def spend(self) -> bool:
        """Take one repetition, if there is one."""
        if self.left < 1:
            return False
        self.left -= 1
        self.spent += 1
        return True
