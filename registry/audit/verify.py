"""Verifies the audit chains: reads every row once and names those that are not as they were written.

It trusts nothing in the database but what the seal on a chain's head holds true; `registry.audit.chain` says what that
shows and what it cannot. Which tables there are is `gateway.app`'s to say (`LinkedTable`), so that audit knows no other
feature.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select, text
from sqlalchemy.orm import InstrumentedAttribute

from registry.audit.chain import Chain, Head, first_hash, plain, row_hash, seal_of, started
from registry.audit.models import AuditChain, AuditEntry
from registry.audit.service import CHANGES, Reader
from registry.core.clock import Clock
from registry.core.db import Database, Session

MOST_PROBLEMS = 100
PAGE = 500

Kind = Literal["changed", "missing", "misplaced", "truncated", "added", "head", "chain_missing", "unlinked"]


@dataclass(frozen=True, slots=True)
class LinkedTable:
    """A table whose rows are linked.

    Args:
        kind: of its chains.
        model: a class with the columns of `registry.audit.models.Linked`.
        order: brings the rows of each chain into their order.
        at: when a row says that it was made.
    """

    kind: str
    model: Any
    order: tuple[InstrumentedAttribute[Any], ...]
    at: Callable[[Any], datetime]


CHANGES_TABLE = LinkedTable(CHANGES, AuditEntry, (AuditEntry.chain_id, AuditEntry.chain_seq), lambda at: at)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written.

    Args:
        row: id of the row in its table, where there is one.
        chain, seq: its place.
    """

    kind: Kind
    table: str
    row: str | None
    chain: int | None
    seq: int | None
    message: str


@dataclass(slots=True)
class Report:
    """What a verification found.

    Args:
        rows: how many were read.
        unlinked: rows from before there were chains, for which nothing vouches.
        problems: the first `MOST_PROBLEMS`; `found` says how many there are.
        heads: to be kept elsewhere and given to a later verification.
    """

    checked_at: datetime
    rows: int = 0
    unlinked: int = 0
    found: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])
    heads: list[Head] = field(default_factory=list[Head])

    @property
    def ok(self) -> bool:
        return self.found == 0

    def add(self, kind: Kind, table: str, message: str, **place: Any) -> None:
        self.found += 1
        if len(self.problems) < MOST_PROBLEMS:
            row, chain, seq = (place.get(name) for name in ("row", "chain", "seq"))
            self.problems.append(Problem(kind, table, row, chain, seq, message))


class AuditVerifier:
    """Verifies all chains of all writers.

    Args:
        key: the one that heads are sealed with.
        own: chains of this process; it remembers their heads.
    """

    def __init__(
        self, database: Database, clock: Clock, key: bytes, tables: Sequence[LinkedTable], own: Sequence[Chain] = ()
    ) -> None:
        self._database = database
        self._clock = clock
        self._key = key
        self._tables = tables
        self._own = own
        self._one_at_a_time = asyncio.Lock()

    async def verify(self, principal: Reader, known: Sequence[Head] = ()) -> Report:
        """Read everything; the more records there are, the longer it takes.

        Args:
            known: heads of an earlier report, kept where nobody could change them.

        Raises:
            Forbidden: `audit:read` is missing.
        """
        principal.require("audit:read")
        async with self._one_at_a_time:
            report = Report(self._clock.now())
            # What this process remembers must be there in what is read afterwards, so it is asked first.
            own = [head for chain in self._own if (head := chain.confirmed) is not None]
            async with self._database.reading() as session:
                if self._database.url.get_backend_name() == "postgresql":
                    # Heads and rows of one moment, while others go on writing. SQLite reads so by itself.
                    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
                rows = (await session.scalars(select(AuditChain).order_by(AuditChain.started_at))).all()
                witnesses = _witnesses(report, rows, [*known, *own])
                for table in self._tables:
                    await self._table(session, report, table, rows, witnesses)
            report.heads = [Head(row.id, row.seq, row.head) for row in rows]
            return report

    async def _table(
        self,
        session: Session,
        report: Report,
        table: LinkedTable,
        rows: Sequence[AuditChain],
        witnesses: dict[int, dict[int, str]],
    ) -> None:
        name: str = table.model.__tablename__
        walks = {row.id: _Walk(row, name, report, witnesses.get(row.id, {})) for row in rows if row.kind == table.kind}
        for walk in walks.values():
            if not hmac.compare_digest(walk.row.seal, seal_of(walk.row, self._key)):
                report.add(
                    "head",
                    name,
                    f"The head of chain {walk.row.id} was not sealed by this gateway: the chain "
                    "was replaced, or the gateway's secret is another one now.",
                    chain=walk.row.id,
                )
        first = started(rows, table.kind)
        columns = sorted({column for walk in walks.values() for column in walk.row.fields} | {"id", "at"})
        model = table.model
        wanted = select(
            *(getattr(model, column) for column in columns), model.chain_id, model.chain_seq, model.chain_hash
        )
        result = await session.stream(wanted.order_by(*table.order).execution_options(yield_per=PAGE))
        async for page in result.partitions():
            for row in page:
                report.rows += 1
                walk = walks.get(row.chain_id)
                if walk is not None:
                    walk.step(row)
                elif row.chain_id is not None:
                    report.add(
                        "chain_missing",
                        name,
                        f"Row {row.id} of {name} belongs to chain {row.chain_id}, which is gone.",
                        row=str(row.id),
                        chain=row.chain_id,
                        seq=row.chain_seq,
                    )
                elif first is not None and table.at(row.at).astimezone(UTC) >= first:
                    report.add(
                        "unlinked",
                        name,
                        f"Row {row.id} of {name} was put in past the gateway: it belongs to no chain.",
                        row=str(row.id),
                    )
                else:
                    report.unlinked += 1
            await asyncio.sleep(0)
        for walk in walks.values():
            walk.end()


class _Walk:
    """Follows one chain from its first row to its head."""

    def __init__(self, row: AuditChain, table: str, report: Report, witnesses: dict[int, str]) -> None:
        self.row = row
        self._table = table
        self._report = report
        self._witnesses = witnesses
        self._seq = 0
        self._before: bytes = first_hash(row.id, row.kind, row.fields)

    def step(self, row: Any) -> None:
        seq, place = row.chain_seq, f"row {row.id} of {self._table}"
        if seq <= self._seq:
            self._add("misplaced", f"{place.capitalize()} stands behind its place {seq} in chain {self.row.id}.", row)
            return
        if seq > self._seq + 1:
            lost = f"place {self._seq + 1}" if seq == self._seq + 2 else f"places {self._seq + 1} to {seq - 1}"
            self._add("missing", f"What stood before {place} is missing: {lost} of chain {self.row.id}.", row)
        elif row.chain_hash != row_hash(self._before, seq, self._values(row)):
            self._add("changed", f"{place.capitalize()} is not what was written, or the one before it is not.", row)
        witness = self._witnesses.pop(seq, None)
        if witness is not None and witness != row.chain_hash.hex():
            self._add("changed", f"{place.capitalize()} is not the one that was seen at its place {seq}.", row)
        if seq > self.row.seq:
            self._add("added", f"{place.capitalize()} stands behind the head of chain {self.row.id}.", row)
        self._seq, self._before = seq, row.chain_hash

    def _values(self, row: Any) -> list[Any]:
        values = [getattr(row, name) for name in self.row.fields]
        return [plain(value) if isinstance(value, dict) else value for value in values]

    def end(self) -> None:
        chain, table = self.row, self._table
        last = max([chain.seq, *self._witnesses])
        if self._seq < last:
            message = f"The end of chain {chain.id} in {table} is missing: places {self._seq + 1} to {last}."
            self._report.add("truncated", table, message, chain=chain.id, seq=self._seq + 1)
        elif self._seq == chain.seq and self._before.hex() != chain.head:
            message = f"The last row of chain {chain.id} in {table} is not the one that its head names."
            self._report.add("changed", table, message, chain=chain.id, seq=chain.seq)

    def _add(self, kind: Kind, message: str, row: Any) -> None:
        self._report.add(kind, self._table, message, row=str(row.id), chain=self.row.id, seq=row.chain_seq)


def _witnesses(report: Report, rows: Sequence[AuditChain], known: Sequence[Head]) -> dict[int, dict[int, str]]:
    """The hashes that were seen, by chain and place."""
    seen = [*known, *(Head(*other) for row in rows for other in row.seen)]
    there = {row.id for row in rows}
    witnesses: dict[int, dict[int, str]] = {}
    for head in seen:
        if head.chain in there:
            if head.seq:
                witnesses.setdefault(head.chain, {})[head.seq] = head.hash
        elif head.chain not in witnesses:
            witnesses[head.chain] = {}
            message = f"Chain {head.chain} is gone with its {head.seq} rows or more; others have seen it."
            report.add("chain_missing", AuditChain.__tablename__, message, chain=head.chain, seq=head.seq)
    return witnesses
