"""Legacy sessions of clients: what `Mcp-Session-Id` stands for.

The id is itself the record of what was agreed at `initialize`, sealed for its principal, so it costs nothing to
abandon one and any process can open it. What changes during a session (upstream sessions, calls under way) is kept in
memory for the sessions that are in use. The modern era has no sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp.flights import ClientGone, Flight
from gateway.mcp.replay import Replay
from registry.core.security import SealBroken, Sealer

if TYPE_CHECKING:
    from gateway.mcp.envelope import Message
    from registry.core.clock import Clock
    from registry.identity.principal import Principal
    from registry.servers.connection import Kind

LIFETIME_SECONDS = 24 * 3600
"""After this a client must initialize again."""
MOST_EXPECTED = 100
"""Requests to one client that can be open at a time."""
IN_MEMORY = 10_000
"""Sessions whose live state is kept; the one longest unused goes first and starts afresh when it comes back."""


class Agreed(msgspec.Struct, array_like=True, frozen=True):
    """What was agreed at `initialize`, as it is sealed into the id."""

    subject: str
    version: str
    capabilities: msgspec.Raw
    expires: float
    nonce: str


class LegacySession:
    """One client's session while it is in use."""

    __slots__ = (
        "_expected",
        "_numbers",
        "calls",
        "capabilities",
        "expires",
        "id",
        "levels_sent",
        "listed",
        "log_level",
        "replay",
        "streams",
        "subscriptions",
        "upstream_ids",
        "version",
    )

    def __init__(self, identifier: str, agreed: Agreed) -> None:
        self.id = identifier
        self.version = agreed.version
        self.expires = agreed.expires
        self.capabilities = bytes(agreed.capabilities)
        self.upstream_ids: dict[str, bytes | None] = {}
        """Upstream session id per server id; `None` where that server keeps no sessions."""
        self.calls: dict[bytes, Flight] = {}
        """Calls under way by request id, so that `notifications/cancelled` finds them."""
        self.streams: set[asyncio.Queue[bytes | None]] = set()
        """Open GET streams; `None` ends one."""
        self.log_level: str | None = None
        """Set by `logging/setLevel`; servers are told when they are next asked something."""
        self.listed: dict[Kind, bytes] = {}
        """Fingerprints of the lists that the client was shown last."""
        self.levels_sent: dict[str, str] = {}
        self.subscriptions: dict[tuple[str, str], str] = {}
        """Resources whose changes the client wants to hear of: its URI by server id and the server's own URI."""
        self.replay = Replay(agreed.version)
        self._expected: dict[bytes, Callable[[Message], None]] = {}
        self._numbers = itertools.count(1)

    def expect(self, reply: Callable[[Message], None]) -> bytes:
        """An id for a request to the client; `reply` is called with its answer, should there be one."""
        identifier = b'"gatehouse-%d"' % next(self._numbers)
        self._expected[identifier] = reply
        if len(self._expected) > MOST_EXPECTED:
            del self._expected[next(iter(self._expected))]
        return identifier

    def hear(self, answer: Message) -> bool:
        """Take a client's answer to a request of ours; false if none like it was asked."""
        reply = self._expected.pop(bytes(answer.id), None)
        if reply is None:
            return False
        reply(answer)
        return True


class LegacySessions:
    """Opens and ends sessions.

    Args:
        sealer: seals ids; the principal's subject is the associated data, so nobody else can use one.
        on_end: is told of sessions whose live state goes, so that their servers hear of it.
    """

    def __init__(self, sealer: Sealer, clock: Clock, on_end: Callable[[LegacySession], None]) -> None:
        self._sealer = sealer
        self._clock = clock
        self._on_end = on_end
        self._live: OrderedDict[tuple[str, str], LegacySession] = OrderedDict()
        self._ended: dict[bytes, float] = {}

    def open(self, principal: Principal, version: str, capabilities: bytes) -> LegacySession:
        agreed = Agreed(
            subject=principal.subject,
            version=version,
            capabilities=msgspec.Raw(capabilities),
            expires=self._clock.now().timestamp() + LIFETIME_SECONDS,
            nonce=secrets.token_hex(8),
        )
        identifier = self._sealer.seal(msgspec.json.encode(agreed), principal.subject)
        return LegacySession(identifier, agreed)

    def find(self, principal: Principal, identifier: str) -> LegacySession | None:
        """The session of that id, if it is this principal's, alive, and was not ended."""
        key = (principal.subject, identifier)
        session = self._live.get(key)
        if session is not None and session.expires >= self._clock.now().timestamp():
            self._live.move_to_end(key)
            return session
        if self._ended and _digest(identifier) in self._ended:
            return None
        try:
            agreed = msgspec.json.decode(self._sealer.open(identifier, principal.subject), type=Agreed)
        except (SealBroken, msgspec.DecodeError):
            return None
        if agreed.expires < self._clock.now().timestamp():
            return None
        session = self._live[key] = LegacySession(identifier, agreed)
        if len(self._live) > IN_MEMORY:
            self._forget_one()
        return session

    def end(self, principal: Principal, session: LegacySession) -> None:
        """End a session at its client's wish; its id answers 404 from now on."""
        now = self._clock.now().timestamp()
        # They all last equally long, so the first to have ended is the first to be forgotten.
        while self._ended and next(iter(self._ended.values())) <= now:
            del self._ended[next(iter(self._ended))]
        self._ended[_digest(session.id)] = now + LIFETIME_SECONDS
        self._live.pop((principal.subject, session.id), None)
        _close(session)
        self._on_end(session)

    def in_use(self) -> list[LegacySession]:
        return list(self._live.values())

    def _forget_one(self) -> None:
        for key, session in self._live.items():
            if not session.streams and not session.calls:
                del self._live[key]
                self._on_end(session)
                return


def _digest(identifier: str) -> bytes:
    """What is kept of an ended session: ids are long, and there may be many."""
    return hashlib.blake2b(identifier.encode(errors="replace"), digest_size=16).digest()


def _close(session: LegacySession) -> None:
    for queue in session.streams:
        queue.put_nowait(None)
    for flight in list(session.calls.values()):
        flight.end(ClientGone())
