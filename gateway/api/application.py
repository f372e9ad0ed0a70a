"""The REST façade: one FastAPI application with the routers of all documents, and its description.

Which routers there are, `gateway.app` says. The description is built when it is first asked for, off the loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from gateway.api.shared.errors import install_errors
from gateway.api.shared.hosts import HostPolicy
from gateway.api.shared.middleware import Edge
from registry.core.settings import Settings

OPENAPI_PATH = "/api/v1/openapi.json"
TITLE = "Gatehouse"

# The two pages load their viewer from its publisher's network, and start it by an inline script.
_VIEWER = "https://cdn.jsdelivr.net"
_DOCS_POLICY = (
    f"default-src 'none'; script-src {_VIEWER} 'unsafe-inline'; style-src {_VIEWER} https://fonts.googleapis.com "
    "'unsafe-inline'; font-src https://fonts.gstatic.com; img-src data: https:; worker-src blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def create_api(routers: Iterable[APIRouter], *, version: str) -> FastAPI:
    """The application that serves `routers`, with /docs, /redoc and the OpenAPI description. Put `Edge` in front."""
    app = FastAPI(title=TITLE, version=version, openapi_url=None, docs_url=None, redoc_url=None)
    install_errors(app)
    for router in routers:
        # They are complete as they are: including them would analyse every route once more, at the first request.
        app.router.routes.extend(router.routes)
    _add_description(app)
    return app


def behind_edge(app: ASGIApp, settings: Settings, listening: str) -> Edge:
    """`app` as the settings want it guarded. `listening` is the host that the server listens on."""
    hosts = HostPolicy(listening, settings.public_url, settings.allowed_hosts)
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
