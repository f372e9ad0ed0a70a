"""The project's HTTP client: requests out, small answers or streams back.

It adds to one vetted exchange (`session`) what is dangerous when left to an HTTP library's defaults: redirects,
decompression, sizes, credentials, header values. It keeps no cookies, reads no proxy settings and repeats nothing
but an idempotent request whose kept-alive connection turned out to be closed.
"""

from __future__ import annotations

import asyncio
import json as json_codec
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

from registry.core.egress.decode import ACCEPT_ENCODING, Decoder
from registry.core.egress.errors import (
    EgressFailed,
    EgressRefused,
    EgressTimeout,
    HeaderInvalid,
    UrlInvalid,
)
from registry.core.egress.resolver import Resolver
from registry.core.egress.target import Target, vet_url

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from registry.core.egress.session import RawAnswer, Session

USER_AGENT = "gatehouse"
DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_BYTES = 8 * 1024 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# The connection's own headers: a caller who could set them could make one request look like two.
_FRAMING = ("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding")
_OURS = frozenset((*_FRAMING, "accept-encoding", "http2-settings", "upgrade"))
# What may follow a redirect to another origin. A list of what is harmless cannot miss a credential's name.
_HARMLESS = frozenset(
    ("accept", "accept-encoding", "accept-language", "content-type", "user-agent", "mcp-protocol-version")
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer.

    Args:
        headers: case-insensitive; without Content-Encoding and Content-Length where the body was decoded.
        body: decoded.
        url: where it came from, after redirects.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body as UTF-8; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Raises `EgressFailed` if the body is not JSON."""
        try:
            return json_codec.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise EgressFailed("The answer is not the JSON that was expected.") from error


class StreamResponse:
    """An answer whose body is still on its way; usable inside `EgressClient.stream` only."""

    def __init__(self, raw: RawAnswer, target: Target, max_bytes: int | None) -> None:
        self._raw = raw
        self._decoder = Decoder(raw.headers.get("Content-Encoding", ""), max_bytes)
        self.status = raw.status
        self.headers = _decoded_headers(raw) if self._decoder.encoded else raw.headers
        self.url = target.url

    async def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body, in pieces of 64 KiB at most, as they arrive.

        Raises:
            EgressTooLarge: over the size given, or inflating beyond reason.
            EgressTimeout: no byte for the idle time given.
            EgressFailed: the connection broke, or the body is not what its headers say.
        """
        async for data in self._raw.chunks():
            for piece in self._decoder.feed(data):
                yield piece
        self._decoder.finish()

    async def read(self) -> bytes:
        """The decoded body as a whole; bounded by the `max_bytes` given to `stream`."""
        return b"".join([piece async for piece in self.chunks()])


@dataclass(slots=True)
class _Hop:
    """One request of a chain of redirects."""

    method: str
    target: Target
    headers: dict[str, str]
    body: bytes | None
    secret: frozenset[str]

    def next(self, status: int, location: str) -> _Hop:
        """The request that a redirect asks for.

        Raises:
            EgressRefused: it leads from https to http, or would carry the body to another origin.
            UrlInvalid: it leads to something that is no URL of ours.
        """
        where, _, _ = location.partition("#")
        try:
            target = vet_url(urljoin(self.target.url, where))
        except ValueError as error:  # urljoin reads brackets and ports of its own accord
            raise UrlInvalid(f"{self.target.host} redirects to a malformed URL.", field="url") from error
        if self.target.tls and not target.tls:
            raise EgressRefused(f"{self.target.host} redirects from https to http, which is not followed.")
        method, body, headers = self.method, self.body, dict(self.headers)
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        if target.origin != self.target.origin:
            if body is not None:
                raise EgressRefused(
                    f"{self.target.host} redirects a request with a body to another origin, which is not followed: "
                    "the body may hold secrets. Use the final URL."
                )
            keep = _HARMLESS - self.secret
            headers = {name: value for name, value in headers.items() if name.lower() in keep}
        return _Hop(method, target, headers, body, self.secret)


class EgressClient:
    """Sends HTTP requests to vetted targets over one pool, which is made at the first request.

    Args:
        resolver: vets every connection.
        tls: returns the client TLS context.
    """

    def __init__(self, resolver: Resolver, tls: Callable[[], ssl.SSLContext]) -> None:
        self._resolver = resolver
        self._tls = tls
        self._session: Session | None = None

    async def request(
        self,
        method: str,
        url: str | Target,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | str | Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_bytes: int = DEFAULT_MAX_BYTES,
        follow_redirects: int = 0,
        credentials: Collection[str] = (),
    ) -> Response:
        """Send a request and read its whole answer. A status of 400 or more is an answer, not an error.

        Args:
            url: text is read by `vet_url`.
            json: sent as JSON, where it is not `None`.
            data: bytes or text as they are, or a mapping sent as a form. Not together with `json`.
            timeout: seconds for everything, redirects and body included.
            max_bytes: how large the decoded body may be.
            follow_redirects: how many redirects to follow; with 0 a redirect is an answer like any other.
            credentials: names of headers that must not leave the first origin, beyond the usual ones: only headers
                known to be harmless do.

        Raises:
            UrlInvalid, HeaderInvalid, EgressRefused: nothing was sent, or a redirect was not followed.
            EgressFailed: or one of its subclasses; see `registry.core.egress.errors`.
        """
        try:
            async with (
                asyncio.timeout(timeout),
                self.stream(
                    method,
                    url,
                    headers=headers,
                    json=json,
                    data=data,
                    timeout=timeout,
                    max_bytes=max_bytes,
                    follow_redirects=follow_redirects,
                    credentials=credentials,
                ) as answer,
            ):
                return Response(answer.status, answer.headers, await answer.read(), answer.url)
        except TimeoutError as error:
            raise EgressTimeout(f"The request took over {timeout:g} s.") from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | Target,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | str | Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        idle: float | None = None,
        max_bytes: int | None = None,
        follow_redirects: int = 0,
        credentials: Collection[str] = (),
    ) -> AsyncGenerator[StreamResponse, None]:
        """Send a request and hand out its answer while the body arrives; the connection is let go at the end.

        Args:
            timeout: seconds until the head of the (last) answer.
            idle: seconds without a byte after which waiting fails, for the head or the body; `None` for no limit.
            max_bytes: how large the decoded body may be; `None` for any size.

        The other arguments and the errors are those of `request`.
        """
        target = vet_url(url) if isinstance(url, str) else url
        body, kind = _encoded_body(json, data)
        hop = _Hop(_method(method), target, _request_headers(headers or {}, kind), body, _lowered(credentials))
        try:
            async with asyncio.timeout(timeout):
                raw, hop = await self._follow(hop, follow_redirects, idle)
        except TimeoutError as error:
            raise EgressTimeout(f"{target.host} did not answer within {timeout:g} s.") from error
        try:
            yield StreamResponse(raw, hop.target, max_bytes)
        finally:
            raw.close()

    async def _follow(self, hop: _Hop, redirects: int, idle: float | None) -> tuple[RawAnswer, _Hop]:
        session = self._session or self._open()
        for left in range(redirects, -1, -1):
            raw = await session.send(hop.method, hop.target, hop.headers, hop.body, idle=idle)
            location = raw.headers.get("Location")
            if not redirects or raw.status not in _REDIRECTS or location is None:
                return raw, hop
            raw.close()
            if left:
                hop = hop.next(raw.status, location)
        raise EgressFailed(f"{hop.target.host} redirects more than {redirects} times.")

    def _open(self) -> Session:
        from registry.core.egress.session import Session  # aiohttp: loaded by whoever sends the first request

        self._session = Session(self._resolver, self._tls())
        return self._session

    async def close(self) -> None:
        """Close the pool. A later request opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _method(method: str) -> str:
    if not _TOKEN.fullmatch(method):
        raise HeaderInvalid("The HTTP method is malformed.", field="method")
    return method.upper()


def _lowered(names: Collection[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _encoded_body(json: Any, data: bytes | str | Mapping[str, str] | None) -> tuple[bytes | None, str | None]:
    """The body's bytes and the Content-Type to use where the caller gives none."""
    if json is not None and data is not None:
        raise TypeError("give json or data, not both")
    if json is not None:
        return json_codec.dumps(json, separators=(",", ":"), allow_nan=False).encode(), "application/json"
    if isinstance(data, Mapping):
        return urlencode(data).encode(), "application/x-www-form-urlencoded"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    return data, None if data is None else "application/octet-stream"


def _request_headers(given: Mapping[str, str], content_type: str | None) -> dict[str, str]:
    """The headers to send. No message repeats a value, which may be a secret."""
    headers: dict[str, str] = {}
    for name, value in given.items():
        if not _TOKEN.fullmatch(name):
            raise HeaderInvalid("A header name contains characters that it must not.", field="headers")
        if _BAD_VALUE.search(value):
            raise HeaderInvalid(
                f"The value of the header {name} contains a line break or control character.", field="headers"
            )
        lowered = name.lower()
        if lowered in _OURS or lowered.startswith("proxy-"):
            raise HeaderInvalid(f"The header {name} is set by the client itself; leave it out.", field="headers")
        headers[name] = value.strip(" \t")
    names = _lowered(headers)
    ours = {"Accept": "*/*", "User-Agent": USER_AGENT, "Content-Type": content_type}
    headers |= {name: value for name, value in ours.items() if value is not None and name.lower() not in names}
    headers["Accept-Encoding"] = ACCEPT_ENCODING
    return headers


def _decoded_headers(raw: RawAnswer) -> CIMultiDictProxy[str]:
    headers = raw.headers.copy()
    for name in ("Content-Encoding", "Content-Length"):
        headers.popall(name, None)
    return type(raw.headers)(headers)
