"""All SQL of sets. Every query of a caller starts from `own_sets`, which is scoped by the principal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Select, func, select

from registry.core.db import Session
from registry.identity.principal import Principal
from registry.servers.models import Capability, Server
from registry.servers.queries import live_servers
from registry.sets.models import ToolSet


def own_sets(principal: Principal) -> Select[ToolSet]:
    return select(ToolSet).where(ToolSet.org_id == principal.org_id)


async def find(session: Session, principal: Principal, slug: str) -> ToolSet | None:
    return await session.scalar(own_sets(principal).where(ToolSet.slug == slug))


async def page(session: Session, principal: Principal, *, limit: int, offset: int) -> tuple[Sequence[ToolSet], int]:
    query = own_sets(principal)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    rows = await session.scalars(query.order_by(ToolSet.slug).limit(limit).offset(offset))
    return rows.all(), total or 0


async def public_slug_taken(session: Session, slug: str, set_id: str) -> bool:
    """Whether another public set, of any organisation, has this slug."""
    others = select(ToolSet.id).where(ToolSet.slug == slug, ToolSet.public.is_(True), ToolSet.id != set_id)
    return await session.scalar(others.limit(1)) is not None


async def all_sets(session: Session, org_id: str | None) -> Sequence[ToolSet]:
    """The sets of one organisation or of all: the data path's source."""
    query = select(ToolSet).order_by(ToolSet.org_id, ToolSet.slug)
    if org_id is not None:
        query = query.where(ToolSet.org_id == org_id)
    return (await session.scalars(query)).all()


async def offers(
    session: Session, principal: Principal, slugs: Collection[str]
) -> tuple[Sequence[Server], Sequence[Capability]]:
    """The active servers of these slugs, with what they offer in their own order."""
    servers = live_servers(principal).where(Server.slug.in_(slugs), Server.status == "active")
    ids = servers.with_only_columns(Server.id)
    capabilities = (
        select(Capability).where(Capability.server_id.in_(ids)).order_by(Capability.server_id, Capability.position)
    )
    return (await session.scalars(servers)).all(), (await session.scalars(capabilities)).all()
