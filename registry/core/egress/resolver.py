"""From a host name to addresses that may be connected to.

The only place where an outbound name is resolved. What comes back are addresses, and those are what is connected to:
whoever answers the DNS cannot give a good answer to the check and another to the connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from registry.core.egress.errors import EgressUnreachable
from registry.core.egress.policy import EgressPolicy, unmapped
from registry.core.egress.target import canonical_host

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves (host, port) to addresses in the order to try them; raises `OSError` when it cannot."""


async def system_lookup(host: str, port: int) -> list[str]:
    """The machine's own resolver, with its hosts file and search domains."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Resolves a host once and vets every address it stands for.

    Args:
        policy: what may be connected to.
        lookup: stands in for the machine's resolver.
    """

    def __init__(self, policy: EgressPolicy, lookup: Lookup | None = None) -> None:
        self.policy = policy
        self._lookup = lookup or system_lookup

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """The vetted addresses of `host`, in the order to try them. Not cached: every new connection asks again.

        Args:
            host: a name, or an address in any spelling.
            port: the port to be connected to, which the policy may depend on.

        Raises:
            UrlInvalid: `host` is neither a name nor an address.
            EgressRefused: at least one of the addresses may not be connected to. One bad address spoils the name:
                an honest name does not mix them.
            EgressUnreachable: the name cannot be resolved.
        """
        host = canonical_host(host)
        addresses: dict[str, None] = {}
        for text in await self._texts(host, port):
            address = unmapped(ipaddress.ip_address(text))
            self.policy.check(address, port, host)
            addresses[str(address)] = None
        if not addresses:
            raise EgressUnreachable(f"The name {host} has no address.")
        return tuple(addresses)

    async def _texts(self, host: str, port: int) -> Sequence[str]:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return (host,)
        try:
            return await self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise EgressUnreachable(f"The name {host} could not be resolved.") from error
