"""Records of who did what, and the heads of the chains that hold all records together (`registry.audit.chain`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, JSONDict, UuidKey


class Linked:
    """Mixin: a row's place in a chain. Rows from before there were chains have none."""

    chain_id: Mapped[int | None] = mapped_column(BigInteger)
    chain_seq: Mapped[int | None] = mapped_column(BigInteger)
    chain_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class AuditEntry(UuidKey, Linked, Base):
    """One thing that somebody did, or was refused."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_org_id_at", "org_id", "at"),
        Index("uq_audit_entries_chain_id_chain_seq", "chain_id", "chain_seq", unique=True),
    )

    org_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"))
    at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(36))
    key_id: Mapped[int | None]
    action: Mapped[str] = mapped_column(String(80))
    target_type: Mapped[str | None] = mapped_column(String(40))
    target_id: Mapped[str | None] = mapped_column(String(200))
    outcome: Mapped[str] = mapped_column(String(20))
    request_id: Mapped[str | None] = mapped_column(String(128))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class AuditChain(Base):
    """One writer's chain: what it hashes, and how far it has come.

    Args:
        fields: names of the columns that a row's hash covers, in order.
        seq, head: place and hash of the newest row.
        seen: `[id, seq, head]` of other chains, as this one last saw them.
        seal: HMAC over all of the above.
    """

    __tablename__ = "audit_chains"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    fields: Mapped[list[str]]
    started_at: Mapped[datetime]
    advanced_at: Mapped[datetime]
    seq: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[str] = mapped_column(String(64))
    seen: Mapped[list[Any]] = mapped_column(JSONDict)
    seal: Mapped[str] = mapped_column(String(64))
