"""Policies: what decides, before a call is forwarded, whether it may be, and is told afterwards how it ended.

A policy is a small object; the router asks each in order, once per call, and `gateway.app` chooses which there are.
They hold what they need in memory: nothing here waits for a database or for the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError

if TYPE_CHECKING:
    from gateway.mcp.catalog import Entry, ServerEntry
    from gateway.mcp.envelope import Params
    from registry.identity.principal import Principal

PERMISSION = {
    "tools/call": "mcp:tools:call",
    "prompts/get": "mcp:prompts:get",
    "resources/read": "mcp:resources:read",
}


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
    def admit(self, attempt: Attempt) -> None:
        """Let the attempt pass, or raise a `ProtocolError` that says why not and what to do."""
        ...

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Hear how an admitted attempt ended: an outcome of `registry.usage.calls.Call`."""
        ...


class PermissionPolicy:
    """The caller's role and key allow this kind of call."""

    def admit(self, attempt: Attempt) -> None:
        permission = PERMISSION[attempt.method]
        if not attempt.principal.may(permission):
            raise ProtocolError(
                protocol.INVALID_REQUEST,
                f"This needs the permission {permission}: ask an administrator for it, or use another key.",
                data={"code": "INSUFFICIENT_PERMISSIONS", "permission": permission},
                status=403,
            )

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Permissions are not used up."""
