"""How OAuth requests are refused, in OAuth's own words."""

from __future__ import annotations

from registry.core.errors import GatehouseError, Unauthenticated


class OAuthRefused(GatehouseError):
    """An answer of RFC 6749 section 5.2 or one of its extensions.

    Args:
        error: the code that the standards have for it.
        description: for the developer of the client.
    """

    status = 400
    code = "OAUTH_REFUSED"
    title = "OAuth request refused"

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description, details={"error": error})
        self.error = error

    @property
    def http_status(self) -> int:
        return 401 if self.error == "invalid_client" else 400


class ClientUnknown(GatehouseError):
    """The client or its redirect address is not to be trusted: the person is told, and is sent nowhere."""

    status = 400
    code = "OAUTH_CLIENT_UNKNOWN"
    title = "Client unknown"


class OAuthTokenInvalid(Unauthenticated):
    """Unknown, expired, or its grant has ended."""
