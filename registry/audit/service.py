"""Writes the audit log: in the transaction of what it tells of, so that there is neither one without the other.

Entries are only ever added. Who acted is whatever has the four attributes of `Actor`, so that identity can record its
own changes without a circle of imports.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import structlog
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper

from registry.audit.models import AuditEntry
from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.errors import GatehouseError

Outcome = Literal["done", "refused", "failed"]


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


class AuditService:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

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
        """Add an entry to the session's transaction.

        Args:
            actor: who did it; a principal.
            action: noun and verb, like `servers.create`.
            target: type and id of what it was done to.
            detail: further facts; never a secret.
        """
        kind, identity = target or (None, None)
        session.add(
            AuditEntry(
                org_id=actor.org_id,
                at=self._clock.now(),
                subject=actor.subject,
                user_id=actor.user_id,
                key_id=actor.key_id,
                action=action,
                target_type=kind,
                target_id=identity,
                outcome=outcome,
                # The edge binds it to the logging context of each request.
                request_id=structlog.contextvars.get_contextvars().get("request_id"),
                detail=detail or {},
            )
        )
        await session.flush()


def _refuse(_mapper: Mapper[AuditEntry], _connection: Connection, entry: AuditEntry) -> None:
    raise AuditIsAppendOnly(f"Audit entry {entry.id} must be neither changed nor removed.")


event.listen(AuditEntry, "before_update", _refuse)
event.listen(AuditEntry, "before_delete", _refuse)
