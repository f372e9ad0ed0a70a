"""How accounts at servers fail."""

from __future__ import annotations

from registry.core.errors import Conflict, Forbidden, GatehouseError, Invalid, NotFound


class AccountMissing(Forbidden):
    """The caller has no account at this server, or it is over."""

    code = "ACCOUNT_NOT_CONNECTED"


class AccountInvalid(Invalid):
    """Settings or headers that cannot be used."""


class NothingToConnect(Conflict):
    """The server's login is of a kind by which nobody connects an account, or the caller is no person."""


class LoginNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("The server has no login settings")


class ConnectionFailed(Forbidden):
    """The person did not come back the way they were sent."""

    code = "CONNECTION_FAILED"


class IssuerRefused(GatehouseError):
    """The server's issuer cannot be reached, is not what it should be, or gave no token."""

    status = 502
    code = "ISSUER_REFUSED"
    title = "Issuer refused"
