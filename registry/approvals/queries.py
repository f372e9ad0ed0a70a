"""All SQL of approvals. Queries for callers are scoped by the principal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, select, update

from registry.approvals.models import OPEN, Approval, ApprovalRule
from registry.core.db import Session, as_uuid, insert_into
from registry.identity.principal import Principal


async def rules(session: Session, org_id: str | None) -> Sequence[ApprovalRule]:
    wanted = select(ApprovalRule).order_by(ApprovalRule.created_at, ApprovalRule.id)
    if org_id is not None:
        wanted = wanted.where(ApprovalRule.org_id == org_id)
    return (await session.scalars(wanted)).all()


async def find_rule(session: Session, principal: Principal, rule_id: str) -> ApprovalRule | None:
    wanted = select(ApprovalRule).where(ApprovalRule.org_id == principal.org_id, ApprovalRule.id == as_uuid(rule_id))
    return await session.scalar(wanted)


async def find(session: Session, principal: Principal, approval_id: str) -> Approval | None:
    """An approval, locked, for whoever decides it."""
    wanted = select(Approval).where(Approval.org_id == principal.org_id, Approval.id == as_uuid(approval_id))
    return await session.scalar(wanted.with_for_update())


async def page(
    session: Session, principal: Principal, status: str | None, now: datetime, limit: int, offset: int
) -> tuple[Sequence[Approval], int]:
    """Newest first. What waits too long is not waiting."""
    wanted: Select[Approval] = select(Approval).where(Approval.org_id == principal.org_id)
    if status is not None:
        wanted = wanted.where(Approval.status == status)
    if status in ("waiting", "approved"):
        wanted = wanted.where(Approval.expires_at > now)
    total = await session.scalar(select(func.count()).select_from(wanted.subquery()))
    rows = await session.scalars(wanted.order_by(Approval.asked_at.desc(), Approval.id).limit(limit).offset(offset))
    return rows.all(), total or 0


async def expire(session: Session, binding: str, now: datetime) -> None:
    """Close what was open for too long."""
    late = update(Approval).where(Approval.binding == binding, OPEN, Approval.expires_at <= now)
    await session.execute(late.values(status="expired").execution_options(synchronize_session=False))


async def use(session: Session, binding: str, now: datetime) -> str | None:
    """Use an approved call up; its id, if there was one. Of two who try, one succeeds."""
    used = update(Approval).where(Approval.binding == binding, Approval.status == "approved")
    used = used.values(status="used", used_at=now).returning(Approval.id)
    return await session.scalar(used.execution_options(synchronize_session=False))


async def latest(session: Session, binding: str, status: str, now: datetime) -> Approval | None:
    """The newest of a status that still holds."""
    wanted = select(Approval).where(Approval.binding == binding, Approval.status == status, Approval.expires_at > now)
    return await session.scalar(wanted.order_by(Approval.asked_at.desc()).limit(1))


async def open_one(session: Session, fields: dict[str, object]) -> Approval:
    """The open approval of a binding; made of `fields` where there is none."""
    insert = insert_into(session, Approval).values(fields)
    await session.execute(insert.on_conflict_do_nothing(index_elements=["binding"], index_where=OPEN))
    wanted = select(Approval).where(Approval.binding == fields["binding"], OPEN)
    return (await session.scalars(wanted)).one()
