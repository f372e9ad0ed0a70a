"""What identity can do: recognise credentials, log people in, and manage keys and users.

Methods take the session first and never end its transaction. `gateway.auth` decides which credential of a request
counts; `registry.identity.permissions` holds what roles may do.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from registry.core.security import ApiKeys, Digester, Passwords
from registry.identity import queries
from registry.identity.errors import ApiKeyInvalid, LoginFailed, SessionInvalid
from registry.identity.events import CredentialsChanged
from registry.identity.models import ApiKey, LoginSession, Organization, User
from registry.identity.permissions import OPERATOR, OTHERS, ROLES, check_permissions, role_named
from registry.identity.principal import ANY_TOOL, Principal
from registry.identity.refresh import RefreshTokens
from registry.identity.second_factor import SecondFactors
from registry.identity.tokens import AccessTokens, TokenInvalid

KEY_MARK = "mcp_"
SESSION_MARK = "ses_"
"""How API keys and session ids begin, so that they are told apart from each other and from access tokens."""

SESSION_IDLE = timedelta(hours=12)
SESSION_LIFETIME = timedelta(days=30)
"""A session ends after so long without a request, and after so long in any case."""
TOUCH_EVERY = timedelta(minutes=1)
_MAX_TOOL_PATTERNS = 200
_MAX_PATTERN_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Login:
    """What a person gets who has proved who they are. `session_id` and the tokens are shown once."""

    user: User
    principal: Principal
    session_id: str = field(repr=False)
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh token is exchanged for."""

    principal: Principal
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `text` is shown once and stored nowhere."""

    record: ApiKey
    text: str = field(repr=False)


class IdentityService:
    """Recognises, admits and manages those who call.

    Args:
        master: the master key (`registry.core.security.load_master_key`).
        access_token_minutes: how long an access token is valid.
        idle: a login session ends after so long without a request,
        lifetime: and after so long in any case.
    """

    def __init__(
        self,
        clock: Clock,
        audit: AuditService,
        master: bytes,
        *,
        access_token_minutes: int = 60,
        idle: timedelta = SESSION_IDLE,
        lifetime: timedelta = SESSION_LIFETIME,
    ) -> None:
        self._clock = clock
        self._audit = audit
        self._keys = ApiKeys(master)
        self._passwords = Passwords()
        self._session_digests = Digester(master, "login-sessions")
        self._tokens = AccessTokens(master, clock, access_token_minutes)
        self._refresh_tokens = RefreshTokens(clock, master)
        self.second_factors = SecondFactors(clock, audit, master)
        self._idle = idle
        self._lifetime = lifetime

    # Credentials to principals

    async def authenticate_key(self, session: Session, text: str) -> Principal:
        """The principal of an API key. Raises `ApiKeyInvalid`."""
        parts = self._keys.split(text)
        if parts is None:
            raise ApiKeyInvalid("The API key is not valid.")
        prefix, secret = parts
        stored = await queries.key_digest(session, prefix)
        same = self._keys.matches(secret, stored[1] if stored else None)
        found = await queries.key_and_owner(session, stored[0]) if stored and same else None
        if found is None or not self._key_holds(found[0]) or not found[1].is_active:
            raise ApiKeyInvalid("The API key is not valid.")
        key, owner = found
        return _principal(owner, key=key)

    async def authenticate_session(self, session: Session, session_id: str) -> Principal:
        """The principal of a login session, by the token its holder has. Raises `SessionInvalid`."""
        found = await queries.login_and_user(session, token_hash=self._session_digests.digest(session_id))
        if found is None or not self._login_holds(*found):
            raise SessionInvalid("The session is not valid: log in again.")
        return _principal(found[1], login=found[0])

    async def authenticate_token(self, session: Session, token: str) -> Principal:
        """The principal of an access token. Raises `TokenInvalid`, also once its login session has ended."""
        claims = self._tokens.verify(token)
        found = await queries.login_and_user(session, login_id=claims.session_id)
        if (
            found is None
            or not self._login_holds(*found)
            or (found[1].id, found[1].org_id) != (claims.user_id, claims.org_id)
        ):
            raise TokenInvalid("The access token is no longer valid: log in again.")
        return _principal(found[1], login=found[0])

    async def touch(self, session: Session, principal: Principal) -> None:
        """Note that the credential was used, which a login session lives on. Once a minute is enough."""
        if principal.key_id is not None:
            key = await session.get(ApiKey, principal.key_id)
            if key is not None:
                key.last_used_at = self._clock.now()
        elif principal.session_id is not None:
            login = await session.get(LoginSession, principal.session_id)
            if login is not None:
                self._slide(login)

    def _slide(self, login: LoginSession) -> None:
        now = self._clock.now()
        if login.revoked_at is None and login.expires_at > now:
            login.last_seen_at = now
            login.expires_at = min(now + self._idle, login.created_at + self._lifetime)

    def _key_holds(self, key: ApiKey) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self._clock.now())

    def _login_holds(self, login: LoginSession, user: User) -> bool:
        return user.is_active and login.revoked_at is None and login.expires_at > self._clock.now()

    # Logging in and out

    async def check_password(self, session: Session, email: str, password: str) -> User:
        """The user with this email and password. Takes tens of milliseconds: use a session for reading.

        Raises:
            LoginFailed: in every other case, after the same work.
        """
        user = await queries.user_by_email(session, email)
        same = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or not same or not user.is_active:
            raise LoginFailed("Email or password is wrong.")
        return user

    async def open_session(self, session: Session, user_id: str) -> Login:
        """Begin a login session for a user who has proved who they are. Raises `LoginFailed` for an inactive one."""
        user = await session.get(User, user_id)
        if user is None or not user.is_active:
            raise LoginFailed("Email or password is wrong.")
        now, token = self._clock.now(), f"{SESSION_MARK}{secrets.token_urlsafe(32)}"
        login = LoginSession(
            user_id=user.id,
            token_hash=self._session_digests.digest(token),
            created_at=now,
            last_seen_at=now,
            expires_at=now + min(self._idle, self._lifetime),
        )
        session.add(login)
        user.last_login_at = now
        await session.flush()
        principal = _principal(user, login=login)
        await self._audit.record(session, principal, "sessions.create", target=("session", login.id))
        refresh_token = await self._refresh_tokens.issue(session, login.id, login.created_at + self._lifetime)
        return Login(
            user, principal, token, self._access_token(user, login), refresh_token, self._tokens.lifetime_seconds
        )

    async def refresh(self, session: Session, token: str) -> Refreshed | None:
        """Exchange a refresh token; `None` if that is refused.

        A token that was exchanged before ends its session. That must be committed, so nothing is raised.
        """
        spent = await self._refresh_tokens.spend(session, token)
        found = await queries.login_and_user(session, login_id=spent.family_id) if spent else None
        if spent is None or found is None or not self._login_holds(*found):
            return None
        login, user = found
        principal = _principal(user, login=login)
        if spent.reused:
            await self._end(session, principal, login, "sessions.refresh_token_reused")
        if not spent.fresh:
            return None
        self._slide(login)
        following = await self._refresh_tokens.issue(session, login.id, login.created_at + self._lifetime)
        return Refreshed(principal, self._access_token(user, login), following, self._tokens.lifetime_seconds)

    async def close_session(self, session: Session, principal: Principal) -> None:
        """End the principal's login session, and with it all its tokens. Nothing to do for a key."""
        login = await session.get(LoginSession, principal.session_id) if principal.session_id else None
        if login is not None and login.revoked_at is None:
            await self._end(session, principal, login, "sessions.end")

    async def _end(self, session: Session, principal: Principal, login: LoginSession, action: str) -> None:
        login.revoked_at = self._clock.now()
        await self._audit.record(session, principal, action, target=("session", login.id))
        emit(session, CredentialsChanged(principal.org_id, login.user_id, None))

    def _access_token(self, user: User, login: LoginSession) -> str:
        return self._tokens.issue(user_id=user.id, org_id=user.org_id, role=user.role, session_id=login.id)

    # Users

    async def user(self, session: Session, principal: Principal) -> User:
        """The person behind the credential. Raises `Unauthenticated` for public access."""
        found = await queries.user(session, principal, principal.user_id) if principal.user_id else None
        if found is None:
            raise Unauthenticated("This needs a user's credential.")
        return found

    async def myself(self, session: Session, principal: Principal) -> tuple[User, Organization]:
        """The person behind the credential, with their organisation. Raises `Unauthenticated` for public access."""
        user = await self.user(session, principal)
        return user, await session.get_one(Organization, user.org_id)

    async def change_user(
        self,
        session: Session,
        principal: Principal,
        user_id: str,
        *,
        role: str | None = None,
        is_active: bool | None = None,
    ) -> User:
        """Change what a user may do. Takes effect at once, for all their credentials.

        Raises:
            NotFound: no such user in the organisation.
            Forbidden: oneself, an operator (for others than operators), or a role with more than one's own permissions.
            Conflict: the organisation would be left without an active admin.
        """
        principal.require("users:manage")
        target = await queries.user(session, principal, user_id)
        if target is None:
            raise NotFound("User not found")
        if target.id == principal.user_id:
            raise Forbidden("Nobody changes their own role or deactivates themselves.")
        new_role = role_named(role) if role is not None else target.role
        if (target.is_operator and not principal.operates) or not ROLES[new_role] <= principal.permissions:
            raise Forbidden("This needs permissions that you do not have yourself.")
        active = target.is_active if is_active is None else is_active
        leaves = target.role == "admin" and target.is_active and not (active and new_role == "admin")
        if leaves and await queries.other_admins(session, target) == 0:
            raise Conflict("This is the organisation's last active admin.")
        target.role, target.is_active, target.updated_at = new_role, active, self._clock.now()
        await self._audit.record(
            session,
            principal,
            "users.update",
            target=("user", target.id),
            detail={"role": new_role, "is_active": active},
        )
        emit(session, CredentialsChanged(target.org_id, target.id, None))
        return target

    # API keys

    async def keys(
        self, session: Session, principal: Principal, *, user_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[list[ApiKey], int]:
        """Keys that the principal may see, of all users or of one, and how many there are."""
        principal.require("keys:read")
        statement = queries.api_keys(principal)
        if user_id is not None:
            statement = statement.where(ApiKey.user_id == queries.as_uuid(user_id))
        found = await session.scalars(statement.limit(limit).offset(offset))
        return list(found), await queries.count(session, statement)

    async def create_key(
        self,
        session: Session,
        principal: Principal,
        *,
        name: str,
        user_id: str | None = None,
        permissions: list[str] | None = None,
        tools: list[str] | None = None,
        expires_at: datetime | None = None,
        nexusgate_token_id: str | None = None,
    ) -> IssuedKey:
        """Make a key for oneself or, with `users:manage`, for another user of the organisation.

        Args:
            permissions: what the key may do; `None` means what its owner may do.
            tools: patterns of exposed names that the key may use; `None` means all that its maker may use.
            expires_at: when it ends; `None` means never.
            nexusgate_token_id: what it is known as elsewhere, which only `users:manage` may say.

        Raises:
            Forbidden: more than the maker may do themselves.
            Invalid: an unknown permission, or a time that has passed.
            NotFound: no such user.
        """
        principal.require("keys:manage")
        if nexusgate_token_id is not None:
            principal.require(OTHERS)
        owner = await self._owner(session, principal, user_id)
        allowed = _granted(principal, owner, permissions)
        patterns = _patterns(principal, tools)
        await self._check_expiry(session, principal, expires_at)
        minted = self._keys.mint()
        record = ApiKey(
            user_id=owner.id,
            org_id=owner.org_id,
            name=name,
            prefix=minted.prefix,
            secret_hash=minted.digest,
            permissions=allowed,
            tools=patterns,
            expires_at=expires_at,
            created_at=self._clock.now(),
            nexusgate_token_id=nexusgate_token_id,
        )
        session.add(record)
        await session.flush()
        await self._audit.record(
            session,
            principal,
            "keys.create",
            target=("api_key", str(record.id)),
            detail={"name": name, "owner": owner.id, "permissions": allowed, "tools": patterns},
        )
        return IssuedKey(record, minted.text)

    async def bearer_of(self, session: Session, principal: Principal, key_id: int) -> Principal:
        """Whom a key makes of those who use it. Raises `NotFound` for a key that is not the principal's to see."""
        principal.require("keys:read")
        key = await queries.api_key(session, principal, key_id)
        if key is None:
            raise NotFound("API key not found")
        return _principal(await session.get_one(User, key.user_id), key=key)

    async def revoke_key(self, session: Session, principal: Principal, key_id: int) -> None:
        """End a key at once.

        Raises:
            NotFound: the organisation has no such key.
            Forbidden: it is another user's.
        """
        principal.require("keys:manage")
        key = await queries.api_key(session, principal, key_id)
        if key is None:
            if await queries.has_key(session, principal, key_id):
                raise Forbidden("Not authorized to access this resource")
            raise NotFound("API key not found")
        key.revoked_at = self._clock.now()
        await self._audit.record(session, principal, "keys.revoke", target=("api_key", str(key.id)))
        emit(session, CredentialsChanged(key.org_id, key.user_id, key.id))

    async def _owner(self, session: Session, principal: Principal, user_id: str | None) -> User:
        if user_id is not None and user_id != principal.user_id:
            principal.require("users:manage")
            owner = await queries.user(session, principal, user_id)
            if owner is None:
                raise NotFound("User not found")
            return owner
        return await self.user(session, principal)

    async def _check_expiry(self, session: Session, principal: Principal, expires_at: datetime | None) -> None:
        if expires_at is not None and expires_at <= self._clock.now():
            raise Invalid("The expiry lies in the past.", field="expires_at")
        maker = await session.get(ApiKey, principal.key_id) if principal.key_id is not None else None
        if maker and maker.expires_at and (expires_at is None or expires_at > maker.expires_at):
            raise Forbidden("A key that expires makes no key that outlives it: set an earlier expires_at.")


def permissions_of(user: User) -> frozenset[str]:
    """What the user may do before a key narrows it."""
    granted = ROLES.get(user.role, frozenset[str]())
    return granted | OPERATOR if user.is_operator else granted


def principal_of(user: User) -> Principal:
    """The user without anything that narrows them, for who vouches for them in another way."""
    return _principal(user)


def _principal(user: User, *, key: ApiKey | None = None, login: LoginSession | None = None) -> Principal:
    permissions = permissions_of(user)
    if key is not None and key.permissions is not None:
        permissions &= frozenset(key.permissions)
    return Principal(
        org_id=user.org_id,
        user_id=user.id,
        role=user.role,
        permissions=permissions,
        email=user.email,
        key_id=key.id if key else None,
        session_id=login.id if login else None,
        tools=tuple(key.tools) if key is not None and key.tools is not None else ANY_TOOL,
    )


def _granted(principal: Principal, owner: User, wanted: list[str] | None) -> list[str] | None:
    """The permissions to store with a new key: never more than its maker has, now or after the owner's promotion."""
    if wanted is None:
        whole = permissions_of(owner)
        if owner.id == principal.user_id and whole <= principal.permissions:
            return None
        return sorted(whole & principal.permissions)
    check_permissions(wanted)
    if missing := sorted(set(wanted) - principal.permissions):
        raise Forbidden(
            f"A key cannot be given permissions that its maker does not have: {', '.join(missing)}.",
            details={"missing_permissions": missing},
        )
    return sorted(set(wanted))


def _patterns(principal: Principal, wanted: list[str] | None) -> list[str] | None:
    """The tool patterns to store with a new key: all of them within its maker's."""
    if wanted is None:
        return None if principal.tools == ANY_TOOL else list(principal.tools)
    if len(wanted) > _MAX_TOOL_PATTERNS or any(not 0 < len(pattern) <= _MAX_PATTERN_LENGTH for pattern in wanted):
        raise Invalid(f"At most {_MAX_TOOL_PATTERNS} patterns of 1 to {_MAX_PATTERN_LENGTH} characters.", field="tools")
    for pattern in wanted:
        plain = not any(sign in pattern for sign in "*?[")
        if (
            principal.tools != ANY_TOOL
            and pattern not in principal.tools
            and not (plain and principal.may_use(pattern))
        ):
            raise Forbidden(f"A key cannot be given tools that its maker may not use: {pattern!r}.")
    return list(dict.fromkeys(wanted))
