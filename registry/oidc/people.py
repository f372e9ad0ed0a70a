"""Whom the claims of an issuer stand for: the person here, brought in at the first time where that is allowed.

Names of organisations and roles are the issuer's; what they mean here is configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.identity import queries
from registry.identity.events import CredentialsChanged
from registry.identity.models import Organization, User
from registry.identity.permissions import ROLES
from registry.identity.principal import Principal
from registry.oidc.errors import NotAdmitted
from registry.oidc.models import ExternalIdentity

_MAX_EMAIL = 320


@dataclass(frozen=True, slots=True)
class Mapped:
    """What claims mean.

    Args:
        org_claim: holds the slug of the person's organisation; unset, everybody belongs to the oldest one.
        role_claim: holds names, of which `roles` says what they are here; unset, roles are given here.
        default_role: of people whose claim has none of these.
        provision: people who are not known yet are brought in.
    """

    org_claim: str | None = None
    role_claim: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    default_role: str = "user"
    provision: bool = True

    def names(self, claims: Mapping[str, Any]) -> list[str]:
        """Of roles, as the issuer has them."""
        given = claims.get(self.role_claim) if self.role_claim else None
        names = cast("list[Any]", given) if isinstance(given, list) else [given]
        return [name for name in names if isinstance(name, str)]

    def role_of(self, claims: Mapping[str, Any]) -> str:
        """The greatest of the roles that the claims give."""
        roles = {self.roles[name] for name in self.names(claims) if name in self.roles}
        return next((role for role in ROLES if role in roles), self.default_role)


class People:
    def __init__(self, clock: Clock, audit: AuditService, mapped: Mapped) -> None:
        self._clock = clock
        self._audit = audit
        self._mapped = mapped

    async def known(self, session: Session, issuer: str, subject: str) -> User | None:
        statement = (
            select(User)
            .join(ExternalIdentity, ExternalIdentity.user_id == User.id)
            .where(ExternalIdentity.issuer == issuer, ExternalIdentity.subject == subject)
        )
        return await session.scalar(statement)

    async def admit(self, session: Session, issuer: str, claims: Mapping[str, Any]) -> User:
        """The person of these claims, with what the claims say of them by now.

        Raises:
            NotAdmitted: inactive, or not known and not to be brought in.
        """
        user = await self.known(session, issuer, claims["sub"])
        if user is None:
            user = await self._link(session, claims) or await self._bring_in(session, claims)
            identity = ExternalIdentity(
                issuer=issuer, subject=claims["sub"], user_id=user.id, created_at=self._clock.now()
            )
            session.add(identity)
            await self._audit.record(
                session, _as_principal(user), "users.link", target=("user", user.id), detail={"issuer": issuer}
            )
        if not user.is_active:
            raise NotAdmitted("This user is not active.")
        self._update(session, user, claims)
        return user

    async def _link(self, session: Session, claims: Mapping[str, Any]) -> User | None:
        """A user who was here before, by an email that the issuer has verified."""
        email = _email(claims)
        found = await queries.user_by_email(session, email) if email else None
        if found is not None and claims.get("email_verified") is not True:
            raise NotAdmitted("There is a user with this email already, and the provider has not verified it.")
        return found

    async def _bring_in(self, session: Session, claims: Mapping[str, Any]) -> User:
        email = _email(claims)
        if not self._mapped.provision or email is None:
            raise NotAdmitted("You are not known here: ask an administrator to add you.")
        organization = await self._organization(session, claims)
        now = self._clock.now()
        user = User(
            org_id=organization.id,
            email=email,
            role=self._mapped.role_of(claims),
            email_verified=claims.get("email_verified") is True,
            created_at=now,
            updated_at=now,
        )
        session.add(user)
        await session.flush()
        await self._audit.record(
            session, _as_principal(user), "users.create", target=("user", user.id), detail={"role": user.role}
        )
        return user

    async def _organization(self, session: Session, claims: Mapping[str, Any]) -> Organization:
        statement = select(Organization).order_by(Organization.created_at, Organization.id)
        if self._mapped.org_claim is not None:
            slug = claims.get(self._mapped.org_claim)
            statement = statement.where(Organization.slug == (slug if isinstance(slug, str) else ""))
        found = await session.scalar(statement.limit(1))
        if found is None:
            raise NotAdmitted("Your organisation is not known here: ask an administrator to add it.")
        return found

    def _update(self, session: Session, user: User, claims: Mapping[str, Any]) -> None:
        for name, limit in (("name", 200), ("given_name", 200), ("family_name", 200), ("picture", 2000)):
            value = claims.get(name)
            if isinstance(value, str) and value:
                setattr(user, name, value[:limit])
        # What an administrator has linked stays.
        user.nexusgate_user_id = user.nexusgate_user_id or claims["sub"][:200]
        if self._mapped.role_claim is not None:
            user.nexusgate_role = ", ".join(self._mapped.names(claims))[:64] or None
        role = self._mapped.role_of(claims)
        if self._mapped.role_claim is not None and role != user.role and not user.is_operator:
            user.role = role
            emit(session, CredentialsChanged(user.org_id, user.id, None))
        user.updated_at = user.last_synced_at = self._clock.now()


def _email(claims: Mapping[str, Any]) -> str | None:
    email = claims.get("email")
    return email.lower() if isinstance(email, str) and "@" in email and len(email) <= _MAX_EMAIL else None


def _as_principal(user: User) -> Principal:
    return Principal(user.org_id, user.id, user.role, frozenset(), email=user.email)
