"""What an organisation's settings allow of its servers: how many, and for which environments."""

from __future__ import annotations

from sqlalchemy import func, select

from registry.core.db import Session
from registry.identity.models import Organization
from registry.identity.organizations import OrganizationSettings, settings_of
from registry.servers.errors import EnvironmentNotAllowed, TooManyServers
from registry.servers.models import Server


async def check_environment(session: Session, org_id: str, environment: str) -> None:
    """Raises `EnvironmentNotAllowed`."""
    allowed = (await _settings(session, org_id)).allowed_environments
    if environment not in allowed:
        raise EnvironmentNotAllowed(environment, allowed)


async def check_room(session: Session, org_id: str) -> None:
    """Raises `TooManyServers` if there is no room for another one."""
    most = (await _settings(session, org_id)).max_servers
    live = select(func.count()).select_from(Server).where(Server.org_id == org_id, Server.deleted_at.is_(None))
    if (await session.scalar(live) or 0) >= most:
        raise TooManyServers(most)


async def _settings(session: Session, org_id: str) -> OrganizationSettings:
    return settings_of(await session.get_one(Organization, org_id))
