"""Our own routes for accounts at servers: how a server is signed in to, and with whose account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.api.registry.auth import LIMIT
from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.route import Caller, Front, Session, public
from gateway.auth import pages
from gateway.auth.browser import Browsers, single
from gateway.auth.credentials import by_cookie
from gateway.auth.origin import Origin
from registry.accounts.finding import CLIENT_PATH
from registry.accounts.issuer import about_us
from registry.accounts.models import ServerLogin
from registry.accounts.service import AccountService, Kind, LoginSettings
from registry.accounts.standing import AccountsView, AccountView, Standings
from registry.core.errors import GatehouseError

CALLBACK_PATH = "/v1/mcp/connect/callback"
_ONE = "/v1/mcp/servers/{server_id}"


class LoginBody(BaseModel):
    kind: Kind
    issuer: Annotated[str, Field(max_length=500)] | None = None
    client_id: Annotated[str, Field(max_length=2000)] | None = None
    client_secret: Annotated[str, Field(max_length=2000)] | None = None
    private_key: Annotated[str, Field(max_length=20_000)] | None = None
    scope: Annotated[str, Field(max_length=2000)] = ""


class AccountBody(BaseModel):
    headers: Annotated[dict[str, str], Field(min_length=1, max_length=20)]


class LoginAnswer(BaseModel):
    """A login without its secrets. `connected`: requests of the caller have an account to go with."""

    server_id: str
    kind: str
    issuer: str | None
    client_id: str | None
    scope: str
    connected: bool


def router(front: Front, accounts: AccountService, standings: Standings, origin: Origin) -> APIRouter:
    api = front.router(tags=["MCP servers"])

    @api.put(f"{_ONE}/login")
    async def set_server_login(server_id: str, body: LoginBody, request: Request, caller: Caller) -> LoginAnswer:
        wanted = LoginSettings(**body.model_dump())
        login = await accounts.configure(caller, server_id, wanted, origin.of(request.scope) + CALLBACK_PATH)
        return _login(login, connected=login.kind == "client_credentials")

    @api.get(f"{_ONE}/login")
    async def get_server_login(server_id: str, session: Session, caller: Caller) -> LoginAnswer:
        login, connected = await accounts.login(session, caller, server_id)
        return _login(login, connected=connected)

    @api.delete(f"{_ONE}/login", status_code=204)
    async def remove_server_login(server_id: str, session: Session, caller: Caller) -> None:
        await accounts.clear(session, caller, server_id)

    @api.get("/v1/mcp/accounts")
    async def list_accounts(
        session: Session,
        request: Request,
        caller: Caller,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> AccountsView:
        return await standings.list(session, caller, origin.of(request.scope), limit=limit, offset=offset)

    @api.get(f"{_ONE}/account")
    async def get_account(server_id: str, session: Session, request: Request, caller: Caller) -> AccountView:
        return await standings.get(session, caller, server_id, origin.of(request.scope))

    @api.post(f"{_ONE}/account/connect")
    async def connect_account(server_id: str, session: Session, request: Request, caller: Caller) -> AccountView:
        """Where the caller connects an account, in a browser; `GET …/account` tells what becomes of it."""
        return await standings.ask(session, caller, server_id, origin.of(request.scope))

    @api.put(f"{_ONE}/account", status_code=204)
    async def set_account(server_id: str, body: AccountBody, session: Session, caller: Caller) -> None:
        await accounts.bring(session, caller, server_id, body.headers)

    @api.delete(f"{_ONE}/account", status_code=204)
    async def remove_account(server_id: str, session: Session, caller: Caller) -> None:
        await accounts.leave(session, caller, server_id)

    return api


def connect_router(front: Front, accounts: AccountService, browsers: Browsers, origin: Origin) -> APIRouter:
    """What a person opens in a browser, to connect an account and to come back."""
    api = front.router(tags=["MCP servers"], limit=LIMIT)

    @api.get(f"{_ONE}/connect", status_code=302, response_class=Response)
    @public
    async def connect(server_id: str, request: Request) -> Response:
        headers = request.scope["headers"]
        person = await browsers.person(request)
        if person is None:
            if by_cookie(headers):
                return RedirectResponse(f"/login?next={request.url.path}", 302)
            person = await front.authenticator.authenticate(headers, safe=True)
        return RedirectResponse(await accounts.begin(person, server_id, origin.of(request.scope) + CALLBACK_PATH), 302)

    @api.get(CALLBACK_PATH, response_class=Response)
    @public
    async def connected(request: Request) -> Response:
        """Only the person who was sent may bring the answer: in another's browser it would be another's account."""
        person = await browsers.person(request)
        if person is None:
            return pages.failure("Signed out", "Sign in here first, then connect the account again.", 401)
        try:
            await accounts.finish(person, single(request.scope["query_string"].decode("latin-1")))
        except GatehouseError as error:
            return pages.failure("Not connected", error.message, error.status)
        return pages.page("Connected", "<p>Your account is connected. You may close this page.</p>")

    @api.get(CLIENT_PATH, response_class=JSONResponse)
    @public
    async def client(request: Request) -> JSONResponse:
        """What servers' issuers read of the gateway where they take this address as its client id."""
        own = origin.of(request.scope)
        about = about_us(own + CALLBACK_PATH)
        return JSONResponse({"client_id": own + CLIENT_PATH, "token_endpoint_auth_method": "none", **about})

    return api


def _login(login: ServerLogin, *, connected: bool) -> LoginAnswer:
    return LoginAnswer(
        server_id=login.server_id,
        kind=login.kind,
        issuer=login.issuer or None,
        client_id=login.client_id or None,
        scope=login.scope,
        connected=connected,
    )
