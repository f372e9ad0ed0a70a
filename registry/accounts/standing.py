"""How a person stands with servers that are signed in to: what is connected, and what became of the latest attempt.

Connecting itself is `service`'s: it begins and ends in the person's browser. Whoever asked for it looks here for the
outcome. No secret is in what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import func, select

from registry.accounts.errors import LoginNotFound, NothingToConnect
from registry.accounts.models import AccountConnection, ServerAccount, ServerLogin
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session
from registry.identity.principal import Principal
from registry.servers.models import Server
from registry.servers.queries import live_servers
from registry.servers.service import ServerService


class AttemptView(BaseModel):
    """A person who was sent to the issuer.

    Args:
        state: failed where the person or the issuer did not want it, or what came back was wrong.
        expires_at: when an answer is no longer taken.
    """

    state: Literal["waiting", "connected", "failed"]
    failure: str | None
    expires_at: datetime


class AccountView(BaseModel):
    """Args:
    server: the slug.
    kind: of the server's login; by `authorization_code` each person connects an account.
    connected: requests of the caller have an account to go with.
    connect: where the caller connects one, in a browser, signed in to the gateway.
    attempt: the caller's latest to connect one, within ten minutes.
    """

    server_id: str
    server: str
    kind: str
    issuer: str | None
    connected: bool
    connect: str | None
    attempt: AttemptView | None


class AccountsView(BaseModel):
    accounts: list[AccountView]
    total: int
    limit: int
    offset: int


class Standings:
    def __init__(self, clock: Clock, audit: AuditService, servers: ServerService) -> None:
        self._clock = clock
        self._audit = audit
        self._servers = servers

    async def list(
        self, session: Session, principal: Principal, origin: str, *, limit: int = 50, offset: int = 0
    ) -> AccountsView:
        """The servers that are signed in to, by slug.

        Args:
            origin: the gateway's own address, without a slash at the end.
        """
        principal.require("mcp:servers:read")
        visible = live_servers(principal).join(ServerLogin, ServerLogin.server_id == Server.id)
        total = await session.scalar(select(func.count()).select_from(visible.subquery()))
        servers = (await session.scalars(visible.order_by(Server.slug).limit(limit).offset(offset))).all()
        views = await self._views(session, principal, origin, servers)
        return AccountsView(accounts=views, total=total or 0, limit=limit, offset=offset)

    async def get(self, session: Session, principal: Principal, server_id: str, origin: str) -> AccountView:
        """Raises `NotFound` where there is no such server, or it is not signed in to."""
        server = await self._servers.get(session, principal, server_id)
        found = await self._views(session, principal, origin, [server])
        if not found:
            raise LoginNotFound
        return found[0]

    async def ask(self, session: Session, principal: Principal, server_id: str, origin: str) -> AccountView:
        """Say where the caller connects an account; `attempt` will tell what became of it.

        Raises:
            NothingToConnect: nobody connects an account at this server, or the caller is no person.
        """
        view = await self.get(session, principal, server_id, origin)
        if principal.user_id is None:
            raise NothingToConnect("Only a person has accounts at servers: use a credential of theirs.")
        if view.connect is None:
            raise NothingToConnect(f"Accounts are not connected here: the server's login is {view.kind}.")
        await self._audit.record(session, principal, "accounts.ask", target=("server", view.server_id))
        return view

    async def _views(
        self, session: Session, principal: Principal, origin: str, servers: Sequence[Server]
    ) -> list[AccountView]:
        ids = [server.id for server in servers]
        login_rows = await session.scalars(select(ServerLogin).where(ServerLogin.server_id.in_(ids)))
        logins = {login.server_id: login for login in login_rows}
        own = principal.user_id or ""
        held = select(ServerAccount.server_id, ServerAccount.issuer).where(
            ServerAccount.server_id.in_(ids), ServerAccount.holder == own
        )
        accounts = {row.server_id: row.issuer for row in await session.execute(held)}
        attempts = await self._attempts(session, principal, ids)
        return [
            _view(server, login, attempts.get(server.id), origin, connected=accounts.get(server.id) == login.issuer)
            for server in servers
            if (login := logins.get(server.id)) is not None
        ]

    async def _attempts(
        self, session: Session, principal: Principal, server_ids: Sequence[str]
    ) -> dict[str, AccountConnection]:
        """The latest of each server that is not forgotten yet."""
        if principal.user_id is None:
            return {}
        tried = select(AccountConnection).where(
            AccountConnection.server_id.in_(server_ids),
            AccountConnection.user_id == principal.user_id,
            AccountConnection.expires_at > self._clock.now(),
        )
        rows = await session.scalars(tried.order_by(AccountConnection.expires_at))
        return {row.server_id: row for row in rows}


def _view(
    server: Server, login: ServerLogin, attempt: AccountConnection | None, origin: str, *, connected: bool
) -> AccountView:
    by_browser = login.kind == "authorization_code"
    return AccountView(
        server_id=server.id,
        server=server.slug,
        kind=login.kind,
        issuer=login.issuer or None,
        connected=connected or login.kind == "client_credentials",
        connect=f"{origin}/v1/mcp/servers/{server.id}/connect" if by_browser else None,
        attempt=_attempt(attempt) if attempt is not None else None,
    )


def _attempt(row: AccountConnection) -> AttemptView:
    # One whose answer is being looked into is waiting still.
    ended = {"connected": "connected", "failed": "failed"}
    return AttemptView.model_validate(
        {"state": ended.get(row.state, "waiting"), "failure": row.failure, "expires_at": row.expires_at}
    )
