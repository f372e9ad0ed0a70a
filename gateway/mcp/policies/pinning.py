"""Pinning on the data path: what changed since it was approved is not called until a person has looked at it.

What is held comes with the snapshot (`ServerEntry.held`); who decides is `registry.pins`. The approved text stays
listed. What was never approved is not listed, but a caller that asks for it by name is told why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError
from registry.servers.names import prefixed

if TYPE_CHECKING:
    from gateway.mcp.catalog import ServerEntry, View
    from gateway.mcp.policies.policy import Attempt
    from registry.servers.connection import Kind


class PinningPolicy:
    def admit(self, attempt: Attempt) -> None:
        held = attempt.server.held
        if held and attempt.entry is not None and (attempt.entry.kind, attempt.entry.name) in held:
            raise refusal(attempt.server, attempt.entry.kind, attempt.entry.name)

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Nothing is used up."""


def withheld(view: View, kind: Kind, name: str) -> ProtocolError | None:
    """Why something that is not listed is not, where that is because it is held; else `None`."""
    if view.curated is not None:
        return None
    for server in view.servers:
        for held_kind, own in server.held:
            exposed = prefixed(server.slug, own)
            called = own if view.single is not None else exposed
            if held_kind == kind and called == name and view.may_use(kind, server.slug, own):
                return refusal(server, kind, own)
    return None


def refusal(server: ServerEntry, kind: Kind, name: str) -> ProtocolError:
    return ProtocolError(
        protocol.DEFINITION_HELD,
        f"The {kind} {name} of {server.slug} is held: its server describes it in a way that nobody has approved yet. "
        f"Somebody who may decide sees the difference with `gatehouse pins list {server.slug}`.",
        data={"code": "DEFINITION_HELD", "server": server.slug, "kind": kind, "name": name},
    )
