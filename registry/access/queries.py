"""All SQL of access rules. Queries for callers are scoped by the principal."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from registry.access.models import AccessRuleRecord
from registry.core.db import Session, as_uuid
from registry.identity.models import ApiKey, Organization, User
from registry.identity.principal import Principal
from registry.sets.models import ToolSet


async def rules(session: Session, org_id: str | None) -> Sequence[AccessRuleRecord]:
    """The rules of one organisation or of all, each organisation's in order."""
    wanted = select(AccessRuleRecord).order_by(AccessRuleRecord.org_id, AccessRuleRecord.place)
    if org_id is not None:
        wanted = wanted.where(AccessRuleRecord.org_id == org_id)
    return (await session.scalars(wanted)).all()


async def find(session: Session, principal: Principal, rule_id: str) -> AccessRuleRecord | None:
    wanted = select(AccessRuleRecord).where(
        AccessRuleRecord.org_id == principal.org_id, AccessRuleRecord.id == as_uuid(rule_id)
    )
    return await session.scalar(wanted)


async def lock_order(session: Session, principal: Principal) -> None:
    """Hold the organisation's order until the transaction ends: two who add at once come one after the other."""
    # The organisation's own row: other tables refer to it without changing it.
    wanted = select(Organization.id).where(Organization.id == principal.org_id)
    await session.execute(wanted.with_for_update(key_share=True))


async def user_exists(session: Session, principal: Principal, user_id: str) -> bool:
    wanted = select(User.id).where(User.org_id == principal.org_id, User.id == as_uuid(user_id))
    return await session.scalar(wanted) is not None


async def key_exists(session: Session, principal: Principal, key_id: int) -> bool:
    wanted = select(ApiKey.id).where(ApiKey.org_id == principal.org_id, ApiKey.id == key_id)
    return await session.scalar(wanted) is not None


async def set_exists(session: Session, principal: Principal, slug: str) -> bool:
    wanted = select(ToolSet.id).where(ToolSet.org_id == principal.org_id, ToolSet.slug == slug)
    return await session.scalar(wanted) is not None
