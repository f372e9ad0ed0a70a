"""Writes incidents down: each in a transaction of its own, before whoever caused it is answered."""

from __future__ import annotations

from registry.audit.service import AuditService
from registry.core.db import Database, emit
from registry.identity.principal import Principal
from registry.incidents.events import SecretStopped


class IncidentService:
    def __init__(self, database: Database, audit: AuditService) -> None:
        self._database = database
        self._audit = audit

    async def secret_stopped(self, principal: Principal, tool: str, server_id: str, owner_id: str) -> None:
        """A call to `server_id` had a stored secret of `owner_id` in its arguments."""
        async with self._database.transaction() as session:
            await self._audit.record(
                session,
                principal,
                "secrets.stop",
                target=("server", server_id),
                outcome="refused",
                detail={"tool": tool, "owner": owner_id},
            )
            emit(session, SecretStopped(principal.org_id, principal.subject, tool, server_id, owner_id))
