"""Reading an outbound URL strictly, once, into the only form that the rest of the project uses.

URL parsers disagree, and a check made by one parser is worthless for a request made by another. So whatever could be
read in two ways is rejected here, hosts come out in one canonical spelling, and the request line, the Host header, the
certificate check and the address check are all made from the same `Target`. Nothing is resolved here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import quote

from registry.core.egress.errors import UrlInvalid

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = frozenset({"https", "wss"})

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?")
_AUTHORITY = re.compile(r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]|\s")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
# Everything that may stand in a path or query as it is; "%" is there because escapes are the caller's.
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = _PATH_SAFE + "?"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Args:
        scheme: in lower case.
        host: canonical: lower-case ASCII name, or an address in its standard spelling, IPv6 without brackets.
        port: always known, the scheme's own where the URL names none.
        path: percent-encoded, starts with a slash.
        query: percent-encoded, without its question mark; `None` where the URL has none.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    query: str | None = None

    @property
    def tls(self) -> bool:
        return self.scheme in _SECURE

    @property
    def authority(self) -> str:
        """Value of the Host header: the port appears only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def request_target(self) -> str:
        """Path and query as they stand in the request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def url(self) -> str:
        return self.origin + self.request_target


def vet_url(url: str, schemes: Iterable[str] = ("http", "https")) -> Target:
    """Read `url`, or say what is wrong with it. The messages never repeat the URL, which may hold a secret.

    Args:
        url: absolute. Characters outside ASCII are encoded, escapes are left as they are.
        schemes: what the URL may begin with, of `http`, `https`, `ws` and `wss`.

    Raises:
        UrlInvalid: another scheme, a user name or password, a fragment, control characters, blanks, a backslash, or
            a host or port that is none.
    """
    if len(url) > MAX_URL_CHARS:
        raise UrlInvalid(f"The URL is longer than {MAX_URL_CHARS} characters.", field="url")
    if _FORBIDDEN.search(url):
        raise UrlInvalid(
            "The URL contains a control character, a blank or a backslash; encode or remove it.", field="url"
        )
    if "#" in url:
        raise UrlInvalid("The URL has a fragment (#…), which is never sent; remove it.", field="url")
    found = _URL.fullmatch(url)
    scheme = found["scheme"].lower() if found else ""
    allowed = tuple(schemes)
    if found is None or scheme not in allowed or scheme not in DEFAULT_PORTS:
        raise UrlInvalid(f"The URL must begin with {' or '.join(f'{name}://' for name in allowed)}.", field="url")
    if "@" in found["authority"]:
        raise UrlInvalid("The URL holds a user name or password before @; store them as a credential.", field="url")
    authority = _AUTHORITY.fullmatch(found["authority"])
    if authority is None:
        raise UrlInvalid("The URL's host or port is malformed.", field="url")
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise UrlInvalid("The URL's port is outside 1 to 65535.", field="url")
    literal = authority["literal"]
    host = _ipv6(literal) if literal is not None else _named_host(authority["host"])
    query = found["query"]
    return Target(
        scheme,
        host,
        port,
        _encoded(found["path"] or "/", _PATH_SAFE),
        None if query is None else _encoded(query, _QUERY_SAFE),
    )


def _encoded(text: str, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError as error:
        raise UrlInvalid("The URL contains a character that is none (a lone surrogate).", field="url") from error


def canonical_host(host: str) -> str:
    """The one spelling of a host name or address, however it is written.

    `0x7f000001`, `127.1`, `①②⑦.⓪.⓪.①`, `127。0。0。1` and `[::ffff:127.0.0.1]` all come out as `127.0.0.1`: what is
    an address to anyone on the way is one here, so that nobody later takes it for a name.

    Args:
        host: with or without brackets, one trailing dot or an IPv6 zone.

    Raises:
        UrlInvalid: neither a name nor an address.
    """
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    return _ipv6(host) if ":" in host else _named_host(host)


def _ipv6(text: str) -> str:
    # A zone names an interface of this machine. It is dropped: only link-local addresses need one, and those are
    # never connected to.
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError as error:
        raise UrlInvalid("The URL's host is not a valid IPv6 address.", field="url") from error
    return str(address.ipv4_mapped or address)


def _named_host(text: str) -> str:
    name = text.lower() if text.isascii() else _ascii_host(text)
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlInvalid("The URL's host is not a valid host name.", field="url")
    # What ends in a number is an address or nothing: that is how every resolver below would take it.
    return _ipv4(labels) if _NUMBER.fullmatch(labels[-1]) else name


def _ascii_host(text: str) -> str:
    import idna  # its tables cost some milliseconds, and hardly any host needs them

    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise UrlInvalid("The URL's host is not a valid international host name.", field="url") from error


def _ipv4(labels: list[str]) -> str:
    """As `inet_aton` reads it: one to four numbers, decimal, octal or hexadecimal, the last one filling the rest."""
    try:
        numbers = [_ipv4_number(label) for label in labels]
        *head, last = numbers
        if len(numbers) > 4 or any(number > 255 for number in head) or last >= 256 ** (5 - len(numbers)):
            raise ValueError("out of range")
    except ValueError as error:
        raise UrlInvalid("The URL's host ends in a number but is not a valid IPv4 address.", field="url") from error
    value = last + sum(number << 8 * (3 - place) for place, number in enumerate(head))
    return str(IPv4Address(value))


def _ipv4_number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if len(label) > 1 and label.startswith("0") else 10)
