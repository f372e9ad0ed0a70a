"""Makes a request's credential a principal.

Remembers who a credential is for at most a second, and asks again in the background at half that age, so that a busy
caller never waits and a revocation by any process holds within a second; one in this process holds at once. Decides
nothing about permissions: that is what the principal is for. Knows neither SQL nor routes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from gateway.auth.credentials import (
    Headers,
    by_cookie,
    check_form,
    find_credential,
    obvious_credential,
    require_same_origin,
)
from gateway.fields import once_per_head
from registry.core.clock import Clock
from registry.core.db import Database, Session
from registry.core.errors import Unauthenticated
from registry.core.events import EventBus
from registry.identity.events import CredentialsChanged
from registry.identity.principal import Principal
from registry.identity.service import KEY_MARK, SESSION_MARK, TOUCH_EVERY, IdentityService

log = structlog.get_logger(__name__)

MAX_AGE_SECONDS = 1.0
REFRESH_SECONDS = MAX_AGE_SECONDS / 2
MAX_KNOWN = 10_000
MAX_REFUSED = 1_000

WHOLE = "/"
"""Audience of credentials that open every address of the gateway."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Known:
    """A principal, and when (monotonic seconds) what it stands for was read."""

    principal: Principal
    verified: float
    refreshing: bool = False


@dataclass(frozen=True, slots=True)
class _Refused:
    error: Unauthenticated
    at: float


class WrongAudience(Unauthenticated):
    """A good token that was issued for another address."""


class Recognizer(Protocol):
    """Knows one further kind of credential."""

    def recognizes(self, credential: str) -> bool:
        """Whether the credential looks like one of its kind; decided without waiting."""
        ...

    async def authenticate(self, credential: str) -> Principal:
        """Raises `Unauthenticated`."""
        ...


class Authenticator:
    """From credential to principal, remembered for at most `MAX_AGE_SECONDS`.

    Args:
        database: read for each verification.
        events: where `CredentialsChanged` is heard.
        recognizers: asked in turn before the credential is taken for one of identity's own.
    """

    def __init__(
        self,
        database: Database,
        identity: IdentityService,
        events: EventBus,
        clock: Clock,
        recognizers: Sequence[Recognizer] = (),
    ) -> None:
        self._database = database
        self._identity = identity
        self._recognizers = recognizers
        self._clock = clock
        # Keyed by digest, so that memory holds no credentials.
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[bytes, _Refused] = {}
        self._looking_up: dict[bytes, asyncio.Task[Principal]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._touched: dict[str, float] = {}
        # Counts changes of credentials: what was read before one must not be remembered after it.
        self._changes = 0
        self._unsubscribe = events.subscribe(CredentialsChanged, self._forget)

    def cached(self, headers: Headers, address: str = WHOLE) -> Principal | None:
        """The principal if it is known and fresh; never waits. `None` means: ask `authenticate`."""
        shown = _shown(headers)
        if shown is None:
            return None
        principal = self._fresh(*shown)
        return principal if principal is not None and _admitted(principal, address) else None

    async def authenticate(self, headers: Headers, address: str = WHOLE, *, safe: bool = False) -> Principal:
        """The principal of the request's credential.

        Args:
            address: the path that is asked for, for tokens that were issued for one; `/` stands for all that is not
                MCP.
            safe: the request changes nothing.

        Raises:
            CredentialMissing: there is none.
            Unauthenticated: there are several different ones, or it is malformed, wrong, expired, revoked, or for
                another address.
            CrossSite: it is a cookie, and another site may be asking.
        """
        principal = await self.verify(find_credential(headers), address)
        if not safe and by_cookie(headers):
            require_same_origin(headers)
        return principal

    async def verify(self, credential: bytes, address: str = WHOLE) -> Principal:
        """The principal of a credential that was found already (in the query of a socket, say).

        Raises:
            Unauthenticated: malformed, wrong, expired, revoked, or for another address.
        """
        principal = await self._verify(credential)
        if not _admitted(principal, address):
            raise WrongAudience("The token was issued for another address of this gateway, or for none of it.")
        return principal

    async def _verify(self, credential: bytes) -> Principal:
        check_form(credential)
        key = hashlib.sha256(credential).digest()
        principal = self._fresh(key, credential)
        if principal is not None:
            return principal
        refused = self._refused.get(key)
        if refused is not None and self._clock.monotonic() - refused.at < MAX_AGE_SECONDS:
            raise type(refused.error)(refused.error.message)
        return await self._shared_look_up(key, credential)

    async def close(self) -> None:
        """Stop listening, and end what runs in the background."""
        self._unsubscribe()
        tasks: list[asyncio.Task[Any]] = [*self._background, *self._looking_up.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fresh(self, key: bytes, credential: bytes) -> Principal | None:
        known = self._known.get(key)
        if known is None:
            return None
        age = self._clock.monotonic() - known.verified
        if age >= MAX_AGE_SECONDS:
            return None
        if age >= REFRESH_SECONDS and not known.refreshing:
            known.refreshing = True
            self._in_background(self._refresh(key, credential))
        return known.principal

    async def _shared_look_up(self, key: bytes, credential: bytes) -> Principal:
        """One look-up serves all that ask at once, and outlives those that give up waiting."""
        task = self._looking_up.get(key)
        if task is None:
            task = self._looking_up[key] = asyncio.create_task(self._look_up(key, credential))
            task.add_done_callback(lambda done: self._looked_up(key, done))
        return await asyncio.shield(task)

    def _looked_up(self, key: bytes, task: asyncio.Task[Principal]) -> None:
        del self._looking_up[key]
        if not task.cancelled():
            # Seen here too, in case nobody waits any more.
            task.exception()

    async def _look_up(self, key: bytes, credential: bytes) -> Principal:
        changes, started = self._changes, self._clock.monotonic()
        try:
            principal = await self._identify(credential.decode("ascii"))
        except Unauthenticated as error:
            self._known.pop(key, None)
            if changes == self._changes:
                _put(self._refused, key, _Refused(error, started), MAX_REFUSED)
            raise
        if changes == self._changes:
            _put(self._known, key, _Known(principal, started), MAX_KNOWN)
        self._touch(principal)
        return principal

    async def _identify(self, credential: str) -> Principal:
        for recognizer in self._recognizers:
            if recognizer.recognizes(credential):
                return await recognizer.authenticate(credential)
        async with self._database.reading() as session:
            return await self._own(session, credential)

    async def _own(self, session: Session, credential: str) -> Principal:
        if credential.startswith(KEY_MARK):
            return await self._identity.authenticate_key(session, credential)
        if credential.startswith(SESSION_MARK):
            return await self._identity.authenticate_session(session, credential)
        return await self._identity.authenticate_token(session, credential)

    async def _refresh(self, key: bytes, credential: bytes) -> None:
        try:
            await self._shared_look_up(key, credential)
        except Unauthenticated:
            return  # forgotten by the look-up
        finally:
            if known := self._known.get(key):
                known.refreshing = False

    def _touch(self, principal: Principal) -> None:
        holder = principal.session_id or principal.subject
        now = self._clock.monotonic()
        last = self._touched.get(holder)
        if last is None or now - last >= TOUCH_EVERY.total_seconds():
            _put(self._touched, holder, now, MAX_KNOWN)
            self._in_background(self._write_touch(principal))

    async def _write_touch(self, principal: Principal) -> None:
        async with self._database.transaction() as session:
            await self._identity.touch(session, principal)

    def _forget(self, event: CredentialsChanged) -> None:
        self._changes += 1
        self._refused.clear()
        for key in [key for key, known in self._known.items() if known.principal.user_id == event.user_id]:
            del self._known[key]

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("background authentication work failed", error_type=type(error).__name__)


@once_per_head
def _shown(headers: Headers) -> tuple[bytes, bytes] | None:
    """The digest of the obvious credential, and itself."""
    credential = obvious_credential(headers)
    return None if credential is None else (hashlib.sha256(credential).digest(), credential)


def _admitted(principal: Principal, address: str) -> bool:
    """Whether the principal's credential may be used here: RFC 8707's audience, for those that have one."""
    return principal.audience is None or principal.audience in (WHOLE, address)


def _put(entries: dict[K, V], key: K, value: V, most: int) -> None:
    """Store as the newest entry; the oldest ones make room."""
    entries.pop(key, None)
    while len(entries) >= most:
        del entries[next(iter(entries))]
    entries[key] = value
