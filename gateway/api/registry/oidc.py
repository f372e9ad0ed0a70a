"""Registry API, "OIDC Authentication Flow": to the provider, back from it, and out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.api.registry.auth import LIMIT
from gateway.api.shared.route import Caller, Front, Session, public
from gateway.auth.browser import Browsers, next_of, single
from gateway.auth.credentials import cookie
from gateway.auth.origin import Origin
from registry.core.errors import GatehouseError
from registry.identity.service import IdentityService
from registry.oidc.errors import OidcNotConfigured
from registry.oidc.service import WITHIN, OidcService

LOGIN_PATH = "/v1/auth/oidc/login"
CALLBACK_PATH = "/v1/auth/oidc/callback"
_COOKIE = "gatehouse_oidc"
_SECURE_COOKIE = "__Host-gatehouse_oidc"


class LogoutBody(BaseModel):
    post_logout_redirect_uri: Annotated[str, Field(max_length=2000)] | None = None


class LogoutAnswer(BaseModel):
    logout_url: str


def router(
    front: Front, identity: IdentityService, oidc: OidcService | None, browsers: Browsers, origin: Origin
) -> APIRouter:
    api = front.router(tags=["OIDC"], limit=LIMIT)

    @api.get(LOGIN_PATH, status_code=302, response_class=Response)
    @public
    async def oidc_login(request: Request) -> Response:
        """To the provider. `next` is the path to go on to afterwards."""
        if oidc is None:
            raise OidcNotConfigured
        begun = await oidc.begin(origin.of(request.scope) + CALLBACK_PATH, next_of(request.query_params.get("next")))
        response = RedirectResponse(begun.url, 302)
        secure = browsers.secure(request)
        name = _SECURE_COOKIE if secure else _COOKIE
        seconds = int(WITHIN.total_seconds())
        response.set_cookie(name, begun.browser, seconds, path="/", secure=secure, httponly=True, samesite="lax")
        return response

    @api.get(CALLBACK_PATH, status_code=302, response_class=Response)
    @public
    async def oidc_callback(request: Request) -> Response:
        """Back from the provider, with `code` and `state`, or `error` and `error_description`."""
        if oidc is None:
            raise OidcNotConfigured
        headers = request.scope["headers"]
        browser = cookie(headers, _SECURE_COOKIE) or cookie(headers, _COOKIE)
        try:
            answer = single(request.scope["query_string"].decode("latin-1"))
            proved = await oidc.finish(answer, browser.decode("latin-1") if browser else None)
            response = RedirectResponse(proved.following, 302)
            made = await browsers.admit(request, response, proved.user_id)
            if made.principal.session_id is not None:
                await oidc.remember(made.principal.session_id, proved)
        except GatehouseError as error:
            response = RedirectResponse(f"/login?{urlencode({'failed': error.code})}", 302)
        for name in (_COOKIE, _SECURE_COOKIE):
            response.delete_cookie(name, path="/", secure=name == _SECURE_COOKIE, httponly=True)
        return response

    @api.post("/v1/auth/oidc/logout")
    async def oidc_logout(body: LogoutBody, session: Session, caller: Caller) -> LogoutAnswer:
        if oidc is None:
            raise OidcNotConfigured
        url = await oidc.logout_url(caller, body.post_logout_redirect_uri)
        await identity.close_session(session, caller)
        return LogoutAnswer(logout_url=url)

    return api
