"""aiohttp, wrapped so that it can only do what this package allows. Imported by `client` at the first request, because
importing aiohttp costs a third of the gateway's cold start.

This is the only module of the project that may build a `ClientSession`. It sends one request to one vetted target and
knows neither redirects nor encodings nor time limits as a whole: those are `client`'s.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from registry.core.egress.errors import EgressFailed, EgressRefused, EgressTimeout, EgressUnreachable, UrlInvalid
from registry.core.egress.policy import EgressPolicy
from registry.core.egress.resolver import Resolver
from registry.core.egress.target import Target

MAX_CONNECTIONS = 256
MAX_CONNECTIONS_PER_HOST = 32
READ_BUFFER = 64 * 1024


class _VettedNames(AbstractResolver):
    """Gives aiohttp the addresses that the policy admitted, and no others."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._resolver.resolve(host, port)
        ]

    async def close(self) -> None:
        """Holds nothing open."""


def _last_lock(policy: EgressPolicy) -> Callable[[Any], socket.socket]:
    """Makes aiohttp's sockets, and none for what no setting allows: holds even if aiohttp resolved on its own."""

    def make(info: Any) -> socket.socket:
        family, kind, proto, _, where = info
        refusal = policy.refusal(ipaddress.ip_address(where[0]), where[1])
        if refusal and not refusal.allowable:
            raise EgressRefused(f"Connecting is refused: it leads to {refusal.reason}. No setting allows that.")
        return socket.socket(family, kind, proto)

    return make


class RawAnswer:
    """Status, headers and the body as it came over the wire."""

    def __init__(self, answer: aiohttp.ClientResponse, target: Target) -> None:
        self._answer = answer
        self._target = target
        self.status = answer.status
        self.headers: CIMultiDictProxy[str] = answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """Still encoded, in pieces of a read buffer at most.

        Raises:
            EgressTimeout: no byte came for the idle time.
            EgressFailed: the connection broke, or the framing is wrong.
        """
        while True:
            try:
                data = await self._answer.content.read(READ_BUFFER)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _failure(error, self._target) from error
            if not data:
                return
            yield data

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class Session:
    """One connection pool, bound to the event loop that it was made in."""

    def __init__(self, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._resolver = resolver
        connector = aiohttp.TCPConnector(
            resolver=_VettedNames(resolver),
            use_dns_cache=False,  # a new connection asks and vets anew
            ssl=tls,
            limit=MAX_CONNECTIONS,
            limit_per_host=MAX_CONNECTIONS_PER_HOST,
            socket_factory=_last_lock(resolver.policy),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no proxy and no .netrc from the environment
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            read_bufsize=READ_BUFFER,
        )

    async def send(
        self, method: str, target: Target, headers: Mapping[str, str], body: bytes | None, *, idle: float | None
    ) -> RawAnswer:
        """Send one request and wait for the head of its answer.

        Args:
            idle: seconds without a byte after which reading fails; `None` for no limit.

        Raises:
            EgressRefused: before anything is connected.
            EgressFailed: or one of its subclasses, see `errors`.
        """
        if _is_address(target.host):
            # aiohttp asks its resolver for names only.
            await self._resolver.resolve(target.host, target.port)
        try:
            answer = await self._session.request(
                method,
                URL(target.url, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_read=idle),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(error, target) from error
        return RawAnswer(answer, target)

    async def close(self) -> None:
        await self._session.close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _failure(error: Exception, target: Target) -> Exception:
    """Name the failure without aiohttp's text, which can hold addresses."""
    if isinstance(error, aiohttp.InvalidURL):
        return UrlInvalid("The URL's host or path is not one that can be sent.", field="url")
    if isinstance(error, TimeoutError):
        return EgressTimeout(f"{target.host} sent nothing for too long.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return EgressUnreachable(f"The certificate of {target.host} was not accepted.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return EgressUnreachable(f"Could not connect to {target.host} on port {target.port}.")
    return EgressFailed(f"The exchange with {target.host} broke off.")
