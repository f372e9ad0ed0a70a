"""Hash chains over the records of changes and calls, so that what was tampered with shows (`registry.audit.verify`).

Every writer, which is one process for one kind of record, has a chain of its own, so that processes write at the same
time without waiting for each other. A row's hash covers the hash before it, its place and its content. The chain's
row in `audit_chains` holds the newest place and hash and is advanced in the transaction that adds the rows; it is
sealed with a key that is derived from the gateway's secret and stored nowhere else. Each chain also holds, under its
seal, the heads of the others as it saw them when it began and every `LOOK_SECONDS` since.

What this shows, to somebody who holds the secret: a row that was changed, moved, removed or put in; the end of a chain
cut off; a chain removed whole that another has seen. Who can write to the database but does not know the secret can
neither make a head for a shorter or a different chain nor remove what others have seen of it.

What it cannot show. Who knows the secret can write the whole history anew. Who puts back an earlier copy of all of the
database's audit tables leaves a history that is whole, only shorter; a chain younger than the last look of all others
can be removed with its rows. Against both, keep the heads of a verification somewhere else and give them to the next
one. And nobody is kept from telling lies in a record in the moment that it is written.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from registry.audit.models import AuditChain
from registry.core.clock import Clock
from registry.core.db import UTCDateTime, insert_into

LOOK_SECONDS = 60.0
MOST_SEEN = 100
_EXACT = 2**53

_ADVANCE = (
    update(AuditChain)
    .where(AuditChain.id == bindparam("of"), AuditChain.seq == bindparam("at"))
    .values({name: bindparam(name) for name in ("seq", "head", "advanced_at", "seal")})
)
_SQLITE: Any = sqlite.dialect(paramstyle="named")
_ADVANCE_SQLITE = str(_ADVANCE.compile(dialect=_SQLITE))
_sqlite_time: Any = UTCDateTime().bind_processor(_SQLITE)
# Keys are sorted: a database may give them back in another order.
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain had come; kept elsewhere, it proves later that nothing up to it was lost."""

    chain: int
    seq: int
    hash: str


def first_hash(chain: int, kind: str, fields: Sequence[str]) -> bytes:
    """What stands before the first row of a chain."""
    return hashlib.sha256(_encode([chain, kind, list(fields)])).digest()


def row_hash(before: bytes, seq: int, values: Sequence[Any]) -> bytes:
    return hashlib.sha256(b"%b%d%b" % (before, seq, _encode(values))).digest()


def seal_of(row: AuditChain, key: bytes) -> str:
    return _seal([row.id, row.kind, row.fields, row.started_at, row.seq, row.head, row.seen], key)


def _seal(facts: list[Any], key: bytes) -> str:
    return hmac.digest(key, _encode(facts), "sha256").hex()


def plain(value: Any) -> Any:
    """A JSON value as every database gives it back: it may store 1.0 as 1, and large numbers rounded."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if abs(value) < _EXACT:
        return int(value) if value == int(value) else value
    return float(value)


class Step(NamedTuple):
    """What one batch adds to a chain, from where this process left it.

    Args:
        links: the values of `chain_id`, `chain_seq` and `chain_hash` of each of its rows.
        place: where the chain must stand, and what its row becomes.
    """

    links: list[tuple[int, int, bytes]]
    place: dict[str, Any]

    def taken(self, connection: Connection) -> bool:
        """Take it by one statement; whether the chain still stood there."""
        return connection.execute(_ADVANCE, self.place).rowcount == 1

    def taken_behind(self, cursor: sqlite3.Cursor) -> bool:
        """The same on SQLite, past SQLAlchemy; see `registry.core.db.Database.behind`."""
        stored = {**self.place, "advanced_at": _sqlite_time(self.place["advanced_at"])}
        return cursor.execute(_ADVANCE_SQLITE, stored).rowcount == 1


class Chain:
    """One writer's chain of one kind. It exists in the database from the first row on.

    Args:
        fields: names of the columns that hold a row's content.
        key: for the seals.
        batches: its one writer appends batch after batch, and calls `confirm` after each that was committed.
    """

    def __init__(self, kind: str, fields: Sequence[str], key: bytes, clock: Clock, *, batches: bool = False) -> None:
        self.kind = kind
        self.fields = list(fields)
        # Random, so that writers need no agreement; small enough for a JSON number anywhere.
        self.id = secrets.randbits(52) or 1
        self._key = key
        self._clock = clock
        self._looked = float("-inf")
        self._first = first_hash(self.id, kind, fields)
        self._stored: Head | None = None
        self._row: AuditChain | None = None
        self._confirmed = Head(self.id, 0, self._first.hex()) if batches else None

    @property
    def confirmed(self) -> Head | None:
        """The head as it stood after the last `confirm`."""
        return self._confirmed if self._confirmed is not None and self._confirmed.seq else None

    def confirm(self) -> None:
        """Say that the transaction of the last `append` or `step` was committed."""
        self._confirmed = self._stored

    def step(self, contents: Sequence[Sequence[Any]]) -> Step | None:
        """The next step of a chain that is appended to in batches, worked out without the database.

        `None` where the database must be looked at first. That is `append`'s work, as is a step that was not taken.
        """
        row, start = self._row, self._confirmed
        if row is None or start is None or self._clock.monotonic() - self._looked >= LOOK_SECONDS:
            return None
        links = self._linked(start, contents)
        _, seq, head = links[-1]
        self._stored = Head(self.id, seq, head.hex())
        facts = [row.id, row.kind, row.fields, row.started_at, seq, head.hex(), row.seen]
        new = {"seq": seq, "head": head.hex(), "advanced_at": self._clock.now(), "seal": _seal(facts, self._key)}
        return Step(links, {**new, "of": self.id, "at": start.seq})

    def append(self, session: Session, contents: Sequence[Sequence[Any]]) -> list[tuple[int, int, bytes]]:
        """Advance the chain in the session's transaction, which must end soon: it holds a lock on the chain.

        Where the writer was never told that a batch was committed and now appends it again, with more behind it, what
        is stored already is left out.

        Args:
            contents: the values of `fields` of each row.

        Returns:
            The values of `chain_id`, `chain_seq` and `chain_hash` of each row that is to be stored: the last ones.
        """
        step = self.step(contents)
        if step is not None and step.taken(session.connection()):
            return step.links
        start = self._confirmed
        row = self._row = self._locked(session)
        links = self._linked(start or Head(row.id, row.seq, row.head), contents)
        if start is not None and 0 < (stored := row.seq - start.seq) <= len(links):
            # Only if it is the very same; anything else at these places was not written here, and will show.
            links = links[stored:] if links[stored - 1][2].hex() == row.head else links
        if links:
            self._store(session, row, *links[-1][1:])
        self._stored = Head(self.id, row.seq, row.head)
        return links

    def _linked(self, start: Head, contents: Sequence[Sequence[Any]]) -> list[tuple[int, int, bytes]]:
        identity, seq, before = self.id, start.seq, bytes.fromhex(start.hash)
        links: list[tuple[int, int, bytes]] = []
        for values in contents:
            seq += 1
            before = row_hash(before, seq, values)
            links.append((identity, seq, before))
        return links

    def _locked(self, session: Session) -> AuditChain:
        wanted = select(AuditChain).where(AuditChain.id == self.id).with_for_update()
        row = session.scalars(wanted.execution_options(populate_existing=True)).one_or_none()
        if row is not None:
            return row
        now = self._clock.now()
        begun = {"id": self.id, "kind": self.kind, "fields": self.fields, "started_at": now, "advanced_at": now}
        begun |= {"seq": 0, "head": self._first.hex(), "seen": [], "seal": ""}
        # Two transactions of this process may begin the chain at once; the second waits here for the first.
        session.execute(insert_into(session, AuditChain).values(begun).on_conflict_do_nothing())
        self._looked = float("-inf")
        return session.scalars(wanted).one()

    def _store(self, session: Session, row: AuditChain, seq: int, head: bytes) -> None:
        if self._clock.monotonic() - self._looked >= LOOK_SECONDS:
            row.seen = _others(session, self.id)
            self._looked = self._clock.monotonic()
        row.seq, row.head, row.advanced_at = seq, head.hex(), self._clock.now()
        row.seal = seal_of(row, self._key)
        session.flush()


def _others(session: Session, chain: int) -> list[Any]:
    """The heads of the chains that moved last; older ones were seen by these."""
    heads = select(AuditChain.id, AuditChain.seq, AuditChain.head).where(AuditChain.id != chain)
    found = session.execute(heads.order_by(AuditChain.advanced_at.desc()).limit(MOST_SEEN))
    return sorted([identity, seq, head] for identity, seq, head in found)


def started(rows: Sequence[AuditChain], kind: str) -> datetime | None:
    """When the first chain of a kind began."""
    return min((row.started_at for row in rows if row.kind == kind), default=None)
