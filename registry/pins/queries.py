"""All SQL of pins."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from registry.core.db import Session, as_uuid
from registry.pins.models import Pin
from registry.servers.models import Capability, Server


async def pins_of(session: Session, server_id: str) -> Sequence[Pin]:
    rows = await session.scalars(select(Pin).where(Pin.server_id == server_id).order_by(Pin.kind, Pin.name))
    return rows.all()


async def forget(session: Session, server: Server) -> None:
    """A removed server's pins go. See `registry.servers.cleanup`."""
    await session.execute(delete(Pin).where(Pin.server_id == server.id))


async def find(session: Session, server_id: str, pin_id: str) -> Pin | None:
    wanted = select(Pin).where(Pin.server_id == server_id, Pin.id == as_uuid(pin_id))
    return await session.scalar(wanted.with_for_update())


async def held(session: Session, org_id: str | None) -> Sequence[tuple[Pin, Server]]:
    """Pins with something held, of servers that are there; of one organisation or of all."""
    wanted = (
        select(Pin, Server)
        .join(Server, Server.id == Pin.server_id)
        .where(Pin.held_digest.is_not(None), Server.deleted_at.is_(None))
    )
    if org_id is not None:
        wanted = wanted.where(Server.org_id == org_id)
    return [(pin, server) for pin, server in (await session.execute(wanted)).all()]


async def tools_of_others(session: Session, org_id: str, server_id: str) -> Sequence[tuple[str, str]]:
    """Slug and name of every tool of the organisation's other servers."""
    wanted = (
        select(Server.slug, Capability.name)
        .join(Capability, Capability.server_id == Server.id)
        .where(Server.org_id == org_id, Server.id != server_id, Server.deleted_at.is_(None), Capability.kind == "tool")
        .order_by(Server.slug, Capability.position)
    )
    return [(slug, name) for slug, name in (await session.execute(wanted)).all()]


async def capability(session: Session, server_id: str, kind: str, name: str) -> Capability | None:
    wanted = select(Capability).where(
        Capability.server_id == server_id, Capability.kind == kind, Capability.name == name
    )
    return await session.scalar(wanted)
