"""How an outbound exchange fails. Refusals are the caller's to change, failures are the other side's.

What matters to whoever retries is whether the other side may have seen the request: `EgressRefused`, `UrlInvalid`,
`HeaderInvalid` and `EgressUnreachable` are raised before a byte of it left, the others possibly after.
"""

from __future__ import annotations

from registry.core.errors import GatehouseError, Invalid

ALLOW_SETTING = "GATEHOUSE_EGRESS_ALLOW"


class EgressRefused(GatehouseError):
    """The gateway will not connect there, or will not follow a redirect there.

    The message names the host as it was asked for and never the address that it resolved to: what internal names
    stand for is not the caller's to learn.
    """

    status = 422
    code = "EGRESS_REFUSED"
    title = "Egress refused"


class UrlInvalid(Invalid):
    """A URL or host that is malformed, or carries something that an outbound URL must not carry."""


class HeaderInvalid(Invalid):
    """An outbound header that could be read as something else, or that only the client itself may set."""


class AllowEntryInvalid(Invalid, ValueError):
    """An entry of `GATEHOUSE_EGRESS_ALLOW` that cannot be read. Also a `ValueError`, so that settings can report it."""


class EgressFailed(GatehouseError):
    """The exchange failed after the request may have been seen; the outcome is unknown."""

    status = 502
    code = "EGRESS_FAILED"
    title = "Upstream failed"


class EgressUnreachable(EgressFailed):
    """No connection came about: the name, the network or TLS failed. Nothing of the request was sent."""

    code = "EGRESS_UNREACHABLE"
    title = "Upstream unreachable"


class EgressTimeout(EgressFailed):
    """The time allowed ran out. `EgressClient` may have sent the request; `Egress.connect` has not."""

    status = 504
    code = "EGRESS_TIMEOUT"
    title = "Upstream timed out"


class EgressTooLarge(EgressFailed):
    """The answer is larger than allowed, or inflates more than an honest answer would."""

    code = "EGRESS_TOO_LARGE"
    title = "Upstream answer too large"
