"""Budgets: a call reserves what it may cost before it is forwarded, and what it did cost is booked afterwards.

Which limits there are and what is left of them is behind `Budgets`, whose memory answers most calls at once. What is
never held back is `Attempt.never_held`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError
from registry.budgets.errors import BudgetExceeded
from registry.budgets.units import tokens_in
from registry.core.errors import Unavailable

if TYPE_CHECKING:
    from gateway.mcp.catalog import ServerEntry
    from gateway.mcp.policies.policy import Attempt

NOT_CHARGED = frozenset({"denied", "not_sent"})
"""Outcomes of calls that the server has not seen; an unknown one it may have."""
_EMPTY = msgspec.Raw()

Held = list[Any]
"""What a call has reserved. Only `Budgets` looks into it."""


class Budgets(Protocol):
    """Reserves for calls, by who calls what, in dollars and estimated tokens."""

    def reserve(
        self, org_id: str, user_id: str | None, key_id: int | None, server_id: str, tool: str | None,
        usd: float, tokens: int,
    ) -> Held | None:  # fmt: skip
        """Reserve at once; `None` if that needs a wait, by `reserve_later`. Raises `BudgetExceeded`."""
        ...

    async def reserve_later(
        self, org_id: str, user_id: str | None, key_id: int | None, server_id: str, tool: str | None,
        usd: float, tokens: int,
    ) -> Held:  # fmt: skip
        """Reserve, waiting where needed. Raises `BudgetExceeded`, or `Unavailable` when nobody can tell."""
        ...

    def settle(self, held: Held, usd: float, tokens: int) -> None:
        """Book what the call has cost."""
        ...

    def release(self, held: Held) -> None:
        """Nothing was used."""
        ...


class BudgetPolicy:
    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        server, entry, principal = attempt.server, attempt.entry, attempt.principal
        # Completions, which clients ask for as one types, are free.
        if attempt.never_held or attempt.method == "completion/complete":
            return None
        tool = entry.name if entry is not None and attempt.method == "tools/call" else None
        usd = price(server, tool)
        tokens = tokens_in(len(attempt.params.get("arguments", _EMPTY)))
        try:
            held = self._budgets.reserve(
                principal.org_id, principal.user_id, principal.key_id, server.id, tool, usd, tokens
            )
        except BudgetExceeded as error:
            raise refusal(error) from None
        if held is None:
            return self._wait(attempt, tool, usd, tokens)
        attempt.budget, attempt.cost_usd = held, usd
        return None

    async def _wait(self, attempt: Attempt, tool: str | None, usd: float, tokens: int) -> None:
        principal = attempt.principal
        try:
            attempt.budget = await self._budgets.reserve_later(
                principal.org_id, principal.user_id, principal.key_id, attempt.server.id, tool, usd, tokens
            )
            attempt.cost_usd = usd
        except BudgetExceeded as error:
            raise refusal(error) from None
        except Unavailable as error:
            data = {"code": error.code, "server": attempt.server.slug}
            raise ProtocolError(protocol.NOT_SENT, error.message, data=data) from None

    def settle(self, attempt: Attempt, outcome: str) -> None:
        held, attempt.budget = attempt.budget, None
        if outcome in NOT_CHARGED:
            attempt.cost_usd = 0.0
            if held:
                self._budgets.release(held)
        elif held:
            self._budgets.settle(held, attempt.cost_usd, tokens_in(attempt.bytes_in + attempt.bytes_out))


def price(server: ServerEntry, tool: str | None) -> float:
    """Dollars for one call: the tool's own price, else its server's."""
    prices: Mapping[str, float] = server.prices
    return prices.get(tool, server.price_usd) if tool is not None and prices else server.price_usd


def refusal(error: BudgetExceeded) -> ProtocolError:
    return ProtocolError(protocol.BUDGET_EXCEEDED, error.message, data={"code": error.code, **error.details})
