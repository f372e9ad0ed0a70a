"""Which credential a request carries, from its raw ASGI headers. What it is worth, the authenticator knows.

A browser sends its cookie with whatever a page of anybody's asks it to send. So a cookie counts for a request that may
change something only where the browser says that our own page asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.core.errors import Forbidden, Unauthenticated

Headers = Iterable[tuple[bytes, bytes]]

SESSION_COOKIE = "gatehouse_session"
SECURE_SESSION_COOKIE = "__Host-gatehouse_session"
"""The cookie's name over HTTPS; where a browser sends both, this one counts."""

_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-session-id"})
_NAMES = _HEADERS | {b"cookie"}
_BEARER = b"bearer "
_MAX_BYTES = 4096


class CredentialMissing(Unauthenticated):
    """The request carries no credential at all."""


class CredentialAmbiguous(Unauthenticated):
    """Several different credentials: whichever was chosen could be the wrong one."""


class CredentialMalformed(Unauthenticated):
    """Something stands where a credential should, but is none."""


class CrossSite(Forbidden):
    """A cookie alone, without the browser's word that our own page asked."""

    code = "CROSS_SITE_REQUEST"


def obvious_credential(headers: Headers) -> bytes | None:
    """The credential where exactly one header can hold one, as in nearly every request; `None` means: look closely."""
    found = None
    for name, value in headers:
        if name in _NAMES:
            if found is not None or name == b"cookie":
                return None
            if name != b"authorization":
                found = value
            elif value[:7].lower() == _BEARER:
                found = value[7:]
            else:
                return None
    return found


def find_credential(headers: Headers) -> bytes:
    """The one credential of a request. A cookie counts only where no header holds a credential.

    Raises:
        CredentialMissing, CredentialAmbiguous, CredentialMalformed: there is none, or not exactly one usable one.
    """
    headers = list(headers)
    shown: set[bytes] = set()
    for name, value in headers:
        if name in _HEADERS:
            shown.add(_bearer(value) if name == b"authorization" else value.strip())
    if len(shown) > 1:
        raise CredentialAmbiguous("The request carries several different credentials: send one.")
    if not shown:
        found = session_cookie(headers)
        if not found:
            raise CredentialMissing("Missing Bearer token")
        shown.add(found)
    (credential,) = shown
    check_form(credential)
    return credential


def by_cookie(headers: Headers) -> bool:
    """Whether the credential that `find_credential` finds is a cookie."""
    return not any(name in _HEADERS for name, _ in headers)


def session_cookie(headers: Headers) -> bytes | None:
    """The session that a browser keeps for us."""
    return cookie(headers, SECURE_SESSION_COOKIE) or cookie(headers, SESSION_COOKIE)


def cookie(headers: Headers, wanted: str) -> bytes | None:
    cookies: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"cookie":
            cookies.update(_cookies(value))
    return cookies.get(wanted.encode())


def require_same_origin(headers: Headers) -> None:
    """Raises `CrossSite` unless the browser says that a page of this origin asks (Sec-Fetch-Site, else Origin)."""
    given = dict(headers)
    site, origin = given.get(b"sec-fetch-site"), given.get(b"origin")
    same = site == b"same-origin" if site is not None else _host_of(origin) == given.get(b"host", b"").lower()
    if not same:
        raise CrossSite(
            "A cookie counts for pages of this gateway only: send the session as X-Session-ID, or use an API key."
        )


def _host_of(origin: bytes | None) -> bytes | None:
    scheme, separator, host = (origin or b"").lower().partition(b"://")
    return host if separator and scheme in (b"http", b"https") else None


def check_form(credential: bytes) -> None:
    """Raises `CredentialMalformed` for what can be no credential at all."""
    if not 0 < len(credential) <= _MAX_BYTES or not credential.isascii():
        raise CredentialMalformed("The credential is malformed.")


def _bearer(value: bytes) -> bytes:
    if value[:7].lower() != _BEARER:
        raise CredentialMalformed("Authorization must be of the form: Bearer <API key or access token>.")
    return value[7:].strip()


def _cookies(value: bytes) -> dict[bytes, bytes]:
    pairs = (part.partition(b"=") for part in value.split(b";"))
    return {name.strip(): content.strip() for name, _, content in pairs}
