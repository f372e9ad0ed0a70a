"""The command line's client: REST calls to a running gateway, and the raw exchanges that MCP needs.

Everything the gateway or the network may do wrong becomes one of `gateway.cli.errors`, with a sentence that says what
to do. MCP itself is in `gateway.cli.rpc` and `gateway.cli.stdio`; connecting is the egress client's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from gateway.cli.data import list_in, object_in, objects_in, parsed
from gateway.cli.errors import CommandFailed, ConnectionLost, GatewayUnreachable, KeyRefused, UsageWrong
from gateway.cli.local import Address, find_gateway
from registry.core.egress.egress import Egress
from registry.core.egress.errors import EgressFailed, EgressRefused, EgressUnreachable, HeaderInvalid, UrlInvalid
from registry.core.egress.policy import EgressPolicy
from registry.core.egress.target import vet_url

REST_SECONDS = 120.0
"""For one REST call. Registering answers within five seconds, discovery may take its time."""
PAGE = 100
_A_DAY = 86_400.0

T = TypeVar("T")


class Answer(Protocol):
    """An answer whose body has not been read yet."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...

    async def read(self) -> bytes:
        """The whole body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        ...


class Transport(Protocol):
    def open(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, seconds: float | None
    ) -> AbstractAsyncContextManager[Answer]:
        """Send a request; redirects are not followed.

        Args:
            seconds: for the whole exchange; `None` where a stream may last. Connecting is bounded in any case.

        Raises:
            GatewayUnreachable: nothing was sent.
            ConnectionLost: the exchange broke off.
        """
        ...


class EgressTransport:
    """`Transport` over the project's egress client.

    The gateway's address is its user's own setting, so it is exempt from what protects the gateway's upstreams.
    """

    def __init__(self, address: Address) -> None:
        target = vet_url(address.url)
        self._where = address.url
        self._egress = Egress(EgressPolicy(exempt=[(target.host, target.port)]))

    @asynccontextmanager
    async def open(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, seconds: float | None
    ) -> AsyncGenerator[Answer]:
        try:
            async with (
                asyncio.timeout(seconds),
                self._egress.client.stream(
                    method, url, headers=headers, data=body, timeout=seconds or _A_DAY
                ) as answer,
            ):
                yield answer
        except EgressUnreachable as error:
            raise GatewayUnreachable(
                f"No gateway answers at {self._where}: start it with `gatehouse serve`, or set GATEHOUSE_URL. "
                f"({error.message})"
            ) from error
        except (EgressRefused, HeaderInvalid, UrlInvalid) as error:
            raise UsageWrong(error.message) from error
        except (EgressFailed, TimeoutError) as error:
            said = error.message if isinstance(error, EgressFailed) else f"No answer within {seconds:g} s."
            raise ConnectionLost(f"The exchange with {self._where} broke off: {said}") from error

    async def close(self) -> None:
        await self._egress.close()


@asynccontextmanager
async def connected(address: Address) -> AsyncGenerator[GatewayClient]:
    """A client for one command."""
    transport = EgressTransport(address)
    try:
        yield GatewayClient(address, transport)
    finally:
        await transport.close()


def run(work: Callable[[GatewayClient], Coroutine[Any, Any, T]]) -> T:
    """Do `work` with the gateway of the environment. Raises `KeyRefused` where there is no key to try."""
    address = find_gateway()
    address.required_key()

    async def main() -> T:
        async with connected(address) as client:
            return await work(client)

    return asyncio.run(main())


class GatewayClient:
    """A running gateway."""

    def __init__(self, address: Address, transport: Transport) -> None:
        self.address = address
        self._transport = transport

    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float | None = None,
    ) -> AbstractAsyncContextManager[Answer]:
        """One exchange with the credential added; see `Transport.open`."""
        sent = dict(headers or {})
        if self.address.key is not None:
            sent["Authorization"] = f"Bearer {self.address.key}"
        return self._transport.open(method, self.address.url + path, headers=sent, body=body, seconds=seconds)

    async def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = REST_SECONDS,
    ) -> Any:
        """The JSON of a REST answer; `None` where it has no body.

        Raises:
            KeyRefused: 401 or 403.
            CommandFailed: another refusal, in the gateway's own words, or an answer that is not the gateway's.
        """
        if query:
            path += "?" + urlencode(query)
        sent = {"Accept": "application/json", **(headers or {})}
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        async with self.open(method, path, headers=sent, body=content, seconds=seconds) as answer:
            text = await answer.read()
            if not 200 <= answer.status < 300:
                raise refusal(self.address, answer.status, text)
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise CommandFailed(_not_gatehouse(self.address)) from None

    async def pages(self, path: str, field: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list that is paged by `limit` and `offset`."""
        items: list[dict[str, Any]] = []
        while True:
            page = object_in(await self.rest("GET", path, query={**query, "limit": PAGE, "offset": len(items)}))
            if not isinstance(page.get(field), list):
                raise CommandFailed(_not_gatehouse(self.address))
            found = objects_in(page[field])
            items += found
            if not found or len(items) >= int(page.get("total") or 0):
                return items


def header(answer: Answer, name: str) -> str:
    """A header's value, or nothing. The names of `answer` may be in any case."""
    return next((value for key, value in answer.headers.items() if key.lower() == name), "")


def refusal(address: Address, status: int, body: bytes) -> CommandFailed:
    """What an HTTP error of the gateway means for whoever typed the command."""
    said = _detail(body)
    if status == 401:
        if address.key is None:
            return KeyRefused(address.why_no_key)
        return KeyRefused(
            f"{address.url} does not accept this API key{_colon(said)}: set GATEHOUSE_API_KEY to one that is valid."
        )
    if status == 403:
        return KeyRefused(said or f"{address.url} refused: this API key may not do that.")
    if 300 <= status < 400:
        return CommandFailed(f"{address.url} sends elsewhere (HTTP {status}): set GATEHOUSE_URL to the final address.")
    if not said:
        return CommandFailed(f"{_not_gatehouse(address)} (HTTP {status})")
    return CommandFailed(said)


def _detail(body: bytes) -> str:
    """The sentence of a problem document, or of the other shapes in which an error may come."""
    problem = object_in(parsed(body))
    detail, error = problem.get("detail"), problem.get("error")
    if isinstance(detail, list):
        return "; ".join(map(_field, list_in(detail)))
    message = error if isinstance(error, str) else object_in(error).get("message")
    return str(detail or message or problem.get("title") or "")


def _field(problem: Any) -> str:
    known = object_in(problem)
    place = ".".join(str(part) for part in list_in(known.get("loc")) if part not in ("body", "query", "path"))
    said = str(known.get("msg") or "not valid")
    return f"{place}: {said}" if place else said


def _colon(said: str) -> str:
    return f" ({said.rstrip('.')})" if said else ""


def _not_gatehouse(address: Address) -> str:
    return f"What answers at {address.url} is not a Gatehouse gateway: check GATEHOUSE_URL."
