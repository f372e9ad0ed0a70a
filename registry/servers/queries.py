"""All SQL of servers. Every query starts from `live_servers`, which is scoped by the principal."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete, func, select

from registry.core.db import Session, as_uuid
from registry.identity.principal import Principal
from registry.servers.errors import ServerNotFound
from registry.servers.models import Capability, Server


def live_servers(principal: Principal) -> Select[Server]:
    """Servers that exist for this principal: its organisation's."""
    return select(Server).where(Server.org_id == principal.org_id, Server.deleted_at.is_(None))


async def find(session: Session, principal: Principal, server_id: str) -> Server | None:
    return await session.scalar(live_servers(principal).where(Server.id == as_uuid(server_id)))


async def find_by_slug(session: Session, principal: Principal, slug: str) -> Server | None:
    return await session.scalar(live_servers(principal).where(Server.slug == slug))


async def find_by_name(session: Session, principal: Principal, name: str) -> Server | None:
    return await session.scalar(live_servers(principal).where(Server.name == name))


async def page(
    session: Session,
    principal: Principal,
    *,
    environment: str | None,
    status: str | None,
    health_status: str | None,
    limit: int,
    offset: int,
) -> tuple[Sequence[Server], int]:
    query = live_servers(principal)
    for column, value in (
        (Server.environment, environment),
        (Server.status, status),
        (Server.health_status, health_status),
    ):
        if value is not None:
            query = query.where(column == value)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    rows = await session.scalars(query.order_by(Server.created_at, Server.id).limit(limit).offset(offset))
    return rows.all(), total or 0


async def public_slug_taken(session: Session, slug: str, server_id: str) -> bool:
    """Whether another public server, of any organisation, has this slug."""
    others = select(Server.id).where(
        Server.slug == slug, Server.public.is_(True), Server.deleted_at.is_(None), Server.id != server_id
    )
    return await session.scalar(others.limit(1)) is not None


async def slugs_like(session: Session, principal: Principal, stem: str) -> set[str]:
    rows = await session.scalars(
        live_servers(principal).with_only_columns(Server.slug).where(Server.slug.startswith(stem))
    )
    return set(rows.all())


async def capabilities_of(session: Session, server_id: str) -> Sequence[Capability]:
    rows = await session.scalars(
        select(Capability).where(Capability.server_id == server_id).order_by(Capability.kind, Capability.position)
    )
    return rows.all()


async def by_id_or_slug(session: Session, principal: Principal, name: str) -> Server:
    """Raises `ServerNotFound`."""
    found = await find_by_slug(session, principal, name) or await find(session, principal, name)
    if found is None:
        raise ServerNotFound
    return found


async def drop_capabilities(session: Session, server_id: str) -> None:
    await session.execute(delete(Capability).where(Capability.server_id == server_id))


async def forget(session: Session, server: Server) -> None:
    """What a removed server offered goes. See `registry.servers.cleanup`."""
    await drop_capabilities(session, server.id)


async def whole_catalog(session: Session, org_id: str | None) -> tuple[Sequence[Server], Sequence[Capability]]:
    """All active servers with their capabilities, of one organisation or of all: the data path's source."""
    servers = select(Server).where(Server.deleted_at.is_(None), Server.status == "active")
    if org_id is not None:
        servers = servers.where(Server.org_id == org_id)
    ids = servers.with_only_columns(Server.id)
    capabilities = (
        select(Capability).where(Capability.server_id.in_(ids)).order_by(Capability.server_id, Capability.position)
    )
    return (await session.scalars(servers)).all(), (await session.scalars(capabilities)).all()
