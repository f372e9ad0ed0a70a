"""Tools for accounts at servers: how a server is signed in to (`logins_…`), and one's own account (`accounts_…`).

Connecting an account needs a person with a browser: `accounts_connect` says where, `accounts_get` what became of it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.accounts.models import ServerLogin
from registry.accounts.service import AccountService, Kind, LoginSettings
from registry.accounts.standing import AccountsView, AccountView, Standings
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.servers.service import ServerService

READ = "mcp:servers:read"
CHANGE = "mcp:servers:update"


class OneServer(Arguments):
    server: str = Field(description="Id or slug of the server.")


class ListAccounts(Arguments):
    limit: int = Field(50, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=1_000_000_000)


class SetLogin(OneServer):
    kind: Kind = Field(
        description="client_credentials: the gateway's own OAuth account. authorization_code: each person connects "
        "theirs. static: each person brings headers."
    )
    issuer: str | None = Field(None, max_length=500, description="Found out when left out.")
    client_id: str | None = Field(None, max_length=2000, description="The gateway registers itself when left out.")
    client_secret: str | None = Field(None, max_length=2000)
    private_key: str | None = Field(
        None, max_length=20_000, description="PEM; in the place of a secret, at an issuer that knows its public half."
    )
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
    """Args:
    origin: the gateway's own address.
    callback: its path to which the issuers of servers send people back.
    """

    def __init__(
        self,
        database: Database,
        servers: ServerService,
        accounts: AccountService,
        standings: Standings,
        *,
        origin: str,
        callback: str,
    ) -> None:
        self._database = database
        self._servers = servers
        self._accounts = accounts
        self._standings = standings
        self._origin = origin
        self._redirect_uri = origin + callback

    def tools(self) -> list[Tool[Any]]:
        return [*self._of_logins(), *self._of_accounts()]

    def _of_logins(self) -> list[Tool[Any]]:
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
        ]

    def _of_accounts(self) -> list[Tool[Any]]:
        return [
            Tool(
                "accounts_list",
                "List one's accounts",
                "List the servers that are signed in to, and whether one's own account at each is connected.",
                READ,
                ListAccounts,
                self._list,
                read_only=True,
            ),
            Tool(
                "accounts_get",
                "Show an account",
                "Show whether one's own account at a server is connected, and what became of the latest attempt to "
                "connect it.",
                READ,
                OneServer,
                self._stand,
                read_only=True,
            ),
            Tool(
                "accounts_connect",
                "Connect an account",
                "Say where a person connects their account at a server. Show them the address in `connect`: they open "
                "it in a browser, and accounts_get tells the outcome.",
                READ,
                OneServer,
                self._connect,
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

    async def _list(self, principal: Principal, wanted: ListAccounts) -> AccountsView:
        async with self._database.reading() as session:
            return await self._standings.list(
                session, principal, self._origin, limit=wanted.limit, offset=wanted.offset
            )

    async def _stand(self, principal: Principal, wanted: OneServer) -> AccountView:
        server_id = await self._id(principal, wanted.server)
        async with self._database.reading() as session:
            return await self._standings.get(session, principal, server_id, self._origin)

    async def _connect(self, principal: Principal, wanted: OneServer) -> AccountView:
        server_id = await self._id(principal, wanted.server)
        async with self._database.transaction() as session:
            return await self._standings.ask(session, principal, server_id, self._origin)

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
