"""Policies: what decides, before a call is forwarded, whether it may be, and is told afterwards how it ended.

A policy is a small object; the router asks each in order, once per call, and `gateway.app` chooses which there are.
They hold what they need in memory; one that must wait for something says so by what `admit` returns.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.mcp.catalog import Entry, ServerEntry
    from gateway.mcp.envelope import Params
    from registry.identity.principal import Principal


@dataclass(slots=True)
class Attempt:
    """A call that asks to pass.

    Args:
        entry: what is called, where it is listed; a resource may be read without being listed.
        name: as the caller knows it.
    """

    principal: Principal
    method: str
    name: str
    server: ServerEntry
    entry: Entry | None
    params: Params


class Policy(Protocol):
    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        """Let the attempt pass, or raise a `ProtocolError` that says why not and what to do.

        Most decide at once. One that has to wait for something gives what to await, which may raise as well.
        """
        ...

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Hear how an admitted attempt ended: an outcome of `registry.usage.calls.Call`."""
        ...
