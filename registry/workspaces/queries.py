"""All SQL of workspaces. What a principal asks starts from `visible`, which is scoped by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Select, func, select, update

from registry.core.db import Session, as_uuid, insert_into
from registry.identity.models import Organization, User
from registry.identity.permissions import OTHERS
from registry.identity.principal import Principal
from registry.servers.models import Server
from registry.usage.models import CallRecord
from registry.workspaces.models import Workspace, WorkspaceEvent, WorkspaceUsage
from registry.workspaces.names import server_id_of

_MAX_ID = 2**31 - 1
_HOUR_US = 3600 * 1_000_000


def visible(principal: Principal) -> Select[Workspace]:
    """One's own workspaces, or those of the organisation; deleted ones too."""
    found = select(Workspace).where(Workspace.org_id == principal.org_id).order_by(Workspace.id)
    return found if principal.may(OTHERS) else found.where(Workspace.user_id == principal.user_id)


async def find(session: Session, principal: Principal, workspace_id: int) -> Workspace | None:
    """A workspace of the organisation that is not deleted, whoever owns it."""
    if not 0 < workspace_id <= _MAX_ID:
        return None
    return await session.scalar(
        select(Workspace).where(
            Workspace.id == workspace_id, Workspace.org_id == principal.org_id, Workspace.deleted_at.is_(None)
        )
    )


async def find_by_name(session: Session, user_id: str, name: str) -> Workspace | None:
    return await session.scalar(
        select(Workspace).where(Workspace.user_id == user_id, Workspace.name == name, Workspace.deleted_at.is_(None))
    )


async def page(
    session: Session, principal: Principal, *, status: str | None, user_id: str | None, limit: int, offset: int
) -> tuple[Sequence[Workspace], int]:
    statement = visible(principal)
    # Deleted ones are shown to whoever asks for them.
    statement = statement.where(Workspace.status == status if status else Workspace.deleted_at.is_(None))
    if user_id is not None:
        statement = statement.where(Workspace.user_id == as_uuid(user_id))
    total = await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    return (await session.scalars(statement.limit(limit).offset(offset))).all(), total or 0


async def owned(session: Session, user_id: str) -> Sequence[Workspace]:
    rows = await session.scalars(
        select(Workspace).where(Workspace.user_id == user_id, Workspace.deleted_at.is_(None)).order_by(Workspace.id)
    )
    return rows.all()


async def lock_owner(session: Session, user_id: str) -> User | None:
    """The user, held so that what is counted of theirs stays true until the end of the transaction."""
    return await session.scalar(select(User).where(User.id == as_uuid(user_id)).with_for_update())


async def slugs_taken(session: Session, org_id: str) -> set[str]:
    """Slugs of the organisation's servers and workspaces, held so that nobody takes one meanwhile."""
    await session.execute(select(Organization.id).where(Organization.id == org_id).with_for_update())
    servers = select(Server.slug).where(Server.org_id == org_id, Server.deleted_at.is_(None))
    return {*await session.scalars(servers), *await workspace_slugs(session, org_id)}


async def workspace_slugs(session: Session, org_id: str) -> set[str]:
    """Slugs of the organisation's workspaces, held like `slugs_taken`."""
    await session.execute(select(Organization.id).where(Organization.id == org_id).with_for_update())
    found = select(Workspace.slug).where(Workspace.org_id == org_id, Workspace.deleted_at.is_(None))
    return set((await session.scalars(found)).all())


async def contained_servers(session: Session) -> set[str]:
    """The servers that run in containers, of all organisations."""
    found = await session.execute(select(Server.id, Server.container).where(Server.deleted_at.is_(None)))
    return {row.id for row in found if row.container}


async def live(session: Session, org_id: str | None = None) -> Sequence[Workspace]:
    """All workspaces that are not deleted, of one organisation or of all."""
    statement = select(Workspace).where(Workspace.deleted_at.is_(None)).order_by(Workspace.id)
    return (await session.scalars(statement if org_id is None else statement.where(Workspace.org_id == org_id))).all()


async def owners_inactive(session: Session) -> set[str]:
    """Inactive users that have workspaces which are to run."""
    found = (
        select(User.id)
        .join(Workspace, Workspace.user_id == User.id)
        .where(User.is_active.is_(False), Workspace.status == "active")
    )
    return set((await session.scalars(found)).all())


async def counts(session: Session) -> tuple[int, int]:
    """How many workspaces there are, and how many of them are to run."""
    total = select(func.count(Workspace.id)).where(Workspace.deleted_at.is_(None))
    return await session.scalar(total) or 0, await session.scalar(total.where(Workspace.status == "active")) or 0


async def events_of(session: Session, workspace_id: int, limit: int) -> Sequence[WorkspaceEvent]:
    """Newest first."""
    found = select(WorkspaceEvent).where(WorkspaceEvent.workspace_id == workspace_id)
    return (await session.scalars(found.order_by(WorkspaceEvent.id.desc()).limit(limit))).all()


async def usage_of(session: Session, workspace_id: int, since: datetime) -> Sequence[WorkspaceUsage]:
    found = select(WorkspaceUsage).where(WorkspaceUsage.workspace_id == workspace_id, WorkspaceUsage.hour >= since)
    return (await session.scalars(found.order_by(WorkspaceUsage.hour))).all()


async def calls_of(session: Session, org_id: str, workspace_id: int, since: datetime) -> dict[datetime, int]:
    """How many calls its tools got, by hours."""
    began = CallRecord.at - CallRecord.at % _HOUR_US
    counted = (
        select(began, func.count())
        .where(
            CallRecord.org_id == org_id,
            CallRecord.server_id == server_id_of(workspace_id),
            CallRecord.at >= int(since.timestamp() * 1_000_000),
        )
        .group_by(began)
    )
    return {datetime.fromtimestamp(at / 1_000_000, UTC): number for at, number in await session.execute(counted)}


async def add_usage(
    session: Session, workspace_id: int, hour: datetime, seconds: float, cpu_seconds: float, byte_seconds: float
) -> None:
    """Add to what a workspace used in an hour."""
    first = insert_into(session, WorkspaceUsage).values(
        workspace_id=workspace_id, hour=hour, seconds=seconds, cpu_seconds=cpu_seconds, memory_byte_seconds=byte_seconds
    )
    table = WorkspaceUsage
    more = {
        "seconds": table.seconds + seconds,
        "cpu_seconds": table.cpu_seconds + cpu_seconds,
        "memory_byte_seconds": table.memory_byte_seconds + byte_seconds,
    }
    await session.execute(first.on_conflict_do_update(index_elements=[table.workspace_id, table.hour], set_=more))


async def touch(session: Session, used: dict[int, datetime]) -> None:
    """Note when workspaces were used last; never earlier than is known."""
    for workspace_id, at in sorted(used.items()):
        await session.execute(
            update(Workspace).where(Workspace.id == workspace_id, Workspace.used_at < at).values(used_at=at)
        )
