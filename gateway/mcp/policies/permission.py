"""Permission: the caller's role and key allow this kind of call. What a caller may not see is never found at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError

if TYPE_CHECKING:
    from gateway.mcp.policies.policy import Attempt

PERMISSION = {
    "tools/call": "mcp:tools:call",
    "prompts/get": "mcp:prompts:get",
    "resources/read": "mcp:resources:read",
}
"""Of calls. Completing an argument needs what using the prompt or resource would need."""


class ScopeMissing(ProtocolError):
    """The caller's token was not granted this, but the person behind it could grant it.

    Args:
        scope: what to ask for.
    """

    def __init__(self, scope: str) -> None:
        super().__init__(
            protocol.INVALID_REQUEST,
            f"The token lacks the scope {scope}: ask for it.",
            data={"code": "INSUFFICIENT_SCOPE", "permission": scope},
            status=403,
        )
        self.scope = scope


class PermissionPolicy:
    def admit(self, attempt: Attempt) -> None:
        permission = PERMISSION.get(attempt.method) or _completing(attempt)
        if permission in attempt.principal.consentable:
            raise ScopeMissing(permission)
        if not attempt.principal.may(permission):
            raise ProtocolError(
                protocol.INVALID_REQUEST,
                f"This needs the permission {permission}: ask an administrator for it, or use another key.",
                data={"code": "INSUFFICIENT_PERMISSIONS", "permission": permission},
                status=403,
            )

    def settle(self, attempt: Attempt, outcome: str) -> None:
        """Permissions are not used up."""


def _completing(attempt: Attempt) -> str:
    is_prompt = attempt.entry is not None and attempt.entry.kind == "prompt"
    return PERMISSION["prompts/get" if is_prompt else "resources/read"]
