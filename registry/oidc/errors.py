"""How signing in by others fails."""

from __future__ import annotations

from registry.core.errors import Forbidden, GatehouseError, Unauthenticated, Unavailable


class OidcNotConfigured(Unavailable):
    code = "OIDC_NOT_CONFIGURED"

    def __init__(self) -> None:
        super().__init__(
            "No OIDC provider is configured: set GATEHOUSE_OIDC_ISSUER, GATEHOUSE_OIDC_CLIENT_ID and "
            "GATEHOUSE_OIDC_CLIENT_SECRET."
        )


class IssuerBroken(GatehouseError):
    """The issuer cannot be reached, or what it says of itself cannot be trusted."""

    status = 503
    code = "ISSUER_UNAVAILABLE"
    title = "Service Unavailable"


class ForeignTokenInvalid(Unauthenticated):
    """A token of an issuer's that is not for us, not valid, or not any longer."""


class OidcLoginFailed(Unauthenticated):
    """The person did not come back the way they were sent; nothing of it counts."""

    code = "OIDC_LOGIN_FAILED"


class NotAdmitted(Forbidden):
    """Known to the issuer, and not let in here."""

    code = "NOT_ADMITTED"
