"""Policies: what decides, before a call is forwarded, whether it may be, and is told afterwards how it ended.

A policy is a small object; the router asks each in order, once per call, and `gateway.app` chooses which there are.
They hold what they need in memory; one that must wait for something says so by what `admit` returns.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.mcp.upstream.local import SLUG

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
        capabilities: of the client, as JSON.
        bytes_in, bytes_out: of the request, and of the answer when it has ended.
        cost_usd: what it costs; set by the budget policy, for the record.
        budget: what it has reserved; the budget policy's own.
        sent: the server may have seen it, as far as is known when it ends.
    """

    principal: Principal
    method: str
    name: str
    server: ServerEntry
    entry: Entry | None
    params: Params
    capabilities: bytes = b"{}"
    bytes_in: int = 0
    bytes_out: int = 0
    cost_usd: float = 0.0
    budget: list[Any] | None = None
    sent: bool = True

    @property
    def is_emergency(self) -> bool:
        """One of the gateway's own tools that stop and resume everything."""
        return self.server.slug == SLUG and self.entry is not None and self.entry.name.startswith("emergency_")

    @property
    def never_held(self) -> bool:
        """Neither stopped nor budgeted nor held for approval: the emergency tools, and our own that only read."""
        if self.server.slug != SLUG or self.entry is None:
            return False
        return self.is_emergency or self.entry.definition.hints.readOnlyHint


class Policy(Protocol):
    def admit(self, attempt: Attempt) -> Awaitable[None] | None:
        """Let the attempt pass, or raise a `ProtocolError` that says why not and what to do.

        Most decide at once. One that has to wait for something gives what to await, which may raise as well.
        """
        ...

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Hear how an admitted attempt ended: an outcome of `registry.usage.calls.Call`."""
        ...
