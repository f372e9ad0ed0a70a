"""Where a request comes from, believing forwarded headers only from proxies that the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddress:
    """Finds the address of the client of a request.

    Args:
        trusted_proxies: addresses or networks (`GATEHOUSE_TRUSTED_PROXIES`). Raises `ValueError` for anything else.
    """

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        self._trusted: list[Network] = [ipaddress.ip_network(entry, strict=False) for entry in trusted_proxies]

    def of(self, scope: Scope) -> str:
        """The socket's address, or the nearest one in `X-Forwarded-For` that is no trusted proxy."""
        client = scope.get("client")
        address: str = client[0] if client else "unknown"
        if not self._trusts(address):
            return address
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for hop in reversed(forwarded.decode("latin-1").split(",")):
            hop_address = hop.strip()
            if not _is_address(hop_address):
                # Whatever stands to the left of nonsense is nonsense too.
                return address
            address = hop_address
            if not self._trusts(address):
                return address
        return address

    def _trusts(self, address: str) -> bool:
        if not self._trusted or not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
