"""Refusals that belong to identity."""

from __future__ import annotations

from registry.core.errors import Unauthenticated


class LoginFailed(Unauthenticated):
    """Unknown email, wrong password or inactive user: the three are indistinguishable by design."""


class ApiKeyInvalid(Unauthenticated):
    """Unknown, wrong, expired or revoked: indistinguishable by design."""


class SessionInvalid(Unauthenticated):
    """Unknown, expired or revoked: indistinguishable by design."""


class RefreshRefused(Unauthenticated):
    """Unknown, expired, used before, or of a session that has ended: indistinguishable by design."""


class SecondFactorNeeded(Unauthenticated):
    """The password is right, and a code has to come with it; or the code is wrong."""

    code = "SECOND_FACTOR_REQUIRED"
