"""The records of calls as a source of the audit log (`registry.audit.log`)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, select

from registry.audit.log import LogEntry, LogFilter, Position, beyond, named
from registry.core.db import Session
from registry.usage.models import CallRecord
from registry.usage.queries import microseconds
from registry.usage.service import CALLS
from registry.usage.views import time_of

_TARGETS = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "resource"}


class Calls:
    """Calls, reads and gets: the action is the method, the target what was called."""

    kind = CALLS

    async def entries(
        self, session: Session, org_id: str, wanted: LogFilter, after: Position | None, limit: int
    ) -> list[LogEntry]:
        query = select(CallRecord).where(CallRecord.org_id == org_id)
        if wanted.since is not None:
            query = query.where(CallRecord.at >= microseconds(wanted.since))
        if wanted.until is not None:
            query = query.where(CallRecord.at < microseconds(wanted.until))
        if wanted.principal is not None:
            query = query.where(_by(wanted.principal))
        if wanted.action is not None:
            query = query.where(named(CallRecord.method, wanted.action))
        if wanted.outcome is not None:
            query = query.where(CallRecord.outcome == wanted.outcome)
        if wanted.target is not None:
            query = query.where(CallRecord.name == wanted.target)
        if after is not None:
            identity = int(after.id) if after.id is not None and after.id.isdigit() else None
            query = query.where(beyond(CallRecord.at, CallRecord.id, after, microseconds(after.at), identity))
        rows = await session.scalars(query.order_by(CallRecord.at.desc(), CallRecord.id.desc()).limit(limit))
        return [_entry(row) for row in rows]


def _by(principal: str) -> ColumnElement[bool]:
    kind, _, identity = principal.partition(":")
    if kind == "key":
        return CallRecord.key_id == (int(identity) if identity.isdigit() else -1)
    if kind == "user":
        return and_(CallRecord.user_id == identity, CallRecord.key_id.is_(None))
    return CallRecord.user_id == principal


def _entry(row: CallRecord) -> LogEntry:
    return LogEntry(
        kind=CALLS,
        id=str(row.id),
        at=time_of(row.at),
        subject=f"key:{row.key_id}" if row.key_id is not None else f"user:{row.user_id or 'public'}",
        user_id=row.user_id,
        key_id=row.key_id,
        action=row.method,
        target_type=_TARGETS.get(row.method),
        target_id=row.name,
        outcome=row.outcome,
        request_id=row.request_id,
        detail={
            "server": row.server_slug,
            "duration_ms": row.duration_us / 1000,
            "bytes_in": row.bytes_in,
            "bytes_out": row.bytes_out,
            "cost_usd": row.cost_usd,
            "error_code": row.error_code,
        },
        chain=row.chain_id,
        seq=row.chain_seq,
        hash=row.chain_hash.hex() if row.chain_hash else None,
    )
