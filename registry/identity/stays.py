"""The login sessions of a person, as that person sees and ends them; the service of identity opens and checks them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, as_uuid, emit
from registry.core.errors import NotFound
from registry.identity.events import CredentialsChanged
from registry.identity.models import LoginSession
from registry.identity.principal import Principal


class SessionNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Session not found")


class Stays:
    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def list(self, session: Session, principal: Principal) -> Sequence[LoginSession]:
        """One's own sessions that have not ended, newest first."""
        mine = select(LoginSession).where(
            LoginSession.user_id == principal.user_id,
            LoginSession.revoked_at.is_(None),
            LoginSession.expires_at > self._clock.now(),
        )
        return (await session.scalars(mine.order_by(LoginSession.created_at.desc(), LoginSession.id))).all()

    async def end(self, session: Session, principal: Principal, session_id: str) -> LoginSession:
        """End a session of one's own, with all its tokens. Raises `SessionNotFound` for any other."""
        wanted = as_uuid(session_id)
        found = await session.get(LoginSession, wanted) if wanted else None
        if found is None or found.user_id != principal.user_id or found.revoked_at is not None:
            raise SessionNotFound
        found.revoked_at = self._clock.now()
        await self._audit.record(session, principal, "sessions.end", target=("session", found.id))
        emit(session, CredentialsChanged(principal.org_id, found.user_id, None))
        return found
