"""Writes the audit log: in the transaction of what it tells of, so that there is neither one without the other.

Entries are only ever added, and linked into the process's chain (`registry.audit.chain`) when their transaction is
committed. Who acted is whatever has the four attributes of `Actor`, so that identity can record its own changes without
a circle of imports; `Reader` likewise. Reading is `registry.audit.log`.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import structlog
from sqlalchemy import event, insert
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import Session as OrmSession

from registry.audit.chain import Chain, plain
from registry.audit.models import AuditEntry
from registry.core.clock import Clock
from registry.core.db import Session, new_id
from registry.core.errors import GatehouseError

Outcome = Literal["done", "refused", "failed"]

CHANGES = "changes"
FIELDS = (
    "id",
    "org_id",
    "at",
    "subject",
    "user_id",
    "key_id",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "request_id",
    "detail",
)

_WAITING = "gatehouse_audit"


class AuditIsAppendOnly(GatehouseError):
    code = "AUDIT_IS_APPEND_ONLY"
    title = "Audit log is append-only"


class Actor(Protocol):
    """What the log keeps of a principal."""

    @property
    def org_id(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def key_id(self) -> int | None: ...
    @property
    def subject(self) -> str: ...


class Reader(Protocol):
    """What reading the log asks of a principal."""

    @property
    def org_id(self) -> str: ...
    def require(self, permission: str) -> None:
        """Raises `registry.core.errors.Forbidden`."""
        ...


class AuditService:
    """The log.

    Args:
        key: seals the chain's head; without one, whoever can write to the database can make a head.
    """

    def __init__(self, clock: Clock, key: bytes = b"") -> None:
        self._clock = clock
        self.chain = Chain(CHANGES, FIELDS, key, clock)

    async def record(
        self,
        session: Session,
        actor: Actor,
        action: str,
        *,
        target: tuple[str, str] | None = None,
        outcome: Outcome = "done",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Add an entry to the session's transaction; it is stored when that is committed.

        Args:
            actor: who did it; a principal.
            action: noun and verb, like `servers.create`.
            target: type and id of what it was done to.
            detail: further facts; never a secret.
        """
        kind, identity = target or (None, None)
        entry = {
            "id": new_id(),
            "org_id": actor.org_id,
            "at": self._clock.now(),
            "subject": actor.subject,
            "user_id": actor.user_id,
            "key_id": actor.key_id,
            "action": action,
            "target_type": kind,
            "target_id": identity,
            "outcome": outcome,
            # The edge binds it to the logging context of each request.
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "detail": plain(detail or {}),
        }
        session.info.setdefault(_WAITING, []).append((self.chain, entry))
        await session.flush()


def _link(session: OrmSession) -> None:
    """Store the entries of a transaction that is about to be committed.

    Everything else is flushed first: the lock on the chain must be the last that a transaction takes, so that no two
    wait for each other, and is held only while it is committed.
    """
    if session.in_nested_transaction():
        return
    waiting: list[tuple[Chain, dict[str, Any]]] = session.info.pop(_WAITING, [])
    if not waiting:
        return
    session.flush()
    for chain in dict.fromkeys(chain for chain, _ in waiting):
        entries = [entry for owner, entry in waiting if owner is chain]
        links = chain.append(session, [list(entry.values()) for entry in entries])
        names = ("chain_id", "chain_seq", "chain_hash")
        rows = [entry | dict(zip(names, link, strict=True)) for entry, link in zip(entries, links, strict=True)]
        session.execute(insert(AuditEntry), rows)


def _refuse(_mapper: Mapper[AuditEntry], _connection: Connection, entry: AuditEntry) -> None:
    raise AuditIsAppendOnly(f"Audit entry {entry.id} must be neither changed nor removed.")


event.listen(OrmSession, "before_commit", _link)
event.listen(AuditEntry, "before_update", _refuse)
event.listen(AuditEntry, "before_delete", _refuse)
