"""Which redirect addresses a client may have, and which of an authorization request is one of them.

An address is compared as text. Only the port of a loopback address is free, since a program on a person's machine
takes the one that it gets (RFC 8252 section 7.3).
"""

from __future__ import annotations

import re
from urllib.parse import urlencode, urlsplit

from registry.oauth.errors import OAuthRefused

MAX_URI = 2000
MAX_URIS = 20
_LOOPBACK_PORT = re.compile(r"^(http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::\d{1,5})?(?=[/?]|$)")
_PRIVATE = re.compile(r"[a-z][a-z0-9+.-]*")
# Schemes that a browser acts upon itself. Whatever else there is belongs to a program on the person's machine.
_DANGEROUS = frozenset(
    {"about", "blob", "chrome", "data", "feed", "file", "filesystem", "ftp", "http", "https", "intent", "jar", "tel"}
) | {"javascript", "mailto", "mhtml", "resource", "sms", "vbscript", "view-source", "ws", "wss"}


def check(uris: list[str]) -> None:
    """Raises `OAuthRefused` unless each may be a client's address."""
    if not 0 < len(uris) <= MAX_URIS:
        raise OAuthRefused("invalid_redirect_uri", f"redirect_uris must have 1 to {MAX_URIS} addresses.")
    for uri in uris:
        if not _sound(uri):
            raise OAuthRefused(
                "invalid_redirect_uri",
                "Each address must be https, http on loopback, or of a private scheme, without fragment or user.",
            )


def _sound(uri: str) -> bool:
    if len(uri) > MAX_URI or not uri.isascii() or not uri.isprintable() or set(uri) & set(' \\"<>#^`{|}'):
        return False
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.netloc:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme == "http":
        return _LOOPBACK_PORT.match(uri) is not None
    return bool(_PRIVATE.fullmatch(parts.scheme)) and parts.scheme not in _DANGEROUS


def matches(registered: list[str], wanted: str) -> bool:
    """Whether `wanted` is one of the client's."""
    return _sound(wanted) and _portless(wanted) in {_portless(uri) for uri in registered}


def _portless(uri: str) -> str:
    return _LOOPBACK_PORT.sub(r"\1", uri)


def with_answer(uri: str, **answer: str | None) -> str:
    """The address to send the browser to; `None` is left out."""
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    return f"{uri}{'&' if '?' in uri else '?'}{query}"


def source_of(uri: str) -> str:
    """The address as a source in a Content-Security-Policy: its origin, or its scheme where that is private."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"
