"""What budgets count in. The ledger holds whole numbers of each unit's smallest part, so that sums are exact."""

from __future__ import annotations

from typing import Literal, get_args

from registry.core.errors import Invalid

Unit = Literal["usd", "calls", "tokens", "minutes"]
UNITS: tuple[Unit, ...] = get_args(Unit)

SCALE: dict[Unit, int] = {"usd": 10**9, "calls": 1, "tokens": 1, "minutes": 10**6}
"""Smallest parts in one unit: a billionth of a dollar is the finest price a server can have."""

MOST = 10**18
"""In smallest parts: sums of these still fit the database's integers."""

_NAMED: dict[str, Unit] = {unit: unit for unit in UNITS}

BYTES_PER_TOKEN = 4
"""The usual estimate for English text and JSON."""


def unit_named(name: str) -> Unit:
    """A unit from a record."""
    return _NAMED[name]


def to_parts(unit: Unit, amount: float) -> int:
    """An amount in smallest parts. Raises `Invalid` for one that is not a count of them, or too large."""
    parts = round(amount * SCALE[unit])
    if not 0 <= parts <= MOST:
        raise Invalid(f"The amount must be between 0 and {MOST // SCALE[unit]} {unit}.", field="amount")
    if SCALE[unit] == 1 and parts != amount:
        raise Invalid(f"An amount of {unit} is a whole number.", field="amount")
    return parts


def from_parts(unit: Unit, parts: int) -> float:
    return parts / SCALE[unit]


def tokens_in(size: int) -> int:
    """Estimated tokens in so many bytes."""
    return -(-size // BYTES_PER_TOKEN)
