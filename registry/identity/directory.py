"""The users of an organisation as people see and change them: list, look up, profile, what they may do.

Credentials and roles are `registry.identity.service`, which this stands on; what belongs to a user elsewhere (keys,
workspaces) is put beside it at the edge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.errors import Conflict, Forbidden, Invalid, NotFound
from registry.identity import queries
from registry.identity.models import User
from registry.identity.permissions import OTHERS, role_named
from registry.identity.principal import Principal
from registry.identity.service import IdentityService, permissions_of

NOT_YOURS = "Not authorized to access this resource"
_PROFILE = ("full_name", "email", "avatar_url")
_LINKS = ("nexusgate_user_id", "nexusgate_role")
"""What another system calls them and their role."""
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users to list; `None` filters nothing. `search` looks into email and name, whatever their case."""

    role: str | None = None
    is_active: bool | None = None
    search: str | None = None


class Directory:
    """Operations on users. Every method checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService, identity: IdentityService) -> None:
        self._clock = clock
        self._audit = audit
        self._identity = identity

    async def page(
        self, session: Session, principal: Principal, wanted: UserFilter, *, limit: int, offset: int
    ) -> tuple[list[User], int]:
        """Users that the principal may see (without `users:read`: themselves alone), and how many there are.

        Raises:
            Invalid: an unknown role.
        """
        statement = queries.users(principal)
        if wanted.role is not None:
            statement = statement.where(User.role == role_named(wanted.role))
        if wanted.is_active is not None:
            statement = statement.where(User.is_active.is_(wanted.is_active))
        if wanted.search:
            like = f"%{_literal(wanted.search.lower())}%"
            found = (func.lower(column).like(like, escape="\\") for column in (User.email, User.name))
            statement = statement.where(or_(*found))
        total = await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
        return list(await session.scalars(statement.limit(limit).offset(offset))), total or 0

    async def get(self, session: Session, principal: Principal, user_id: str) -> User:
        """One user.

        Raises:
            NotFound: none in the organisation.
            Forbidden: somebody else, without `users:read`.
        """
        found = await queries.user(session, principal, user_id)
        if found is None:
            if await queries.is_member(session, principal, user_id):
                raise Forbidden(NOT_YOURS)
            raise NotFound("User not found")
        return found

    async def update(self, session: Session, principal: Principal, user_id: str, changes: dict[str, Any]) -> User:
        """Change a user: everybody their own profile, `users:manage` everything of the organisation's users.

        Args:
            changes: of `full_name`, `email`, `avatar_url`, `role`, `is_active`, `nexusgate_user_id`,
                `nexusgate_role`; what is not there stays as it is.

        Raises:
            NotFound, Forbidden, Conflict: as `get` and `IdentityService.change_user`.
            Invalid: an email that is none.
        """
        target = await self.get(session, principal, user_id)
        if target.id == principal.user_id and not permissions_of(target) <= principal.permissions:
            raise Forbidden("A key that may do less than its owner does not change its owner.")
        if target.id != principal.user_id or changes.keys() - set(_PROFILE):
            if not principal.may(OTHERS):
                raise Forbidden(NOT_YOURS)
            if target.is_operator and not principal.operates:
                raise Forbidden("This needs permissions that you do not have yourself.")
        if "role" in changes or "is_active" in changes:
            await self._identity.change_user(
                session, principal, target.id, role=changes.get("role"), is_active=changes.get("is_active")
            )
        profile = {name: value for name, value in changes.items() if name in (*_PROFILE, *_LINKS)}
        if profile:
            await self._apply(session, target, profile)
            await self._audit.record(
                session, principal, "users.update", target=("user", target.id), detail={"fields": sorted(profile)}
            )
        return target

    async def deactivate(self, session: Session, principal: Principal, user_id: str) -> User:
        """Take away a user's access at once, for all their credentials. Raises as `update`."""
        return await self.update(session, principal, user_id, {"is_active": False})

    async def _apply(self, session: Session, target: User, profile: dict[str, Any]) -> None:
        if "email" in profile:
            email = str(profile["email"] or "").strip().lower()
            if not _EMAIL.fullmatch(email):
                raise Invalid("This is no email address.", field="email")
            if email != target.email:
                if await queries.user_by_email(session, email) is not None:
                    raise Conflict("Another user has this email address.")
                target.email, target.email_verified = email, False
        if "full_name" in profile:
            target.name = profile["full_name"] or ""
        if "avatar_url" in profile:
            target.picture = profile["avatar_url"]
        for name in profile.keys() & set(_LINKS):
            setattr(target, name, profile[name])
        target.updated_at = self._clock.now()
        await session.flush()


def username_of(email: str | None) -> str:
    """The name that a person goes by: what stands before the `@` of their address."""
    return (email or "").partition("@")[0]


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
