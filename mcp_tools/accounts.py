"""Tools for accounts at servers: how a server is signed in to (`logins_…`), and one's own account (`accounts_…`).

Connecting an account needs a browser: `logins_get` says where.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.accounts.models import ServerLogin
from registry.accounts.service import AccountService, Kind, LoginSettings
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.servers.service import ServerService

READ = "mcp:servers:read"
CHANGE = "mcp:servers:update"


class OneServer(Arguments):
    server: str = Field(description="Id or slug of the server.")


class SetLogin(OneServer):
    kind: Kind = Field(
        description="client_credentials: the gateway's own OAuth account. authorization_code: each person connects "
        "theirs. static: each person brings headers."
    )
    issuer: str | None = Field(None, max_length=500, description="Found out when left out.")
    client_id: str | None = Field(None, max_length=2000, description="The gateway registers itself when left out.")
    client_secret: str | None = Field(None, max_length=2000)
    scope: str = Field("", max_length=2000)


class BringAccount(OneServer):
    headers: dict[str, str] = Field(
        min_length=1, max_length=20, description="Sent with each of one's own requests to the server; kept secret."
    )


class LoginView(BaseModel):
    """Args: connect: where a person connects their account, in a browser."""

    server_id: str
    kind: str
    issuer: str | None
    client_id: str | None
    scope: str
    connected: bool
    connect: str | None


class Done(BaseModel):
    server_id: str
    done: bool = True


class AccountTools:
    """Args: redirect_uri: where the issuers of servers send people back to."""

    def __init__(self, database: Database, servers: ServerService, accounts: AccountService, redirect_uri: str) -> None:
        self._database = database
        self._servers = servers
        self._accounts = accounts
        self._redirect_uri = redirect_uri

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "logins_get",
                "Show how a server is signed in to",
                "Show how requests to a server are signed in, whether one's own account is connected, and where to "
                "connect it.",
                READ,
                OneServer,
                self._get,
                read_only=True,
            ),
            Tool(
                "logins_set",
                "Say how a server is signed in to",
                "Say with whose account requests go to a server. Accounts of another kind or issuer are over.",
                CHANGE,
                SetLogin,
                self._set,
            ),
            Tool(
                "logins_remove",
                "Sign in to a server no more",
                "Remove a server's login; all accounts at it are over.",
                CHANGE,
                OneServer,
                self._clear,
                destructive=True,
            ),
            Tool(
                "accounts_set",
                "Bring an account",
                "Bring the headers that one's own requests to a server carry, where its login is static.",
                READ,
                BringAccount,
                self._bring,
                idempotent=True,
            ),
            Tool(
                "accounts_remove",
                "Forget an account",
                "Forget one's own account at a server.",
                READ,
                OneServer,
                self._leave,
                destructive=True,
                idempotent=True,
            ),
        ]

    async def _id(self, principal: Principal, server: str) -> str:
        async with self._database.reading() as session:
            return (await self._servers.get_by_id_or_slug(session, principal, server)).id

    async def _get(self, principal: Principal, wanted: OneServer) -> LoginView:
        server_id = await self._id(principal, wanted.server)
        async with self._database.reading() as session:
            login, connected = await self._accounts.login(session, principal, server_id)
            return _view(login, connected=connected)

    async def _set(self, principal: Principal, wanted: SetLogin) -> LoginView:
        settings = LoginSettings(**wanted.model_dump(exclude={"server"}))
        server_id = await self._id(principal, wanted.server)
        login = await self._accounts.configure(principal, server_id, settings, self._redirect_uri)
        return _view(login, connected=login.kind == "client_credentials")

    async def _clear(self, principal: Principal, wanted: OneServer) -> Done:
        server_id = await self._id(principal, wanted.server)
        async with self._database.transaction() as session:
            await self._accounts.clear(session, principal, server_id)
        return Done(server_id=server_id)

    async def _bring(self, principal: Principal, wanted: BringAccount) -> Done:
        server_id = await self._id(principal, wanted.server)
        async with self._database.transaction() as session:
            await self._accounts.bring(session, principal, server_id, wanted.headers)
        return Done(server_id=server_id)

    async def _leave(self, principal: Principal, wanted: OneServer) -> Done:
        server_id = await self._id(principal, wanted.server)
        async with self._database.transaction() as session:
            await self._accounts.leave(session, principal, server_id)
        return Done(server_id=server_id)


def _view(login: ServerLogin, *, connected: bool) -> LoginView:
    by_browser = login.kind == "authorization_code"
    return LoginView(
        server_id=login.server_id,
        kind=login.kind,
        issuer=login.issuer or None,
        client_id=login.client_id or None,
        scope=login.scope,
        connected=connected,
        connect=f"/v1/mcp/servers/{login.server_id}/connect" if by_browser else None,
    )
