"""Signing in: the pages, the authorization server, and what OAuth clients call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.registry import accounts as accounts_api
from gateway.api.registry import oidc as oidc_api
from gateway.api.registry.auth import LIMIT
from gateway.auth.authorize import Authorize
from gateway.auth.browser import Browsers
from gateway.auth.sign_in import SignIn
from gateway.auth.token_endpoints import TokenEndpoints
from registry.core.security import Sealer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import APIRouter
    from starlette.requests import Request

    from gateway.api.shared.route import Front
    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services


def sign_in_routers(ground: Ground, services: Services, front: Front) -> Sequence[APIRouter]:
    """The routers of `gateway.auth`, of the OIDC provider, and of accounts at servers."""
    database, origin = ground.database, ground.origin
    secret = ground.settings.introspect_secret

    def count(request: Request) -> None:
        front.count_address(request, LIMIT)

    browsers = Browsers(database, services.identity, origin)
    pages = SignIn(
        database,
        services.identity,
        browsers,
        ground.clock,
        Sealer(ground.master, "sign-in"),
        count,
        provider=oidc_api.LOGIN_PATH if services.oidc is not None else None,
    )
    endpoints = TokenEndpoints(
        database, services.oauth, origin, count, secret.get_secret_value() if secret is not None else None
    )
    return [
        oidc_api.router(front, services.identity, services.oidc, browsers, origin),
        accounts_api.router(front, services.accounts, services.standings, origin),
        accounts_api.connect_router(front, services.accounts, browsers, origin),
        pages.router(),
        Authorize(database, services.oauth, browsers, origin).router(),
        endpoints.router(),
    ]
