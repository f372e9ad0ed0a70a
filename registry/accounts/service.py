"""Sets how servers are signed in to, connects people's accounts, and gives the headers that requests take along.

What a caller showed to the gateway is never part of them. Tokens are kept for the issuer that gave them: when a
server's settings name another, its accounts are over.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

import msgspec
from sqlalchemy import delete, select, update

from registry.accounts import assertion, challenge
from registry.accounts.errors import AccountInvalid, AccountMissing, ConnectionFailed, IssuerRefused, LoginNotFound
from registry.accounts.finding import Finder
from registry.accounts.issuer import IssuerClient, Tokens
from registry.accounts.models import AccountConnection, ServerAccount, ServerLogin
from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Database, Session
from registry.core.errors import GatehouseError
from registry.core.repeating import Repeating
from registry.core.security import Digester, SealBroken, Sealer
from registry.identity.principal import Principal
from registry.servers.models import Server
from registry.servers.service import ServerService

Kind = Literal["static", "client_credentials", "authorization_code"]
Headers = tuple[tuple[str, str], ...]
GATEWAY = "gateway"
"""Holder of an account of the gateway's own."""
WITHIN = timedelta(minutes=10)
EARLY = timedelta(seconds=30)
"""A token is renewed so long before its end."""
FRESH_SECONDS = 1.0
"""What was read of an account is believed for so long."""
_MOST_READ = 10_000
_FAILED = "The account was not connected: begin again at the server's connect address."
_ERROR = re.compile(r"[a-z_]{1,60}")
"""An error of RFC 6749, section 4.1.2.1."""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e]{1,4096}")
_RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "content-type", "accept", "cookie"})


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """What an administrator says of a server's login; what is left out of an OAuth login is found out.

    Args:
        private_key: PEM; proves who the gateway is in the place of `client_secret`, at an issuer that knows its
            public half.
    """

    kind: Kind
    issuer: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str = ""
    private_key: str | None = field(default=None, repr=False)


class _Secret(msgspec.Struct):
    """The sealed part of an account.

    Args:
        scope: that was asked for.
        wanted: the scope to ask for when the person connects next, where the server has wanted more.
    """

    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    refresh_token: str | None = None
    scope: str = ""
    wanted: str = ""


class _Waiting(msgspec.Struct):
    verifier: str
    redirect_uri: str
    scope: str = ""


class AccountService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        audit: AuditService,
        servers: ServerService,
        issuers: IssuerClient,
        master: bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._servers = servers
        self._issuers = issuers
        self._finder = Finder(issuers)
        self._sealer = Sealer(master, "server-accounts")
        self._states = Digester(master, "account-connections")
        self._concerned: frozenset[str] = frozenset()
        # What was known before stays true until the database can be asked again.
        self._following = Repeating(clock, FRESH_SECONDS, self._look, "logins of servers could not be read")
        self._read: dict[tuple[str, str], tuple[float, Headers]] = {}
        self._renewals = 0
        self._renewing: dict[tuple[str, str], asyncio.Lock] = {}

    # -- which servers are concerned

    def concerns(self, server_id: str) -> bool:
        """Whether requests to this server take an account along; known without waiting."""
        return server_id in self._concerned

    async def start(self) -> None:
        """Know which servers are concerned from here on, whichever process changes that."""
        await self._look()
        self._following.start()

    async def stop(self) -> None:
        await self._following.stop()

    async def _look(self) -> None:
        statement = select(ServerLogin.server_id, Server.deleted_at).join(Server, Server.id == ServerLogin.server_id)
        async with self._database.reading() as session:
            rows = (await session.execute(statement)).all()
        self._concerned = frozenset(row.server_id for row in rows if row.deleted_at is None)

    # -- how a server is signed in to

    async def configure(
        self, principal: Principal, server_id: str, wanted: LoginSettings, redirect_uri: str
    ) -> ServerLogin:
        """Set a server's login. Accounts of another kind or issuer are over.

        Raises:
            NotFound, Forbidden: no such server, or no permission to change it.
            AccountInvalid: a private key that is none, or that is not all that its client needs.
            IssuerRefused: the issuer is not one that can be used.
        """
        async with self._database.reading() as session:
            server = await self._changeable(session, principal, server_id)
        key = wanted.private_key
        if key is not None:
            assertion.algorithm_of(key)
            if wanted.kind == "static" or wanted.client_secret is not None or not wanted.client_id:
                raise AccountInvalid("A private key goes with a client_id, and with no secret.", field="private_key")
        login = ServerLogin(server_id=server.id, kind=wanted.kind, scope=wanted.scope, endpoints={}, issuer="")
        login.client_id, secret = wanted.client_id or "", wanted.client_secret
        if wanted.kind != "static":
            secret = await self._finder.fill(login, server, wanted.issuer, secret, redirect_uri)
        if key is not None:
            login.endpoints["token_endpoint_auth_method"] = assertion.METHOD
            secret = key
        return await self._save(principal, login, secret)

    async def _save(self, principal: Principal, login: ServerLogin, secret: str | None) -> ServerLogin:
        place = f"login/{login.server_id}/{login.issuer}"
        login.sealed_secret = self._sealer.seal(secret.encode(), place) if secret else None
        login.updated_at = self._clock.now()
        async with self._database.transaction() as session:
            before = await session.get(ServerLogin, login.server_id)
            if before is not None and (before.kind, before.issuer, before.client_id) != (
                login.kind,
                login.issuer,
                login.client_id,
            ):
                await session.execute(delete(ServerAccount).where(ServerAccount.server_id == login.server_id))
            await session.merge(login)
            detail = {"kind": login.kind, "issuer": login.issuer}
            await self._audit.record(
                session, principal, "logins.set", target=("server", login.server_id), detail=detail
            )
        self._concerned |= {login.server_id}
        self._read.clear()
        return login

    async def _current(self, principal: Principal, login: ServerLogin, server: Server, redirect_uri: str) -> str:
        """Follow a server that has moved to another issuer; gives the scope to ask for."""
        scope: str = login.scope or login.endpoints.get("scope", "")
        if not login.endpoints.get("found"):
            return scope
        try:
            resource = await self._finder.resource(server)
        except IssuerRefused:
            # What was found out when the login was set has been checked; it stands until the server says otherwise.
            return scope
        if resource is not None and resource.issuer != login.issuer:
            if not login.endpoints.get("registered"):
                raise IssuerRefused("The server has another issuer now: an administrator has to set its login anew.")
            # Neither the client nor the accounts of the one are the other's.
            login.client_id = ""
            secret = await self._finder.fill(login, server, None, None, redirect_uri)
            await self._save(principal, login, secret)
        return login.scope or login.endpoints.get("scope", "")

    async def login(self, session: Session, principal: Principal, server_id: str) -> tuple[ServerLogin, bool]:
        """A server's login, and whether the caller has an account there. Raises `NotFound`."""
        server = await self._servers.get(session, principal, server_id)
        found = await session.get(ServerLogin, server.id)
        if found is None:
            raise LoginNotFound
        account = await _account(session, server.id, _holder(found, principal.user_id))
        return found, account is not None or found.kind == "client_credentials"

    async def clear(self, session: Session, principal: Principal, server_id: str) -> None:
        """Sign in no more; all accounts at the server are over. Raises `NotFound`."""
        server = await self._changeable(session, principal, server_id)
        await session.execute(delete(ServerAccount).where(ServerAccount.server_id == server.id))
        await session.execute(delete(ServerLogin).where(ServerLogin.server_id == server.id))
        await self._audit.record(session, principal, "logins.delete", target=("server", server.id))
        self._read.clear()

    async def forget(self, session: Session, server: Server) -> None:
        """A removed server's login and all accounts at it are over. See `registry.servers.cleanup`."""
        for kept in (AccountConnection, ServerAccount, ServerLogin):
            await session.execute(delete(kept).where(kept.server_id == server.id))
        self._read.clear()

    async def _changeable(self, session: Session, principal: Principal, server_id: str) -> Server:
        principal.require("mcp:servers:update")
        server = await self._servers.get(session, principal, server_id)
        if server.transport not in ("streamable-http", "sse", "openapi"):
            raise AccountInvalid("Only a server that is reached over HTTP is signed in to.", field="server_id")
        return server

    # -- people's accounts

    async def bring(self, session: Session, principal: Principal, server_id: str, headers: dict[str, str]) -> None:
        """Keep the headers that a person brings for a server whose login is `static`."""
        login, user_id = await self._personal(session, principal, server_id, "static")
        for name, value in headers.items():
            reserved = name.lower() in _RESERVED or name.lower().startswith(("mcp-", "proxy-", "sec-"))
            if reserved or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise AccountInvalid("A header's name or value is not one that can be sent.", field="headers")
        await self._store(session, login, user_id, _Secret(headers), None)
        await self._audit.record(session, principal, "accounts.set", target=("server", login.server_id))

    async def begin(self, principal: Principal, server_id: str, redirect_uri: str) -> str:
        """Where a person goes to connect their account."""
        async with self._database.reading() as session:
            login, user_id = await self._personal(session, principal, server_id, "authorization_code")
            server = await self._servers.get(session, principal, server_id)
        scope = await self._current(principal, login, server, redirect_uri)
        _, account = await self._find(server_id, user_id)
        with suppress(AccountMissing):
            scope = challenge.scopes(scope, self._open(account).wanted) if account is not None else scope
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        digest = self._states.digest(state)
        now = self._clock.now()
        sealed = self._sealer.seal(msgspec.json.encode(_Waiting(verifier, redirect_uri, scope)), f"connection/{digest}")
        async with self._database.transaction() as session:
            await session.execute(delete(AccountConnection).where(AccountConnection.expires_at <= now))
            session.add(
                AccountConnection(
                    state_hash=digest,
                    server_id=login.server_id,
                    user_id=user_id,
                    sealed=sealed,
                    expires_at=now + WITHIN,
                )
            )
        hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": login.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": hashed,
            "code_challenge_method": "S256",
            "resource": login.endpoints["resource"],
            **({"scope": scope} if scope else {}),
        }
        endpoint: str = login.endpoints["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def finish(self, principal: Principal, answer: Mapping[str, str]) -> str:
        """Take the issuer's answer; gives the server's id. Its state serves once, for the person who was sent.

        Raises:
            ConnectionFailed: it is no answer to a question of ours, somebody else's, or tells of a failure.
        """
        row, login = await self._take(answer.get("state", ""))
        try:
            tokens, waiting = await self._given(principal, row, login, answer)
        except GatehouseError as error:
            async with self._database.transaction() as session:
                await self._end(session, row, "failed", error.message)
            raise
        async with self._database.transaction() as session:
            await self._keep(session, login, row.user_id, tokens, _Secret(scope=waiting.scope))
            await self._end(session, row, "connected")
            await self._audit.record(session, principal, "accounts.connect", target=("server", row.server_id))
        return row.server_id

    async def _take(self, state: str) -> tuple[AccountConnection, ServerLogin]:
        """What a state was made for; once."""
        digest = self._states.digest(state)
        waits = AccountConnection.state == "waiting"
        taken = update(AccountConnection).where(AccountConnection.state_hash == digest, waits).values(state="taken")
        async with self._database.transaction() as session:
            won = (await session.execute(taken.returning(AccountConnection.state_hash))).first() is not None
            row = await session.get(AccountConnection, digest)
            login = await session.get(ServerLogin, row.server_id) if row else None
        if row is None or login is None or not won or row.expires_at <= self._clock.now():
            raise ConnectionFailed(_FAILED)
        return row, login

    async def _given(
        self, principal: Principal, row: AccountConnection, login: ServerLogin, answer: Mapping[str, str]
    ) -> tuple[Tokens, _Waiting]:
        """The tokens for an issuer's answer, and what was kept for it."""
        if row.user_id != principal.user_id:
            raise ConnectionFailed(_FAILED)
        named = answer.get("iss")
        if (named is not None or login.endpoints.get("names_itself")) and named != login.issuer:
            raise ConnectionFailed("The answer came from another issuer than the one that was asked.")
        said = answer.get("error", "")
        if said or not answer.get("code"):
            raise ConnectionFailed(f"The issuer says {said}. {_FAILED}" if _ERROR.fullmatch(said) else _FAILED)
        waiting = msgspec.json.decode(self._sealer.open(row.sealed, f"connection/{row.state_hash}"), type=_Waiting)
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": waiting.redirect_uri,
            "code_verifier": waiting.verifier,
        }
        tokens = await self._tokens(login, form)
        if tokens is None:
            raise ConnectionFailed(_FAILED)
        return tokens, waiting

    async def _end(self, session: Session, row: AccountConnection, state: str, failure: str | None = None) -> None:
        # Nothing opens any more what was kept for the answer.
        ended = update(AccountConnection).where(AccountConnection.state_hash == row.state_hash)
        await session.execute(ended.values(state=state, failure=failure, sealed=""))

    async def leave(self, session: Session, principal: Principal, server_id: str) -> None:
        """Forget the caller's account at a server."""
        server = await self._servers.get(session, principal, server_id)
        holder = principal.user_id or ""
        gone = delete(ServerAccount).where(ServerAccount.server_id == server.id, ServerAccount.holder == holder)
        await session.execute(gone)
        await self._audit.record(session, principal, "accounts.delete", target=("server", server.id))
        self._read.pop((server.id, holder), None)

    async def _personal(
        self, session: Session, principal: Principal, server_id: str, kind: Kind
    ) -> tuple[ServerLogin, str]:
        login, _ = await self.login(session, principal, server_id)
        if login.kind != kind or principal.user_id is None:
            raise AccountInvalid(f"The server's login is {login.kind}.", field="server_id")
        return login, principal.user_id

    # -- the headers of requests

    async def headers(self, server_id: str, user_id: str | None) -> Headers:
        """The headers of a caller's requests to a server; none for a server without a login.

        Raises:
            AccountMissing: the caller has to connect an account first.
            IssuerRefused: a token is due, and its issuer cannot be asked.
        """
        key = (server_id, user_id or "")
        known = self._read.get(key)
        if known is not None and self._clock.monotonic() - known[0] < FRESH_SECONDS:
            return known[1]
        headers = await self._headers(server_id, user_id)
        while len(self._read) >= _MOST_READ:
            del self._read[next(iter(self._read))]
        self._read[key] = (self._clock.monotonic(), headers)
        return headers

    async def refused(self, server_id: str, user_id: str | None, shown: Headers, status: int, said: str) -> bool:
        """A server refused a request with an account's headers; gives whether there are others to try.

        Args:
            shown: the headers.
            said: its `WWW-Authenticate`.

        Raises:
            AccountMissing: the person has to connect the account again.
            IssuerRefused: the issuer cannot be asked for another token.
        """
        login, _ = await self._find(server_id, user_id)
        if login is None or login.kind == "static":
            return False
        holder = _holder(login, user_id)
        async with self._renewing.setdefault((server_id, holder), asyncio.Lock()):
            login, account = await self._find(server_id, user_id)
            self._forget(server_id)
            if login is None or account is None or tuple(self._open(account).headers.items()) != shown:
                return True
            asked = challenge.read(said)
            if status == 403 or asked.error == challenge.INSUFFICIENT:
                return await self._step_up(login, account, asked.scope)
            if self._clock.now() - account.updated_at < EARLY:
                # A token as new as this will not be better the next time: a person may find out why.
                if login.kind == "authorization_code":
                    raise _missing(login, "The server refuses your account")
                return False
            try:
                await self._renewed(login, account, holder)
            except AccountMissing:
                await self._is_over(account)
                raise
            return True

    async def _step_up(self, login: ServerLogin, account: ServerAccount, needed: str) -> bool:
        """Ask for the scope that a server misses, beside what was asked for before; once for each scope."""
        secret = self._open(account)
        wanted = challenge.scopes(secret.scope, needed)
        if wanted == secret.scope:
            return False
        if login.kind == "client_credentials":
            tokens = await self._tokens(login, {"grant_type": "client_credentials", "scope": wanted})
            if tokens is None:
                return False
            async with self._database.transaction() as session:
                await self._keep(session, login, account.holder, tokens, _Secret(scope=wanted))
            return True
        secret.wanted = wanted
        async with self._database.transaction() as session:
            await self._store(session, login, account.holder, secret, account.expires_at)
        raise _missing(login, f"The server wants a permission that your account lacks ({needed})")

    async def _is_over(self, account: ServerAccount) -> None:
        """Show a token no more that its server refuses and its issuer does not renew."""
        over = update(ServerAccount).where(ServerAccount.id == account.id, ServerAccount.sealed == account.sealed)
        async with self._database.transaction() as session:
            await session.execute(over.values(expires_at=self._clock.now()))

    def _forget(self, server_id: str) -> None:
        for key in [known for known in self._read if known[0] == server_id]:
            del self._read[key]

    async def headers_for_looking(self, server_id: str) -> Headers:
        """The headers to look at a server with: the gateway's own account, else its owner's; none if there is none."""
        async with self._database.reading() as session:
            server = await session.get(Server, server_id)
        try:
            return await self.headers(server_id, server.owner_user_id) if server is not None else ()
        except GatehouseError:
            # The look itself shows what that means.
            return ()

    async def _headers(self, server_id: str, user_id: str | None) -> Headers:
        renewals = self._renewals
        login, account = await self._find(server_id, user_id)
        while renewals != self._renewals:
            # What was read while an account was renewed may be its old token, which is not to come after the new one.
            renewals = self._renewals
            login, account = await self._find(server_id, user_id)
        if login is None:
            return ()
        if account is None or self._due(account):
            # One renewal at a time: a refresh token serves once.
            holder = _holder(login, user_id)
            async with self._renewing.setdefault((server_id, holder), asyncio.Lock()):
                login, account = await self._find(server_id, user_id)
                if login is None:
                    return ()
                if account is None or self._due(account):
                    account = await self._renewed(login, account, holder)
        return tuple(self._open(account).headers.items())

    async def _find(self, server_id: str, user_id: str | None) -> tuple[ServerLogin | None, ServerAccount | None]:
        async with self._database.reading() as session:
            login = await session.get(ServerLogin, server_id)
            if login is None:
                return None, None
            account = await _account(session, server_id, _holder(login, user_id))
        # What one issuer gave is never shown to who trusts another.
        return login, account if account is not None and account.issuer == login.issuer else None

    def _due(self, account: ServerAccount) -> bool:
        return account.expires_at is not None and account.expires_at - EARLY <= self._clock.now()

    async def _renewed(self, login: ServerLogin, account: ServerAccount | None, holder: str) -> ServerAccount:
        before = self._open(account) if account is not None else _Secret()
        if login.kind == "client_credentials":
            before.scope = challenge.scopes(login.scope or login.endpoints.get("scope", ""), before.scope)
            form = {"grant_type": "client_credentials", **({"scope": before.scope} if before.scope else {})}
        elif before.refresh_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": before.refresh_token}
        else:
            raise _missing(login, "Your account at this server is not connected")
        tokens = await self._tokens(login, form)
        if tokens is None:
            raise _missing(login, "Your account at this server is not connected")
        async with self._database.transaction() as session:
            account = await self._keep(session, login, holder, tokens, before)
        self._renewals += 1
        self._forget(login.server_id)
        return account

    async def _tokens(self, login: ServerLogin, form: dict[str, str]) -> Tokens | None:
        sealed = login.sealed_secret
        secret = self._sealer.open(sealed, f"login/{login.server_id}/{login.issuer}").decode() if sealed else None
        form["resource"] = login.endpoints["resource"]
        if secret is not None and login.endpoints.get("token_endpoint_auth_method") == assertion.METHOD:
            form |= assertion.proof(secret, login.client_id, login.issuer, self._clock.now())
            secret = None
        return await self._issuers.tokens(login.endpoints, login.client_id, secret, form)

    async def _keep(
        self, session: Session, login: ServerLogin, holder: str, tokens: Tokens, before: _Secret
    ) -> ServerAccount:
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        secret = _Secret(headers, tokens.refresh_token or before.refresh_token, before.scope, before.wanted)
        lasting = tokens.expires_in
        until = self._clock.now() + timedelta(seconds=lasting) if lasting is not None else None
        return await self._store(session, login, holder, secret, until)

    async def _store(
        self, session: Session, login: ServerLogin, holder: str, secret: _Secret, expires_at: datetime | None
    ) -> ServerAccount:
        account = await _account(session, login.server_id, holder)
        if account is None:
            account = ServerAccount(server_id=login.server_id, holder=holder)
            session.add(account)
        account.issuer = login.issuer
        account.sealed = self._sealer.seal(msgspec.json.encode(secret), _place(login.server_id, holder, login.issuer))
        account.expires_at = expires_at
        account.updated_at = self._clock.now()
        self._forget(login.server_id)
        return account

    def _open(self, account: ServerAccount) -> _Secret:
        try:
            place = _place(account.server_id, account.holder, account.issuer)
            return msgspec.json.decode(self._sealer.open(account.sealed, place), type=_Secret)
        except SealBroken:
            raise AccountMissing("The stored account cannot be opened: connect it again.") from None


def _place(server_id: str, holder: str, issuer: str) -> str:
    return f"account/{server_id}/{holder}/{issuer}"


async def _account(session: Session, server_id: str, holder: str) -> ServerAccount | None:
    return await session.scalar(
        select(ServerAccount).where(ServerAccount.server_id == server_id, ServerAccount.holder == holder)
    )


def _holder(login: ServerLogin, user_id: str | None) -> str:
    return GATEWAY if login.kind == "client_credentials" else user_id or ""


def _missing(login: ServerLogin, why: str) -> AccountMissing:
    if login.kind == "client_credentials":
        return AccountMissing("The issuer gives the gateway no token: an administrator has to set the login anew.")
    if login.kind == "static":
        return AccountMissing(
            "You have brought no account of yours to this server: say its headers by `gatehouse accounts set`, or by "
            f"PUT /v1/mcp/servers/{login.server_id}/account."
        )
    return AccountMissing(f"{why}: open /v1/mcp/servers/{login.server_id}/connect in a browser.")
