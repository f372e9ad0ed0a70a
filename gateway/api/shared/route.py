"""How a REST route runs: one request, one transaction, committed before the answer leaves.

A route is closed unless it says `public`. Handlers get a `Session` and the `Caller` as parameters, ask for permissions
by `requires(…)`, and neither commit nor roll back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, params
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from gateway.api.shared import idempotency, strict_json
from gateway.api.shared.client import ClientAddress
from gateway.api.shared.errors import PLAIN_429, WORDS
from gateway.api.shared.rate_limits import VERDICT, Limit, RateLimiter, refusal
from gateway.auth.authenticator import Authenticator
from registry.core import db
from registry.core.idempotency import IdempotencyStore
from registry.identity.principal import Principal

_READING = frozenset({"GET", "HEAD"})
_PUBLIC = "_gatehouse_public"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def public(endpoint: Endpoint) -> Endpoint:
    """Mark a handler that answers without a credential."""
    setattr(endpoint, _PUBLIC, True)
    return endpoint


class StrictRequest(Request):
    """A request whose JSON is read by `strict_json`."""

    _parsed: Any

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = strict_json.parse(await self.body())
        return self._parsed


class DeferredRoute(APIRoute):
    """A route whose handler is analysed when it is first asked for, not when the gateway starts.

    Until then it has what a request is matched by. The analysis of all of them is a third of a second.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, methods: Iterable[str] | None = None, **how: Any
    ) -> None:
        self.path, self.endpoint = path, endpoint
        self.methods = {method.upper() for method in methods or ("GET",)}
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self._how = how

    def __getattr__(self, name: str) -> Any:
        """What is not there yet, the analysis makes. Two threads may both do it, to the same end."""
        how = self.__dict__.get("_how")
        if how is None:
            raise AttributeError(name)
        super().__init__(self.path, self.endpoint, methods=self.methods, **how)
        self._how = None
        return getattr(self, name)


@dataclass(frozen=True)
class Front:
    """What every route of the façade stands on, and where routers come from.

    Args:
        limiter: `None` turns the façade's rate limits off.
        settled: waits until what was committed shows everywhere in this process, so that a client that changes
            something finds it changed at whatever door it comes to next.
    """

    database: db.Database
    authenticator: Authenticator
    idempotency: IdempotencyStore
    addresses: ClientAddress
    limiter: RateLimiter | None
    settled: Callable[[], Awaitable[None]]

    def router(
        self,
        *,
        tags: list[str],
        limit: Limit | None = None,
        words: Mapping[str, str] | None = None,
        plain_429: str | None = None,
    ) -> APIRouter:
        """A router whose routes run as described above, and share a rate limit if one is given.

        Args:
            words: the document's own error codes, where they are not those of the others.
            plain_429: the `error` of a 429, where the document shows a sentence instead of an object.
        """
        front = self
        marks: dict[str, Any] = {WORDS: words, PLAIN_429: plain_429}
        given = {name: value for name, value in marks.items() if value is not None}

        class Route(DeferredRoute):
            def get_route_handler(self) -> Handler:
                return front.guarded(super().get_route_handler(), self, limit, given)

        return APIRouter(route_class=Route, tags=list(tags))

    def guarded(self, handle: Handler, route: APIRoute, limit: Limit | None, marks: Mapping[str, Any]) -> Handler:
        """The route's handler behind its rate limit, authentication and transaction.

        Args:
            marks: put into the request's scope, for whatever renders its errors.
        """
        is_public = getattr(route.endpoint, _PUBLIC, False)
        reads = _READING.issuperset(route.methods or ())
        creates = route.status_code == 201

        async def run(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            request.scope.update(marks)
            if limit is not None and limit.per == "address":
                self.count_address(request, limit)
            principal = None if is_public else await self._authenticated(request, safe=reads)
            if limit is not None and limit.per == "user" and principal is not None:
                self._count(request, limit, principal.user_id or principal.subject)
            request.state.principal = principal
            await _read_body(request)
            async with self._session(reads) as session:
                request.state.session = session
                key = request.headers.get(idempotency.HEADER) if creates else None
                if key is None or principal is None:
                    response = await handle(request)
                else:
                    response = await idempotency.run_once(self.idempotency, session, principal, request, key, handle)
            if not reads:
                await self.settled()
            return response

        return run

    def _session(self, reads: bool) -> AbstractAsyncContextManager[db.Session]:
        return self.database.reading() if reads else self.database.transaction()

    async def _authenticated(self, request: Request, *, safe: bool) -> Principal:
        headers = request.scope["headers"]
        return self.authenticator.cached(headers) or await self.authenticator.authenticate(headers, safe=safe)

    def count_address(self, request: Request, limit: Limit) -> None:
        """Count a request of this client address. Raises `RateLimited`."""
        self._count(request, limit, self.addresses.of(request.scope))

    def _count(self, request: Request, limit: Limit, key: str) -> None:
        if self.limiter is None:
            return
        verdict = request.scope[VERDICT] = self.limiter.hit(limit, key)
        if not verdict.admitted:
            raise refusal(verdict)


async def _read_body(request: StrictRequest) -> None:
    """Read and judge the body here: an error within FastAPI's own reading would lose its meaning."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if await request.body() and (kind == "application/json" or kind.endswith("+json")):
        await request.json()


def _session(request: Request) -> db.Session:
    return request.state.session


def _caller(
    request: Request,
    # Both stand here for the OpenAPI description alone; the route has looked at the credential already.
    _bearer: Annotated[object, Depends(HTTPBearer(auto_error=False, description="API key or access token"))],
    _key: Annotated[object, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> Principal:
    principal: Principal | None = request.state.principal
    if principal is None:
        raise RuntimeError("a public route must not ask for the caller")
    return principal


Session = Annotated[db.Session, Depends(_session)]
"""The transaction of the request; for reading only where the method is GET."""

Caller = Annotated[Principal, Depends(_caller)]
"""Who is calling."""


def requires(*permissions: str) -> params.Depends:
    """A dependency that refuses callers without all of these permissions."""

    def check(caller: Caller) -> None:
        for permission in permissions:
            caller.require(permission)

    return Depends(check)
