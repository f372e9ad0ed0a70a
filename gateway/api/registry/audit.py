"""Our own routes of the audit log: search, export, verify."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session, requires
from registry.audit.chain import Head
from registry.audit.log import READ, AuditLog, Format, LogEntry, LogFilter, RecordKind
from registry.audit.verify import AuditVerifier, Kind

WHOLE_LOG = Limit("audit-whole", 20, 60, "user")
"""Exporting and verifying read the whole log."""

_MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv"}


class LogAnswer(BaseModel):
    entries: list[LogEntry]
    next_cursor: str | None


class HeadBody(BaseModel):
    chain: int
    seq: int
    hash: str


class VerifyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    heads: list[HeadBody] = Field(default_factory=list[HeadBody], max_length=10_000)
    """Of an earlier verification."""


class ProblemAnswer(BaseModel):
    kind: Kind
    table: str
    row: str | None
    chain: int | None
    seq: int | None
    message: str


class VerifiedAnswer(BaseModel):
    ok: bool
    checked_at: datetime
    rows: int
    unlinked: int
    found: int
    problems: list[ProblemAnswer]
    heads: list[HeadBody]


def _filter(
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    principal: Annotated[str | None, Query(max_length=80)] = None,
    action: Annotated[str | None, Query(max_length=80)] = None,
    outcome: Annotated[str | None, Query(max_length=20)] = None,
    target: Annotated[str | None, Query(max_length=2000)] = None,
    kind: RecordKind | None = None,
) -> LogFilter:
    return LogFilter(since, until, principal, action, outcome, target, kind)


Filter = Annotated[LogFilter, Depends(_filter)]


def router(front: Front, log: AuditLog) -> APIRouter:
    api = front.router(tags=["Audit"])

    @api.get("/v1/audit")
    async def search_audit(
        session: Session,
        caller: Caller,
        wanted: Filter,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> LogAnswer:
        entries, following = await log.search(session, caller, wanted, limit=limit, cursor=cursor)
        return LogAnswer(entries=entries, next_cursor=following)

    return api


def whole_router(front: Front, log: AuditLog, verifier: AuditVerifier) -> APIRouter:
    """Routes that read the whole log; they have a limit of their own."""
    api = front.router(tags=["Audit"], limit=WHOLE_LOG)

    # Refused before the answer begins: what is streamed has no other status any more.
    @api.get("/v1/audit/export", dependencies=[requires(READ)], response_class=StreamingResponse)
    async def export_audit(caller: Caller, wanted: Filter, format: Format = "jsonl") -> StreamingResponse:
        name = f'attachment; filename="audit.{format}"'
        return StreamingResponse(
            log.export(caller, wanted, format), media_type=_MEDIA[format], headers={"content-disposition": name}
        )

    @api.post("/v1/audit/verify")
    async def verify_audit(caller: Caller, body: VerifyBody | None = None) -> VerifiedAnswer:
        known = [Head(head.chain, head.seq, head.hash) for head in body.heads] if body is not None else []
        report = await verifier.verify(caller, known)
        found: dict[str, Any] = asdict(report)
        return VerifiedAnswer(ok=report.ok, **found)

    return api
