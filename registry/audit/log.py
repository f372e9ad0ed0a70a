"""Reads the audit log: changes and calls as one list, newest first, searched or exported.

Where records come from is a `LogSource`; the changes are audit's own, and `gateway.app` adds the calls. Verifying is
`registry.audit.verify`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from registry.audit.models import AuditEntry
from registry.audit.service import CHANGES, Reader
from registry.core.db import Database, Session
from registry.core.errors import Invalid

READ = "audit:read"
PAGE = 500
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

RecordKind = Literal["changes", "calls"]
Format = Literal["jsonl", "csv"]


class LogEntry(BaseModel):
    """One record of either kind.

    Args:
        kind: `changes` or `calls`.
        subject: whose credential it was: `key:ID` or `user:ID`.
        action: noun and verb of a change; the method of a call.
        chain, seq, hash: its link; none for records from before there were chains.
    """

    kind: str
    id: str
    at: datetime
    subject: str
    user_id: str | None
    key_id: int | None
    action: str
    target_type: str | None
    target_id: str | None
    outcome: str
    request_id: str | None
    detail: dict[str, Any]
    chain: int | None
    seq: int | None
    hash: str | None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which records; `None` is any.

    Args:
        since, until: when, the first included.
        principal: `key:ID`, `user:ID`, or a user's id for all of their credentials.
        action: one, or the beginning of several followed by `*`.
        target: id of what it was done to; a called tool's name.
    """

    since: datetime | None = None
    until: datetime | None = None
    principal: str | None = None
    action: str | None = None
    outcome: str | None = None
    target: str | None = None
    kind: RecordKind | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come: what is before `at` comes next, at it too if `inclusive`, of one source below `id`."""

    at: datetime
    id: str | None = None
    inclusive: bool = False


class LogSource(Protocol):
    kind: str

    async def entries(
        self, session: Session, org_id: str, wanted: LogFilter, after: Position | None, limit: int
    ) -> list[LogEntry]:
        """Records of one organisation, newest first and then by falling id."""
        ...


class AuditLog:
    """All records.

    Args:
        sources: ordered by their kind.
    """

    def __init__(self, database: Database, sources: Sequence[LogSource]) -> None:
        self._database = database
        self._sources = sorted(sources, key=lambda source: source.kind)

    async def search(
        self, session: Session, principal: Reader, wanted: LogFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[LogEntry], str | None]:
        """A page, and the cursor of the next one if there may be one.

        Raises:
            Forbidden: `audit:read` is missing.
            Invalid: the cursor is none of this list's.
        """
        principal.require(READ)
        last = None if cursor is None else _read_cursor(cursor)
        found: list[LogEntry] = []
        for source in self._sources:
            if wanted.kind in (None, source.kind):
                after = None if last is None else _position(last, source.kind)
                found += await source.entries(session, principal.org_id, wanted, after, limit)
        # Sorted twice: by falling time, and among those of one time as the sources have them.
        found.sort(key=lambda entry: entry.at, reverse=True)
        page = found[:limit]
        return page, _cursor(page[-1]) if len(page) == limit else None

    async def export(self, principal: Reader, wanted: LogFilter, form: Format) -> AsyncIterator[bytes]:
        """All matching records, piece by piece, each in a short transaction of its own. Permissions as `search`."""
        principal.require(READ)
        cursor: str | None = None
        while True:
            text, cursor = await self.exported(principal, wanted, form, limit=PAGE, cursor=cursor)
            yield text
            if cursor is None:
                return

    async def exported(
        self, principal: Reader, wanted: LogFilter, form: Format, *, limit: int, cursor: str | None = None
    ) -> tuple[bytes, str | None]:
        """One piece of an export, and the cursor for the next where there is more. Raises as `search`."""
        async with self._database.reading() as session:
            page, following = await self.search(session, principal, wanted, limit=limit, cursor=cursor)
        if form == "jsonl":
            return "".join(entry.model_dump_json() + "\n" for entry in page).encode(), following
        heading = [list(LogEntry.model_fields)] if cursor is None else []
        return _csv([*heading, *map(_cells, page)]), following


class Changes:
    """The audit entries as a source."""

    kind = CHANGES

    async def entries(
        self, session: Session, org_id: str, wanted: LogFilter, after: Position | None, limit: int
    ) -> list[LogEntry]:
        query = select(AuditEntry).where(AuditEntry.org_id == org_id)
        if wanted.since is not None:
            query = query.where(AuditEntry.at >= wanted.since)
        if wanted.until is not None:
            query = query.where(AuditEntry.at < wanted.until)
        if wanted.principal is not None:
            query = query.where(or_(AuditEntry.subject == wanted.principal, AuditEntry.user_id == wanted.principal))
        if wanted.action is not None:
            query = query.where(named(AuditEntry.action, wanted.action))
        if wanted.outcome is not None:
            query = query.where(AuditEntry.outcome == wanted.outcome)
        if wanted.target is not None:
            query = query.where(AuditEntry.target_id == wanted.target)
        if after is not None:
            query = query.where(beyond(AuditEntry.at, AuditEntry.id, after, after.at, after.id))
        rows = await session.scalars(query.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit))
        return [_change(row) for row in rows]


def named(column: InstrumentedAttribute[str], wanted: str) -> ColumnElement[bool]:
    """The text itself, or a beginning followed by `*`."""
    return column.startswith(wanted[:-1], autoescape=True) if wanted.endswith("*") else column == wanted


def beyond(
    at_column: InstrumentedAttribute[Any], id_column: InstrumentedAttribute[Any], after: Position, at: Any, id: Any
) -> ColumnElement[bool]:
    """The condition for what comes after a position; `at` and `id` are its values as the columns hold them."""
    if id is not None:
        return or_(at_column < at, and_(at_column == at, id_column < id))
    return at_column <= at if after.inclusive else at_column < at


def _change(row: AuditEntry) -> LogEntry:
    return LogEntry(
        kind=CHANGES,
        id=row.id,
        at=row.at,
        subject=row.subject,
        user_id=row.user_id,
        key_id=row.key_id,
        action=row.action,
        target_type=row.target_type,
        target_id=row.target_id,
        outcome=row.outcome,
        request_id=row.request_id,
        detail=row.detail,
        chain=row.chain_id,
        seq=row.chain_seq,
        hash=row.chain_hash.hex() if row.chain_hash else None,
    )


def _cursor(entry: LogEntry) -> str:
    return f"{(entry.at - _EPOCH) // _MICROSECOND}.{entry.kind}.{entry.id}"


def _read_cursor(text: str) -> tuple[datetime, str, str]:
    at, _, rest = text.partition(".")
    kind, _, identity = rest.partition(".")
    try:
        return _EPOCH + int(at) * _MICROSECOND, kind, identity
    except (ValueError, OverflowError):
        raise Invalid("This is no cursor of the audit log: take it from the answer before.", field="cursor") from None


def _position(last: tuple[datetime, str, str], kind: str) -> Position:
    at, last_kind, identity = last
    return Position(at, id=identity) if kind == last_kind else Position(at, inclusive=kind > last_kind)


def _cells(entry: LogEntry) -> list[str]:
    values = entry.model_dump(mode="json")
    values["detail"] = json.dumps(values["detail"], ensure_ascii=False)
    return ["" if value is None else _harmless(str(value)) for value in values.values()]


def _harmless(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()
