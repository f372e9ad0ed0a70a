"""The REST façade: one FastAPI application with the routers of all documents, and its description.

Which routers there are, `gateway.app` says. The description is built when it is first asked for, off the loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway.api.shared.client import ClientAddress
from gateway.api.shared.errors import install_errors
from gateway.api.shared.middleware import Edge
from gateway.api.shared.rate_limits import MemoryRateLimiter
from gateway.api.shared.route import Front
from gateway.auth.authenticator import Authenticator
from gateway.auth.hosts import HostPolicy
from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.idempotency import IdempotencyStore
from registry.core.settings import Settings
from registry.core.version import VERSION

OPENAPI_PATH = "/api/v1/openapi.json"
TITLE = "Gatehouse"

# The two pages load their viewer from its publisher's network, and start it by an inline script.
_VIEWER = "https://cdn.jsdelivr.net"
_DOCS_POLICY = (
    f"default-src 'none'; script-src {_VIEWER} 'unsafe-inline'; style-src {_VIEWER} https://fonts.googleapis.com "
    "'unsafe-inline'; font-src https://fonts.gstatic.com; img-src data: https:; worker-src blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def create_api(
    settings: Settings,
    *,
    host: str,
    master: bytes,
    database: Database,
    authenticator: Authenticator,
    clock: Clock,
    routers: Callable[[Front], Iterable[APIRouter]],
) -> Edge:
    """The façade behind its guard, ready to serve.

    Args:
        host: where the server listens; see `HostPolicy`.
        master: the master key.
        routers: makes the documents' routers on what they stand on.
    """
    front = Front(
        database=database,
        authenticator=authenticator,
        idempotency=IdempotencyStore(clock, master),
        addresses=ClientAddress(settings.trusted_proxies),
        limiter=MemoryRateLimiter() if settings.rate_limits == "on" else None,
    )
    app = FastAPI(title=TITLE, version=VERSION, openapi_url=None, docs_url=None, redoc_url=None)
    install_errors(app)
    for router in routers(front):
        app.include_router(router)
    _add_description(app)
    hosts = HostPolicy(host, settings.public_url, settings.allowed_hosts)
    return Edge(app, hosts, max_body_bytes=settings.max_body_bytes, public_url=settings.public_url)


def _add_description(app: FastAPI) -> None:
    built: asyncio.Future[bytes] | None = None

    async def description(_request: Request) -> Response:
        nonlocal built
        if built is None:
            built = asyncio.ensure_future(asyncio.to_thread(lambda: json.dumps(app.openapi()).encode()))
        return Response(await asyncio.shield(built), media_type="application/json")

    async def docs(_request: Request) -> HTMLResponse:
        return _page(get_swagger_ui_html(openapi_url=OPENAPI_PATH, title=TITLE))

    async def redoc(_request: Request) -> HTMLResponse:
        return _page(get_redoc_html(openapi_url=OPENAPI_PATH, title=TITLE))

    app.add_route(OPENAPI_PATH, description, include_in_schema=False)
    app.add_route("/docs", docs, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)


def _page(page: HTMLResponse) -> HTMLResponse:
    page.headers["content-security-policy"] = _DOCS_POLICY
    return page
