"""Base of all errors that cross a module boundary.

An error is declared beside the code that raises it, carries its HTTP status and its code, and is rendered once, at
the edge (`gateway.api.shared.errors` for REST, `gateway.mcp.envelope` for MCP). Nothing here knows HTTP bodies.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatehouseError(Exception):
    """An expected failure with a message for the caller.

    Args:
        message: one sentence that says what was wrong and, where possible, what to do about it.
        details: machine-readable facts about the failure; rendered as `error.details`.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details or {}


class Unauthenticated(GatehouseError):
    """No credential, or one that is wrong, expired or revoked."""

    status = 401
    code = "AUTHENTICATION_REQUIRED"
    title = "Authentication required"


class Forbidden(GatehouseError):
    """Known to the caller's organisation, but not permitted to the caller."""

    status = 403
    code = "INSUFFICIENT_PERMISSIONS"
    title = "Forbidden"


class NotFound(GatehouseError):
    """Unknown, or of another organisation: the two are indistinguishable by design."""

    status = 404
    code = "RESOURCE_NOT_FOUND"
    title = "Not Found"


class Conflict(GatehouseError):
    status = 409
    code = "RESOURCE_CONFLICT"
    title = "Conflict"


class Invalid(GatehouseError):
    """A well-formed request whose content cannot be accepted.

    Args:
        message: as in `GatehouseError`.
        field: dotted name of the offending field, where there is one.
    """

    status = 422
    code = "VALIDATION_ERROR"
    title = "Validation Error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, details={"field": field} if field else None)
        self.field = field


class Unavailable(GatehouseError):
    """Something that this operation needs is not configured or cannot be reached right now."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    title = "Service Unavailable"
