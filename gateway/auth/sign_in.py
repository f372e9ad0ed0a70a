"""Signing in and out in a browser: password, second factor, or an identity provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.auth import pages, proof
from gateway.auth.browser import Browsers, form_of, next_of
from gateway.auth.credentials import require_same_origin
from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.security import SealBroken, Sealer
from registry.identity.errors import LoginFailed, SecondFactorNeeded
from registry.identity.service import IdentityService

CODE_WITHIN = timedelta(minutes=5)
"""How long a right password waits for its code."""
_PLACE = "password was right"
_FAILED = {
    "OIDC_LOGIN_FAILED": "Signing in with your organisation did not work: begin again.",
    "NOT_ADMITTED": "Your organisation knows you, but you are not let in here: ask an administrator.",
    "ISSUER_UNAVAILABLE": "Your organisation's sign-in cannot be reached right now.",
}
"""What the way back from the identity provider says, by the error that it ended in."""


class _Ticket(msgspec.Struct):
    user_id: str
    expires_at: float


class SignIn:
    """The pages.

    Args:
        count: counts an attempt of a request's client; raises where there were too many.
        provider: the path that signs in by an identity provider, `None` where none is configured.
    """

    def __init__(
        self,
        database: Database,
        identity: IdentityService,
        browsers: Browsers,
        clock: Clock,
        sealer: Sealer,
        count: Callable[[Request], None],
        provider: str | None,
    ) -> None:
        self._database = database
        self._identity = identity
        self._browsers = browsers
        self._clock = clock
        self._sealer = sealer
        self._count = count
        self._provider = provider

    def router(self) -> APIRouter:
        api = APIRouter()
        api.add_route("/login", self.show, methods=["GET"], include_in_schema=False)
        api.add_route("/login", self.password, methods=["POST"], include_in_schema=False)
        api.add_route("/login/code", self.code, methods=["POST"], include_in_schema=False)
        api.add_route("/logout", self.leave, methods=["POST"], include_in_schema=False)
        return api

    async def show(self, request: Request) -> Response:
        failed = request.query_params.get("failed")
        wrong = _FAILED.get(failed, "Signing in did not work: begin again.") if failed else None
        return self._form(next_of(request.query_params.get("next")), wrong=wrong)

    async def password(self, request: Request) -> Response:
        self._count(request)
        require_same_origin(request.scope["headers"])
        form = await form_of(request)
        following, email = next_of(form.get("next")), form.get("email", "")
        try:
            user_id, needed = await proof.first_factor(
                self._database, self._identity, email[:320], form.get("password", "")[:1024]
            )
        except LoginFailed as error:
            return self._form(following, email=email, wrong=error.message)
        if needed:
            return pages.second_factor(following, self._ticket(user_id))
        return await self._go_on(request, user_id, following)

    async def code(self, request: Request) -> Response:
        self._count(request)
        require_same_origin(request.scope["headers"])
        form = await form_of(request)
        following, ticket = next_of(form.get("next")), form.get("ticket", "")
        user_id = self._read(ticket)
        if user_id is None:
            return self._form(following, wrong="That took too long: sign in again.")
        try:
            await proof.by_code(self._database, self._identity, user_id, form.get("code", "")[:64])
        except SecondFactorNeeded as error:
            return pages.second_factor(following, ticket, wrong=error.message)
        return await self._go_on(request, user_id, following)

    async def leave(self, request: Request) -> Response:
        require_same_origin(request.scope["headers"])
        response = RedirectResponse("/login", 303)
        await self._browsers.dismiss(request, response)
        return response

    async def _go_on(self, request: Request, user_id: str, following: str) -> Response:
        response = RedirectResponse(following, 303)
        await self._browsers.admit(request, response, user_id)
        return response

    def _form(self, following: str, *, email: str = "", wrong: str | None = None) -> Response:
        provider = f"{self._provider}?next={quote(following)}" if self._provider else None
        return pages.sign_in(following, provider=provider, email=email, wrong=wrong)

    def _ticket(self, user_id: str) -> str:
        until = (self._clock.now() + CODE_WITHIN).timestamp()
        return self._sealer.seal(msgspec.json.encode(_Ticket(user_id, until)), _PLACE)

    def _read(self, ticket: str) -> str | None:
        try:
            found = msgspec.json.decode(self._sealer.open(ticket, _PLACE), type=_Ticket)
        except SealBroken:
            return None
        return found.user_id if found.expires_at > self._clock.now().timestamp() else None
