"""The authorization endpoint: a client sends a person here, who signs in, is asked, and is sent back with a code."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.auth import pages
from gateway.auth.browser import Browsers, form_of, single
from gateway.auth.credentials import require_same_origin
from gateway.auth.origin import Origin
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.identity.principal import Principal
from registry.oauth import redirects
from registry.oauth.consent import ConsentExpired, RefusedToClient, Wish
from registry.oauth.errors import ClientUnknown
from registry.oauth.scopes import SCOPES, resource_of
from registry.oauth.service import OAuthService

PATH = "/oauth/authorize"
_SORRY = "This application cannot be let in"


class Authorize:
    def __init__(self, database: Database, oauth: OAuthService, browsers: Browsers, origin: Origin) -> None:
        self._database = database
        self._oauth = oauth
        self._browsers = browsers
        self._origin = origin

    def router(self) -> APIRouter:
        api = APIRouter()
        api.add_route(PATH, self.ask, methods=["GET"], include_in_schema=False)
        api.add_route("/oauth/consent", self.answer, methods=["POST"], include_in_schema=False)
        return api

    async def ask(self, request: Request) -> Response:
        base = self._origin.of(request.scope)
        query = request.scope["query_string"].decode("latin-1")
        try:
            async with self._database.reading() as session:
                wish = await self._oauth.consents.read(session, base, single(query))
        except ClientUnknown as error:
            return pages.failure(_SORRY, error.message)
        except RefusedToClient as error:
            return self._back(
                error.redirect_uri, base, error=error.error, error_description=error.message, state=error.state
            )
        person = await self._browsers.person(request)
        if person is None:
            return RedirectResponse(f"/login?next={quote(f'{PATH}?{query}', safe='')}", 303)
        return self._page(person, wish, base)

    def _page(self, person: Principal, wish: Wish, base: str) -> Response:
        return pages.consent(
            self._oauth.consents.seal(person, wish),
            client=wish.client_name,
            host=wish.client_host,
            redirect=wish.redirect_uri,
            address=resource_of(base, wish.audience),
            scopes=[SCOPES[name] for name in wish.scopes if person.may(name)],
            email=person.email or "",
            to=redirects.source_of(wish.redirect_uri),
        )

    async def answer(self, request: Request) -> Response:
        require_same_origin(request.scope["headers"])
        base, form = self._origin.of(request.scope), await form_of(request)
        person = await self._browsers.person(request)
        if person is None:
            return pages.failure("Signed out", "Your session has ended: begin again in the application.", 401)
        try:
            wish = self._oauth.consents.open(person, form.get("wish", ""))
        except ConsentExpired as error:
            return pages.failure("Begin again", error.message, 403)
        if form.get("answer") != "allow":
            return self._refuse(wish, base, "The person denied it.")
        try:
            async with self._database.transaction() as session:
                code = await self._oauth.approve(session, person, wish)
        except Forbidden as error:
            return self._refuse(wish, base, error.message)
        return self._back(wish.redirect_uri, base, code=code, state=wish.state)

    def _refuse(self, wish: Wish, base: str, why: str) -> Response:
        return self._back(wish.redirect_uri, base, error="access_denied", error_description=why, state=wish.state)

    def _back(self, uri: str, base: str, **answer: str | None) -> Response:
        """Every answer names its issuer, so that a client cannot be led to another's (RFC 9207)."""
        return RedirectResponse(redirects.with_answer(uri, **answer, iss=base), 303)
