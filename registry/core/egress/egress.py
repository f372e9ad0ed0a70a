"""The way out of the gateway: what every outbound connection goes through.

`Egress.connect` is for who speaks a protocol of their own (the data path's connection pool), `Egress.client` for who
wants an HTTP answer (REST calls, OIDC, webhooks). Both resolve, vet and connect to the vetted address, each time anew,
while TLS keeps checking the name. Made once in `gateway.app`; nothing else in the project connects outward.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import TypeVar

from registry.core.egress.client import EgressClient
from registry.core.egress.errors import EgressTimeout, EgressUnreachable
from registry.core.egress.policy import EgressPolicy
from registry.core.egress.resolver import Lookup, Resolver
from registry.core.egress.target import Target

MAX_ADDRESSES_TRIED = 4

P = TypeVar("P", bound=asyncio.BaseProtocol)


@functools.cache
def shared_tls_context() -> ssl.SSLContext:
    """The process's one client context, made at first use: loading the authorities costs tens of milliseconds.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured, as by every OpenSSL program.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Egress:
    """Opens outbound connections.

    Args:
        policy: what may be connected to.
        lookup: stands in for the machine's resolver.
        tls: returns the client context, called at the first TLS connection; default `shared_tls_context`.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        lookup: Lookup | None = None,
        tls: Callable[[], ssl.SSLContext] = shared_tls_context,
    ) -> None:
        self.policy = policy
        self.resolver = Resolver(policy, lookup)
        self.client = EgressClient(self.resolver, tls)
        self._tls = tls

    async def resolve(self, target: Target) -> tuple[str, ...]:
        """Vetted addresses of the target, see `Resolver.resolve`. Also the check to make when a URL is registered."""
        return await self.resolver.resolve(target.host, target.port)

    async def connect(
        self, protocol_factory: Callable[[], P], target: Target, *, timeout: float
    ) -> tuple[asyncio.Transport, P]:
        """Open one connection to `target`, with TLS if its scheme has it.

        Args:
            protocol_factory: as for `loop.create_connection`; may be called once for each address tried.
            target: from `vet_url`.
            timeout: seconds for everything: resolving, connecting and the TLS handshake.

        Raises:
            EgressRefused: the target may not be connected to.
            EgressUnreachable: no address answered, or TLS failed on all of them.
            EgressTimeout: the time ran out.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = (await self.resolve(target))[:MAX_ADDRESSES_TRIED]
                return await self._first_of(addresses, protocol_factory, target, timeout)
        except TimeoutError as error:
            raise EgressTimeout(
                f"Connecting to {target.host} on port {target.port} took over {timeout:g} s."
            ) from error

    async def _first_of(
        self, addresses: tuple[str, ...], protocol_factory: Callable[[], P], target: Target, timeout: float
    ) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        tls = self._tls() if target.tls else None
        name = target.host if target.tls else None
        end = loop.time() + timeout
        failure: OSError | None = None
        for place, address in enumerate(addresses):
            # A silent address gets its share of the time, so that the next one still has some.
            share = (end - loop.time()) / (len(addresses) - place)
            try:
                async with asyncio.timeout(share):
                    return await loop.create_connection(
                        protocol_factory, address, target.port, ssl=tls, server_hostname=name
                    )
            except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors
                failure = error
        if isinstance(failure, TimeoutError):
            raise failure
        why = _tls_reason(failure) if isinstance(failure, ssl.SSLError) else "the connection was not accepted"
        raise EgressUnreachable(f"Could not connect to {target.host} on port {target.port}: {why}.") from failure

    async def close(self) -> None:
        """Close what `client` holds open. Connections made by `connect` belong to their callers."""
        await self.client.close()


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    return "the TLS handshake failed"
