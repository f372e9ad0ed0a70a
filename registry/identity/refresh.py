"""Refresh tokens: each is exchanged once, for the next of its family. What a family stands for, its owner knows.

A token that comes a second time was copied by somebody, and nobody can tell which of the two is honest: the owner of
the family (a login session, an OAuth grant) ends it whole (RFC 9700 section 4.14).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.security import Digester
from registry.identity.models import RefreshToken

REFRESH_MARK = "grt_"
"""How refresh tokens begin. They are no credential: no door opens to one."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A refresh token that was shown.

    Args:
        reused: it had been exchanged before.
        fresh: it is to be exchanged now; neither is true of one that has expired.
    """

    family_id: str
    reused: bool
    fresh: bool


class RefreshTokens:
    """Issues and exchanges tokens; stores digests only."""

    def __init__(self, clock: Clock, master: bytes) -> None:
        self._clock = clock
        self._digests = Digester(master, "refresh-tokens")

    async def issue(self, session: Session, family_id: str, expires_at: datetime) -> str:
        """The next token of a family."""
        token = f"{REFRESH_MARK}{secrets.token_urlsafe(32)}"
        session.add(
            RefreshToken(
                family_id=family_id,
                token_hash=self._digests.digest(token),
                created_at=self._clock.now(),
                expires_at=expires_at,
            )
        )
        return token

    async def spend(self, session: Session, token: str) -> Spent | None:
        """Use a token up; `None` if there is no such token. Of several that try at once, one finds it fresh."""
        found = await self._find(session, token)
        if found is None:
            return None
        now = self._clock.now()
        if found.spent_at is None and found.expires_at <= now:
            return Spent(found.family_id, reused=False, fresh=False)
        claim = (
            update(RefreshToken)
            .where(RefreshToken.id == found.id, RefreshToken.spent_at.is_(None))
            .values(spent_at=now)
            .returning(RefreshToken.id)
        )
        won = (await session.execute(claim)).scalar_one_or_none() is not None
        return Spent(found.family_id, reused=not won, fresh=won)

    async def family_of(self, session: Session, token: str) -> str | None:
        """The family of a token that could be exchanged now."""
        found = await self._find(session, token)
        if found is None or found.spent_at is not None or found.expires_at <= self._clock.now():
            return None
        return found.family_id

    async def _find(self, session: Session, token: str) -> RefreshToken | None:
        digest = self._digests.digest(token)
        return await session.scalar(select(RefreshToken).where(RefreshToken.token_hash == digest))
