"""Which `Host` and `Origin` are answered: the defence against DNS rebinding and cross-site requests.

A rebound name is a foreign one, so names are an allowlist; a bare address cannot be rebound, so one that listens on
every interface answers to all of its addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]", ""})  # noqa: S104 - compared with, not listened on
_MAX_REMEMBERED = 1024


class HostPolicy:
    """Decides by the names it was given.

    Args:
        listening: the host that the server listens on.
        public_url: the address that clients use, if it is another one.
        allowed: further names, each with or without a port; `*` answers to every name.
    """

    def __init__(self, listening: str, public_url: str | None = None, allowed: Iterable[str] = ()) -> None:
        names = {*_LOOPBACK, *(name.lower() for name in allowed), _bracketed(listening.lower())}
        if public_url and (host := urlsplit(public_url).hostname):
            names.add(_bracketed(host))
        self._any_address = listening in _EVERYWHERE
        self._names = frozenset(names - _EVERYWHERE)
        self._admitted: set[bytes] = set()

    def admits_host(self, host: bytes) -> bool:
        if host in self._admitted:
            return True
        text = host.decode("latin-1").lower()
        name = _without_port(text)
        admitted = name is not None and (
            "*" in self._names
            or name in self._names
            or text in self._names
            or (self._any_address and _is_address(name))
        )
        if admitted and len(self._admitted) < _MAX_REMEMBERED:
            self._admitted.add(host)
        return admitted

    def admits_origin(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this origin may call. `host` must have been admitted before."""
        scheme, separator, rest = origin.decode("latin-1").lower().partition("://")
        if not separator or scheme not in {"http", "https"}:
            return False
        if rest == host.decode("latin-1").lower():
            return True
        name = _without_port(rest)
        return name is not None and (name in self._names or rest in self._names)


def _without_port(host: str) -> str | None:
    """The name in `name[:port]`; `None` if it has another form."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        name += bracket
        separator, port = rest[:1], rest[1:]
        if rest and separator != ":":
            return None
    else:
        name, separator, port = host.partition(":")
    if (separator and not port.isdecimal()) or not name or any(sign in name for sign in " /?#@\\,"):
        return None
    return name


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
