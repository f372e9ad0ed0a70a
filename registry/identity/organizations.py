"""Organisations: what they are called and what they allow, with defaults for what nobody has set.

Who belongs to one is `registry.identity.service`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.errors import NotFound
from registry.identity import queries
from registry.identity.models import Organization, User
from registry.identity.principal import Principal

READ = "organizations:read"
MANAGE = "organizations:manage"
ENVIRONMENTS = ("development", "staging", "production")


class Features(BaseModel):
    """Source: `sprintconnect.md`, Organization Model."""

    model_config = ConfigDict(extra="forbid")

    analytics: bool = True
    webhooks: bool = True
    audit_logs: bool = True


class OrganizationSettings(BaseModel):
    """What an organisation allows.

    Args:
        max_servers: registered at once.
        allowed_environments: of servers that are registered or changed from now on.
        features: shown to clients; they hide what is off.
    """

    model_config = ConfigDict(extra="forbid")

    max_servers: int = Field(1000, ge=0, le=1_000_000)
    allowed_environments: list[str] = Field(list(ENVIRONMENTS), max_length=len(ENVIRONMENTS))
    features: Features = Features()


def settings_of(organization: Organization) -> OrganizationSettings:
    """Its settings; what else is stored with them belongs to others."""
    known = OrganizationSettings.model_fields
    return OrganizationSettings(**{name: value for name, value in organization.settings.items() if name in known})


class OrganizationService:
    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def list(self, session: Session, principal: Principal) -> list[Organization]:
        """One's own; all of them for an operator."""
        principal.require(READ)
        return list(await session.scalars(queries.organizations(principal)))

    async def get(self, session: Session, principal: Principal, org_id: str) -> tuple[Organization, list[User]]:
        """An organisation and those of its users that the principal may see."""
        principal.require(READ)
        found = await self._find(session, principal, org_id)
        return found, await queries.members(session, principal, found.id)

    async def update(
        self,
        session: Session,
        principal: Principal,
        org_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Organization:
        """Change what is given.

        Args:
            settings: checked by `OrganizationSettings`; those left out stay as they are.
        """
        principal.require(MANAGE)
        found = await self._find(session, principal, org_id)
        found.name = found.name if name is None else name
        found.description = found.description if description is None else description
        found.settings = {**found.settings, **(settings or {})}
        found.updated_at = self._clock.now()
        await self._audit.record(
            session, principal, "organizations.update", target=("organization", found.id), detail=settings or {}
        )
        return found

    async def _find(self, session: Session, principal: Principal, org_id: str) -> Organization:
        found = await queries.organization(session, principal, org_id)
        if found is None:
            raise NotFound("Organization not found")
        return found
