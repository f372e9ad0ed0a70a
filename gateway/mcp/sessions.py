"""Legacy sessions of clients: what `Mcp-Session-Id` stands for.

The id is itself the record of what was agreed at `initialize`, sealed for its principal, so it costs nothing to
abandon one and any process can open it. What a session has become since is in memory for the sessions that are in
use, and written behind the calls to a store, from which another process, or this one after a restart, goes on. Where
the store does not answer, sessions go on with what is in memory. The modern era has no sessions.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway.mcp.session import ENDED, Agreed, LegacySession
from registry.core.repeating import Repeating
from registry.core.security import Digester, SealBroken, Sealer

if TYPE_CHECKING:
    from gateway.mcp.session_store import SessionStore
    from registry.core.clock import Clock
    from registry.identity.principal import Principal
    from registry.sessions.patch import Fields, Patch

log = structlog.get_logger(__name__)

IN_MEMORY = 10_000
"""Sessions whose live state is kept; the one longest unused goes first, and comes back from its record."""
OPENED = 1000
"""Ids given here whose first request is expected any moment."""
GATHER_SECONDS = 0.05
"""How long changes are gathered before they are saved."""
POLL_SECONDS = 0.5
LOOK_BACK_SECONDS = 5.0
"""How far back each poll looks: it covers what was committed late, and clocks that differ a little."""
ANSWER_SECONDS = 1.0
"""Longest that anybody waits for the store."""
RETRY_SECONDS = 2.0
"""How long a store that did not answer is left alone."""
SWEEP_SECONDS = 60.0
RENEWALS = 24
"""A session in use is renewed in the store when this part of its idle lifetime has passed."""
BATCH = 200


class LegacySessions:
    """Opens, finds and ends sessions.

    Args:
        sealer: seals ids; the principal's subject is the associated data, so nobody else can use one.
        digester: makes the keys of records.
        idle_seconds: after so long without a request a client must initialize again.
        on_end: is told of sessions that are over, so that their servers hear of it.
        on_watched: is told of servers of which other resources are watched than before.
    """

    def __init__(
        self,
        sealer: Sealer,
        digester: Digester,
        clock: Clock,
        store: SessionStore,
        *,
        idle_seconds: float,
        on_end: Callable[[LegacySession], None],
        on_watched: Callable[[set[str]], None],
    ) -> None:
        self._sealer = sealer
        self._digester = digester
        self._clock = clock
        self._store = store
        self._idle_seconds = idle_seconds
        self._on_end = on_end
        self._on_watched = on_watched
        self._mark = secrets.token_hex(6)
        self._live: OrderedDict[tuple[str, str], LegacySession] = OrderedDict()
        self._by_key: dict[str, LegacySession] = {}
        self._opened: dict[str, float] = {}
        """Nonces of the last ids that were given here, and when: nobody else can have written of them long before."""
        self._ended: dict[str, float] = {}
        self._recalling: dict[tuple[str, str], asyncio.Task[LegacySession | None]] = {}
        self._unsaved: dict[str, LegacySession] = {}
        self._news = asyncio.Event()
        self._saving = asyncio.Lock()
        self._away_until = float("-inf")
        self._saver: asyncio.Task[None] | None = None
        unseen = "what other processes change of sessions cannot be seen, trying again"
        self._polling = Repeating(clock, POLL_SECONDS, self.poll, unseen)
        pause = min(SWEEP_SECONDS, idle_seconds / RENEWALS)
        self._sweeping = Repeating(clock, pause, self.sweep, "sessions that are idle were not looked for")

    def open(self, principal: Principal, version: str, capabilities: bytes) -> str:
        """The id of a new session. Of the last ones it is kept that they were opened here, and no more."""
        agreed = Agreed(
            subject=principal.subject,
            version=version,
            capabilities=msgspec.Raw(capabilities),
            expires=self._now() + self._idle_seconds,
            nonce=secrets.token_hex(8),
        )
        if len(self._opened) >= OPENED:
            del self._opened[next(iter(self._opened))]
        self._opened[agreed.nonce] = self._clock.monotonic()
        return self._sealer.seal(msgspec.json.encode(agreed), principal.subject)

    def find(self, principal: Principal, identifier: str) -> LegacySession | None:
        """The session of that id, if it is this principal's and in memory; else ask `recall`."""
        key = (principal.subject, identifier)
        session = self._live.get(key)
        if session is None or session.expires < self._now():
            return None
        session.used = True
        self._live.move_to_end(key)
        return session

    async def recall(self, principal: Principal, identifier: str) -> LegacySession | None:
        """As `find`, for a session that this process sees for the first time, or has forgotten."""
        found = self.find(principal, identifier)
        if found is not None:
            return found
        key = (principal.subject, identifier)
        task = self._recalling.get(key)
        if task is None:
            try:
                agreed = msgspec.json.decode(self._sealer.open(identifier, principal.subject), type=Agreed)
            except (SealBroken, msgspec.DecodeError):
                return None
            task = self._recalling[key] = asyncio.create_task(self._recall(identifier, agreed))
            task.add_done_callback(lambda _: self._recalling.pop(key))
        return await asyncio.shield(task)

    def end(self, session: LegacySession) -> None:
        """End a session at its client's wish. Its id answers 404 here from now on; other processes read of it."""
        session.record.put(ENDED, "yes")
        self._forget(session, ended=True)
        self._on_end(session)

    def __len__(self) -> int:
        return len(self._live)

    def in_use(self) -> list[LegacySession]:
        return list(self._live.values())

    # -- running

    def start(self) -> None:
        self._saver = asyncio.create_task(self._save_behind())
        self._polling.start()
        self._sweeping.start()

    async def stop(self) -> None:
        """Save what is not saved yet."""
        await self._polling.stop()
        await self._sweeping.stop()
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, *self._recalling.values(), return_exceptions=True)
        await self.save()
        await self._store.close()

    async def save(self) -> None:
        """Save what has changed. What cannot be saved now stays to be saved."""
        async with self._saving:
            while self._unsaved:
                batch = {key: self._unsaved.pop(key) for key in list(self._unsaved)[:BATCH]}
                if not await self._save(batch):
                    return

    async def poll(self) -> None:
        """Take in what other processes have changed of the sessions that are in use here."""
        if not self._by_key:
            return
        for key, fields in (await self._store.changed(LOOK_BACK_SECONDS)).items():
            session = self._by_key.get(key)
            if session is None:
                continue
            if ENDED in fields:
                # The process that ended it has told its servers.
                self._forget(session, ended=True)
            else:
                session.expires = max(session.expires, self._now() + self._idle_seconds - LOOK_BACK_SECONDS)
                self._take(session, fields)

    async def sweep(self) -> None:
        """Renew the sessions that were used since the last time; forget those that have been idle for too long."""
        now = self._now()
        for session in list(self._by_key.values()):
            session.tidy()
            if session.used or session.calls or session.streams:
                session.used = False
                session.expires = now + self._idle_seconds
                if now - session.renewed >= self._idle_seconds / RENEWALS:
                    self._changed(session.key)
            elif session.expires <= now:
                self._forget(session, ended=False)
                self._on_end(session)

    async def _save_behind(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._clock.sleep(GATHER_SECONDS)
            await self.save()
            if self._unsaved:
                await self._clock.sleep(RETRY_SECONDS)
                self._news.set()

    # -- one session

    async def _recall(self, identifier: str, agreed: Agreed) -> LegacySession | None:
        key = self._digester.digest(f"{agreed.subject}\n{identifier}")
        if key in self._ended:
            return None
        opened = self._opened.pop(agreed.nonce, float("-inf"))
        # What another process has written of it since then, the next poll brings, as for any session in use here.
        new = self._clock.monotonic() - opened < LOOK_BACK_SECONDS / 2
        stored = None if new else await self._load(key)
        now = self._now()
        if (stored is None and agreed.expires <= now) or (stored is not None and ENDED in stored):
            return None
        session = LegacySession(
            identifier,
            agreed,
            key=key,
            mark=self._mark,
            sealer=self._sealer,
            changed=self._changed,
            look=self._look,
        )
        session.seen_at = opened if new else self._clock.monotonic()
        session.renewed = agreed.expires - self._idle_seconds
        session.expires = now + self._idle_seconds
        self._live[agreed.subject, identifier] = self._by_key[key] = session
        self._take(session, stored or {})
        if len(self._live) > IN_MEMORY:
            self._forget_one()
        return session

    async def _look(self, session: LegacySession) -> None:
        if self._clock.monotonic() - session.seen_at < GATHER_SECONDS:
            return
        session.seen_at = self._clock.monotonic()
        stored = await self._load(session.key)
        if stored is not None:
            self._take(session, stored)

    async def _load(self, key: str) -> Fields | None:
        if key in self._unsaved and key not in self._by_key:
            # It was forgotten here before it could be saved.
            return dict(self._unsaved[key].record.fields)
        if self._clock.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._store.load(key)
        except Exception as error:  # noqa: BLE001 - whatever the store's vendor raises, the session goes on
            self._miss(error)
            return None

    async def _save(self, batch: dict[str, LegacySession]) -> bool:
        patches: list[Patch] = [session.record.patch(key, self._idle_seconds) for key, session in batch.items()]
        try:
            stored = await self._store.save(patches)
        except BaseException as error:
            for patch, session in zip(patches, batch.values(), strict=True):
                session.record.failed(patch)
            self._unsaved = {**batch, **self._unsaved}
            if not isinstance(error, Exception):
                raise
            self._miss(error)
            return False
        now = self._now()
        for key, session in batch.items():
            session.renewed = now
            if key in stored:
                self._take(session, stored[key])
            if session.record.unsaved:
                self._changed(key)
        return True

    def _take(self, session: LegacySession, stored: Fields) -> None:
        servers = session.take(stored)
        if servers:
            self._on_watched(servers)

    def _changed(self, key: str) -> None:
        session = self._by_key.get(key)
        if session is not None:
            self._unsaved[key] = session
            self._news.set()

    def _forget(self, session: LegacySession, *, ended: bool) -> None:
        self._live.pop((session.subject, session.id), None)
        self._by_key.pop(session.key, None)
        if ended:
            now = self._now()
            # They all last equally long, so the first to have ended is the first to be forgotten. The store knows more.
            while self._ended and (next(iter(self._ended.values())) <= now or len(self._ended) >= IN_MEMORY):
                del self._ended[next(iter(self._ended))]
            self._ended[session.key] = now + self._idle_seconds
            session.give_up_all()

    def _forget_one(self) -> None:
        for session in self._live.values():
            if not session.calls and not session.streams:
                # Its servers keep its sessions: it comes back from its record, or is in use in another process.
                self._forget(session, ended=False)
                return

    def _miss(self, error: Exception) -> None:
        log.warning("the session store does not answer; sessions go on with what is known here", error=str(error))
        self._away_until = self._clock.monotonic() + RETRY_SECONDS

    def _now(self) -> float:
        return self._clock.timestamp()
