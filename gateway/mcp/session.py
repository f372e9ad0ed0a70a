"""One client's legacy session while it is in use, in one process.

What can be written down is in its record and survives the process; calls under way, requests that wait for the
client's answer and resumable streams are in memory only. A message of the client's for such a thing may arrive at
another process: it is left in the record, and the process that waits finds it there.
Neighbour: `gateway.mcp.sessions` opens, finds and ends sessions.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp.envelope import Message, decode_message, encode
from gateway.mcp.flights import ClientGone, Flight
from gateway.mcp.replay import Replay
from gateway.mcp.session_record import FIRST_WINS, SessionRecord
from registry.core.security import SealBroken, Sealer

if TYPE_CHECKING:
    from registry.servers.connection import Kind
    from registry.sessions.patch import Fields

MOST_EXPECTED = 100
"""Requests to one client that can be open at a time."""
MOST_LEFT = 32
"""Messages for other processes that can lie in the record at a time."""
MOST_LEFT_BYTES = 256 * 1024

ENDED = "ended"
LEVEL = "level"
AT = FIRST_WINS
"""`at:SERVER`: the id of the session at a server, sealed."""
WATCH = "watch:"
"""`watch:SERVER URI`: the client's name for a resource that it watches."""
LEFT = "left:"
"""`left:REQUEST`: the client's answer to a request, or that it gives up its own; sealed."""

_OURS = b'"gatehouse-'


class Agreed(msgspec.Struct, array_like=True, frozen=True):
    """What was agreed at `initialize`, as it is sealed into the id."""

    subject: str
    version: str
    capabilities: msgspec.Raw
    expires: float
    nonce: str


class LegacySession:
    """The session in this process.

    Args:
        key: of its record.
        mark: tells the requests that this process sends to clients from those of others.
        sealer: seals what the record holds of secrets, with `key` as associated data.
        changed: is told the key when there is something to save.
        look: takes in what is stored now.
    """

    __slots__ = (
        "_arrived",
        "_expected",
        "_left",
        "_left_before",
        "_look",
        "_numbers",
        "_prefix",
        "_sealer",
        "calls",
        "capabilities",
        "expires",
        "id",
        "key",
        "levels_sent",
        "listed",
        "log_level",
        "record",
        "renewed",
        "replay",
        "restored",
        "seen_at",
        "streams",
        "subject",
        "subscriptions",
        "upstream_ids",
        "used",
        "version",
    )

    def __init__(
        self,
        identifier: str,
        agreed: Agreed,
        *,
        key: str,
        mark: str,
        sealer: Sealer,
        changed: Callable[[str], None],
        look: Callable[[LegacySession], Awaitable[None]],
    ) -> None:
        self.id = identifier
        self.key = key
        self.subject = agreed.subject
        self.version = agreed.version
        self.capabilities = bytes(agreed.capabilities)
        self.expires = agreed.expires
        self.renewed = 0.0
        self.used = True
        self.seen_at = float("-inf")
        self.record = SessionRecord(lambda: changed(key))
        self.upstream_ids: dict[str, bytes | None] = {}
        """Upstream session id per server id; `None` where that server keeps no sessions. Changed by `bind` alone."""
        self.restored: set[str] = set()
        """Servers whose session was opened by another process, or before a restart."""
        self.calls: dict[bytes, tuple[Flight, ...]] = {}
        """Calls under way by request id, for `notifications/cancelled`; some clients use one id twice."""
        self._arrived: dict[bytes, bool] = {}
        self.streams: set[Flight] = set()
        """Open streams that belong to no call."""
        self.log_level: str | None = None
        """Servers are told when they are next asked something."""
        self.levels_sent: dict[str, str] = {}
        self.listed: dict[Kind, bytes] = {}
        """Fingerprints of the lists that the client was shown last."""
        self.subscriptions: dict[tuple[str, str], str] = {}
        """Resources whose changes the client wants to hear of: its URI by server id and the server's own URI."""
        self.replay = Replay(agreed.version)
        self._sealer = sealer
        self._look = look
        self._prefix = _OURS + mark.encode() + b"-"
        self._expected: dict[bytes, Callable[[Message], None]] = {}
        self._numbers = itertools.count(1)
        self._left: list[str] = []
        self._left_before: list[str] = []

    # -- what is written down

    async def knows(self, server_id: str) -> bool:
        """Whether there is a session at a server; where none is known here, another process may just have opened it."""
        if server_id not in self.upstream_ids:
            await self._look(self)
        return server_id in self.upstream_ids

    def bind(self, server_id: str, upstream_id: bytes | None) -> None:
        """Note the session at a server."""
        self.upstream_ids[server_id] = upstream_id
        if upstream_id is not None:
            self.record.put(AT + server_id, self._sealer.seal(upstream_id, self.key))

    def unbind(self, server_id: str, upstream_id: bytes | None) -> None:
        """The server no longer knows this session of its."""
        if self.upstream_ids.get(server_id) != upstream_id:
            # Another has been opened meanwhile.
            return
        self.upstream_ids.pop(server_id, None)
        self.levels_sent.pop(server_id, None)
        self.restored.discard(server_id)
        self.record.drop(AT + server_id)

    def set_level(self, level: str) -> None:
        self.log_level = level
        self.record.put(LEVEL, level)

    def watch(self, place: tuple[str, str], uri: str) -> None:
        self.subscriptions[place] = uri
        self.record.put(WATCH + " ".join(place), uri)

    def unwatch(self, place: tuple[str, str]) -> None:
        self.subscriptions.pop(place, None)
        self.record.drop(WATCH + " ".join(place))

    def take(self, stored: Fields) -> set[str]:
        """Take in what is stored; gives the servers of which other resources are watched than before."""
        servers: set[str] = set()
        for name in self.record.merge(stored):
            value = self.record.fields.get(name)
            if name == LEVEL:
                self.log_level = value
            elif name.startswith(AT):
                self._restore(name.removeprefix(AT), value)
            elif name.startswith(WATCH):
                server_id, _, own = name.removeprefix(WATCH).partition(" ")
                servers.add(server_id)
                if value is None:
                    self.subscriptions.pop((server_id, own), None)
                else:
                    self.subscriptions[server_id, own] = value
            elif name.startswith(LEFT) and value is not None:
                self._collect(name, value)
        return servers

    def _restore(self, server_id: str, sealed: str | None) -> None:
        self.levels_sent.pop(server_id, None)
        self.upstream_ids.pop(server_id, None)
        if sealed is not None:
            with suppress(SealBroken):
                self.upstream_ids[server_id] = self._sealer.open(sealed, self.key)
                self.restored.add(server_id)

    # -- what is in memory, and messages for it

    def expect(self, reply: Callable[[Message], None]) -> bytes:
        """An id for a request to the client; `reply` is called with its answer, should there be one."""
        identifier = self._prefix + b'%d"' % next(self._numbers)
        self._expected[identifier] = reply
        if len(self._expected) > MOST_EXPECTED:
            del self._expected[next(iter(self._expected))]
        return identifier

    def hear(self, answer: Message) -> bool:
        """Take a client's answer to a request; false if this process has not asked for it."""
        identifier = bytes(answer.id)
        reply = self._expected.pop(identifier, None)
        if reply is not None:
            reply(answer)
            return True
        if identifier.startswith(_OURS) and not identifier.startswith(self._prefix):
            part = {"result": answer.result} if bytes(answer.result) else {"error": answer.error}
            self._leave(identifier, encode({"id": answer.id, **part}))
        return False

    def arrive(self, identifier: bytes) -> None:
        """A request is here; until it has taken off as a call, that it is given up is remembered."""
        self._arrived[identifier] = False

    def take_off(self, identifier: bytes, flight: Flight) -> None:
        self.calls[identifier] = (*self.calls.get(identifier, ()), flight)
        if self._arrived.get(identifier):
            flight.end(ClientGone())

    def land(self, identifier: bytes, flight: Flight) -> None:
        others = tuple(other for other in self.calls.pop(identifier, ()) if other is not flight)
        if others:
            self.calls[identifier] = others

    def answered(self, identifier: bytes) -> None:
        """What there is to wait for in a request that had arrived is over, or has taken off."""
        self._arrived.pop(identifier, None)

    def give_up(self, identifier: bytes) -> None:
        """The client no longer waits for a request of its own."""
        if identifier in self.calls:
            for flight in self.calls[identifier]:
                flight.end(ClientGone())
        elif identifier in self._arrived:
            self._arrived[identifier] = True
        else:
            self._leave(identifier, b"{}")

    def give_up_all(self) -> None:
        """The session is over: end its calls and streams."""
        for identifier in {*self.calls, *self._arrived}:
            self.give_up(identifier)
        for stream in list(self.streams):
            stream.end(ClientGone())

    def tidy(self) -> None:
        """Drop what was left for others, and the streams that had ended, before the last time that this was called."""
        self.replay.tidy()
        for name in self._left_before:
            self.record.drop(name)
        self._left_before, self._left = self._left, []

    def _leave(self, identifier: bytes, message: bytes) -> None:
        """Leave a message for whichever process waits for it, if any does."""
        if len(self._left) + len(self._left_before) < MOST_LEFT and len(message) <= MOST_LEFT_BYTES:
            name = LEFT + identifier.decode("utf-8", "replace")
            self._left.append(name)
            self.record.put(name, self._sealer.seal(message, self.key))

    def _collect(self, name: str, sealed: str) -> None:
        identifier = name.removeprefix(LEFT).encode()
        if identifier in self.calls or identifier in self._arrived:
            self.give_up(identifier)
        elif identifier in self._expected:
            with suppress(SealBroken, msgspec.DecodeError):
                self.hear(decode_message(self._sealer.open(sealed, self.key)))
        else:
            return
        self.record.drop(name)
