"""Which addresses the gateway may connect to.

The rule is one question asked of the final address, never of its spelling: is it really global? `ipaddress` alone
answers that wrongly (it calls NAT64, 6to4, multicast and Azure's 168.63.129.16 global), so the special ranges of the
IANA registries stand here as tables. Three classes of address result: global ones are open to everybody; private
ones need a setting; metadata, link-local, multicast and tunnelled ones are closed to every setting.

Names are not resolved here (`registry.core.egress.resolver`) and nothing connects here (`registry.core.egress.egress`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from registry.core.egress.errors import ALLOW_SETTING, AllowEntryInvalid, EgressRefused
from registry.core.egress.target import canonical_host

_ENTRY_FORM = "an IPv4 or IPv6 address or network, optionally with a port, such as 10.0.0.0/8 or [fd00::1]:443"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _table(reasons: dict[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(text), reason) for reason, texts in reasons.items() for text in texts.split())


_NEVER = _table(
    {
        "a link-local or cloud metadata address": (
            "169.254.0.0/16 168.63.129.16 100.100.100.200 192.0.0.192 fe80::/10 fd00:ec2::/32 fd20:ce::254 fd00:42::42"
        ),
        "an unspecified address": "0.0.0.0/8 ::/128",
        "a multicast address": "224.0.0.0/4 ff00::/8",
        "a reserved address": "240.0.0.0/4",
    }
)
# Forms that carry an IPv4 address for a tunnel or a translator to unpack. No upstream needs one of them.
_TUNNELLED = tuple(
    ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)
# The one such form that DNS64 networks really use: see `EgressPolicy.refusal`.
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)

_LOCAL = _table(
    {
        "a loopback address": "127.0.0.0/8 ::1/128",
        "a private address": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    }
)
_SPECIAL = _table(
    {
        "a shared carrier address": "100.64.0.0/10",
        "a special purpose address": (
            "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
            "2001::/23 2001:db8::/32 3fff::/20"
        ),
    }
)
_IPV6_GLOBAL = IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class AllowRule:
    """One parsed entry of `GATEHOUSE_EGRESS_ALLOW`.

    Args:
        network: the addresses that may be connected to although they are not global.
        port: the only port that may be used there; `None` for every port.
    """

    network: Network
    port: int | None = None

    def covers(self, address: Address, port: int) -> bool:
        return address in self.network and self.port in (None, port)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an address is refused, and whether a setting could allow it."""

    reason: str
    allowable: bool


_ENTRY = re.compile(r"(?:\[(?P<v6>[^\]]+)\](?P<v6len>/[0-9]+)?|(?P<v4>[0-9.]+(?:/[0-9]+)?))(?::(?P<port>[0-9]{1,5}))?")


def parse_allow(entries: str | Iterable[str]) -> tuple[AllowRule, ...]:
    """Read `GATEHOUSE_EGRESS_ALLOW`.

    Args:
        entries: a list, or one string separated by commas or blanks, of `10.0.0.0/8`, `127.0.0.1:9001`,
            `127.0.0.1/32:9001`, `[fd00::1]:443`, `[fd00::/8]:443`, `fd00::/8` or `fd00::1`. An IPv6 entry with a
            port needs the brackets.

    Raises:
        AllowEntryInvalid: an entry cannot be read, has bits set beyond its prefix, or names only addresses that no
            setting allows.
    """
    items = re.split(r"[,\s]+", entries) if isinstance(entries, str) else entries
    return tuple(_parse_entry(item.strip()) for item in items if item.strip())


def _parse_entry(text: str) -> AllowRule:
    found = _ENTRY.fullmatch(text)
    if found:
        written, port = found["v4"] or found["v6"] + (found["v6len"] or ""), found["port"]
    else:
        written, port = text, None
    try:
        network = _unmapped_network(ipaddress.ip_network(written))
    except ValueError as error:
        raise AllowEntryInvalid(f"{ALLOW_SETTING}: {text!r} is not {_ENTRY_FORM} ({error}).") from error
    number = int(port) if port is not None else None
    if number is not None and not 0 < number < 65536:
        raise AllowEntryInvalid(f"{ALLOW_SETTING}: {text!r} has a port outside 1 to 65535.")
    never = _never(network.network_address)
    if never and _never(network.broadcast_address) == never:
        raise AllowEntryInvalid(f"{ALLOW_SETTING}: {text!r} is {never}, which no setting allows.")
    return AllowRule(network, number)


def _unmapped_network(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))


def unmapped(address: Address) -> Address:
    """The address that the kernel really connects to: without a zone, and IPv4 where it is IPv4-mapped."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _lookup(table: tuple[tuple[Network, str], ...], address: Address) -> str | None:
    return next((reason for network, reason in table if address in network), None)


def _never(address: Address) -> str | None:
    """Why no setting allows this address; `None` if one could."""
    reason = _lookup(_NEVER, address)
    if reason or isinstance(address, IPv4Address) or address == IPv6Address("::1"):
        return reason
    if address in _NAT64:
        return _never(IPv4Address(int(address) & 0xFFFFFFFF))
    isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if isatap or any(address in network for network in _TUNNELLED):
        return "an address that hides another one (a tunnel or translation form)"
    return None


def _not_global(address: Address) -> str | None:
    """Why this address is not open to everybody; `None` if it is global."""
    reason = _lookup(_LOCAL, address) or _lookup(_SPECIAL, address)
    if reason or isinstance(address, IPv4Address) or address in _IPV6_GLOBAL:
        return reason
    return "a translated address (NAT64)" if address in _NAT64 else "a special purpose address"


class EgressPolicy:
    """Decides whether an address and port may be connected to.

    Args:
        allow: what may be private, exactly, in every mode; empty where the setting is not set.
        local_mode: the gateway listens on loopback alone, so private and loopback upstreams are its user's own.
            Ignored once `allow` is set.
        exempt: exact (host, port) pairs that may be private because the operator's own settings or the container
            runtime name them. The host is compared as it is asked for, so an exempt name does not open the address
            behind it to other names.
    """

    def __init__(
        self,
        allow: tuple[AllowRule, ...] = (),
        *,
        local_mode: bool = False,
        exempt: Iterable[tuple[str, int]] = (),
    ) -> None:
        self.allow = allow
        self.local_mode = local_mode
        self._exempt = {(canonical_host(host), port) for host, port in exempt}

    def exempt(self, host: str, port: int) -> None:
        """Let this exact host and port be private; for a container the runtime has just reported."""
        self._exempt.add((canonical_host(host), port))

    def withdraw(self, host: str, port: int) -> None:
        """End an exemption; connections that already exist are not closed."""
        self._exempt.discard((canonical_host(host), port))

    def refusal(self, address: Address, port: int, host: str | None = None) -> Refusal | None:
        """Why `address` is refused on `port` when it was reached by the name `host`; `None` if it is allowed."""
        address = unmapped(address)
        never = _never(address)
        if never:
            return Refusal(never, allowable=False)
        reason = _not_global(address)
        if reason is None:
            return None
        if not self._admits(address, port, host):
            return Refusal(reason, allowable=True)
        if address in _NAT64:
            # Allowing the translator's prefix must not open what lies behind it.
            return self.refusal(IPv4Address(int(address) & 0xFFFFFFFF), port, host)
        return None

    def _admits(self, address: Address, port: int, host: str | None) -> bool:
        if host is not None and (host, port) in self._exempt:
            return True
        if self.allow:
            return any(rule.covers(address, port) for rule in self.allow)
        return self.local_mode and _lookup(_LOCAL, address) is not None

    def check(self, address: Address, port: int, host: str) -> None:
        """Raises `EgressRefused` unless `address` may be connected to on `port` for the canonical name `host`."""
        refusal = self.refusal(address, port, host)
        if refusal is None:
            return
        remedy = (
            f"An operator can allow it with {ALLOW_SETTING} (a list of CIDR[:port])."
            if refusal.allowable
            else "No setting allows that."
        )
        raise EgressRefused(
            f"Connecting to {host} on port {port} is refused: it is {refusal.reason}. {remedy}",
            details={"host": host, "port": port, "setting": ALLOW_SETTING if refusal.allowable else None},
        )
