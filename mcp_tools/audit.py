"""Tools for the audit log: `audit_search`, `audit_export` and `audit_verify`; see `registry.audit`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.audit.log import READ, AuditLog, Format, LogEntry, LogFilter, RecordKind
from registry.audit.verify import AuditVerifier
from registry.core.db import Database
from registry.identity.principal import Principal


class Which(Arguments):
    since: AwareDatetime | None = Field(default=None, description="Then or later.")
    until: AwareDatetime | None = Field(default=None, description="Before.")
    principal: str | None = Field(
        default=None, description="key:ID, user:ID, or a user's id for all their credentials."
    )
    action: str | None = Field(default=None, description="Such as servers.create, servers.* or tools/call.")
    outcome: str | None = Field(default=None, description="done, refused, failed; of calls ok, tool_error, denied, …")
    target: str | None = Field(default=None, description="Id of what it was done to; the name of a called tool.")
    kind: RecordKind | None = Field(default=None, description="Only changes, or only calls.")
    cursor: str | None = Field(default=None, description="Of the answer before, for its next page.")

    def filter(self) -> LogFilter:
        return LogFilter(**self.model_dump(exclude={"limit", "cursor", "format"}))


class Search(Which):
    limit: int = Field(default=50, ge=1, le=200)


class Export(Which):
    format: Format = Field(default="jsonl", description="A JSON object in each line, or CSV.")
    limit: int = Field(default=200, ge=1, le=1000)


class Verify(Arguments):
    pass


class LogPage(BaseModel):
    entries: list[LogEntry]
    next_cursor: str | None


class ExportedPiece(BaseModel):
    format: Format
    text: str
    next_cursor: str | None


class FoundProblem(BaseModel):
    kind: str
    table: str
    row: str | None
    message: str


class Verified(BaseModel):
    ok: bool
    checked_at: datetime
    rows: int
    unlinked: int
    found: int
    problems: list[FoundProblem]


class AuditTools:
    def __init__(self, database: Database, log: AuditLog, verifier: AuditVerifier) -> None:
        self._database = database
        self._log = log
        self._verifier = verifier

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "audit_search",
                "Search the audit log",
                "Search who did what, when and with what outcome: changes to the gateway and calls through it.",
                READ,
                Search,
                self._search,
                read_only=True,
            ),
            Tool(
                "audit_export",
                "Export the audit log",
                "Write matching records as text, newest first, piece by piece: to keep them elsewhere.",
                READ,
                Export,
                self._export,
                read_only=True,
            ),
            Tool(
                "audit_verify",
                "Verify the audit log",
                "Verify that no record was changed, moved, removed or put in since it was written.",
                READ,
                Verify,
                self._verify,
                read_only=True,
            ),
        ]

    async def _search(self, principal: Principal, wanted: Search) -> LogPage:
        async with self._database.reading() as session:
            entries, following = await self._log.search(
                session, principal, wanted.filter(), limit=wanted.limit, cursor=wanted.cursor
            )
        return LogPage(entries=entries, next_cursor=following)

    async def _export(self, principal: Principal, wanted: Export) -> ExportedPiece:
        text, following = await self._log.exported(
            principal, wanted.filter(), wanted.format, limit=wanted.limit, cursor=wanted.cursor
        )
        return ExportedPiece(format=wanted.format, text=text.decode(), next_cursor=following)

    async def _verify(self, principal: Principal, _wanted: Verify) -> Verified:
        report = await self._verifier.verify(principal)
        return Verified.model_validate({"ok": report.ok, **asdict(report)})
