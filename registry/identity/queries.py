"""Queries of identity. Those that take a principal are scoped by it at once; nobody else selects these records.

The others find the holder of a credential, before there is a principal.
"""

from __future__ import annotations

import uuid

from sqlalchemy import Select, func, select

from registry.core.db import Session
from registry.identity.models import ApiKey, LoginSession, Organization, User
from registry.identity.principal import Principal

_MAX_INTEGER_ID = 2**31 - 1


def organizations(principal: Principal) -> Select[Organization]:
    """One's own organisation; all of them for an operator."""
    statement = select(Organization).order_by(Organization.created_at, Organization.id)
    return statement if principal.operates else statement.where(Organization.id == principal.org_id)


def users(principal: Principal) -> Select[User]:
    """Users of the organisation, or oneself alone without `users:read`."""
    statement = select(User).where(User.org_id == principal.org_id).order_by(User.created_at, User.id)
    return statement if principal.may("users:read") else statement.where(User.id == principal.user_id)


def api_keys(principal: Principal) -> Select[ApiKey]:
    """One's own keys, or those of the organisation with `users:manage`; revoked ones are gone."""
    statement = select(ApiKey).where(ApiKey.org_id == principal.org_id, ApiKey.revoked_at.is_(None)).order_by(ApiKey.id)
    return statement if principal.may("users:manage") else statement.where(ApiKey.user_id == principal.user_id)


async def organization(session: Session, principal: Principal, org_id: str) -> Organization | None:
    return await session.scalar(organizations(principal).where(Organization.id == as_uuid(org_id)))


async def user(session: Session, principal: Principal, user_id: str) -> User | None:
    return await session.scalar(users(principal).where(User.id == as_uuid(user_id)))


async def is_member(session: Session, principal: Principal, user_id: str) -> bool:
    """Whether the principal's organisation has such a user, visible or not."""
    member = select(User.id).where(User.org_id == principal.org_id, User.id == as_uuid(user_id))
    return await session.scalar(member) is not None


async def has_key(session: Session, principal: Principal, key_id: int) -> bool:
    """Whether the principal's organisation has such a key in force, visible or not."""
    if not 0 < key_id <= _MAX_INTEGER_ID:
        return False
    held = select(ApiKey.id).where(ApiKey.org_id == principal.org_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return await session.scalar(held) is not None


async def api_key(session: Session, principal: Principal, key_id: int) -> ApiKey | None:
    if not 0 < key_id <= _MAX_INTEGER_ID:
        return None
    return await session.scalar(api_keys(principal).where(ApiKey.id == key_id))


async def members(session: Session, principal: Principal, org_id: str) -> list[User]:
    """Users of an organisation that the principal can see, as far as they may."""
    if org_id == principal.org_id:
        return list(await session.scalars(users(principal)))
    if not principal.operates:
        return []
    return list(await session.scalars(select(User).where(User.org_id == org_id).order_by(User.created_at, User.id)))


async def count(session: Session, statement: Select[ApiKey]) -> int:
    return await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery())) or 0


async def other_admins(session: Session, target: User) -> int:
    """Active admins of the user's organisation beside the user."""
    statement = select(func.count(User.id)).where(
        User.org_id == target.org_id, User.role == "admin", User.is_active.is_(True), User.id != target.id
    )
    return await session.scalar(statement) or 0


async def user_by_email(session: Session, email: str) -> User | None:
    return await session.scalar(select(User).where(User.email == email.lower()))


async def key_digest(session: Session, prefix: str) -> tuple[int, str] | None:
    """Id and digest of a key.

    What a guess costs must not tell whether its prefix exists: an aggregate has one row whether there is a key or not.
    """
    found = select(func.max(ApiKey.id), func.max(ApiKey.secret_hash), func.count()).where(ApiKey.prefix == prefix)
    key_id, digest, there = (await session.execute(found)).one()
    return (key_id, digest) if there else None


async def key_and_owner(session: Session, key_id: int) -> tuple[ApiKey, User] | None:
    statement = select(ApiKey, User).join(User, User.id == ApiKey.user_id).where(ApiKey.id == key_id)
    row = (await session.execute(statement)).one_or_none()
    return (row[0], row[1]) if row else None


async def login_and_user(
    session: Session, *, token_hash: str | None = None, login_id: str | None = None
) -> tuple[LoginSession, User] | None:
    """A login session by what its holder shows, or by its id."""
    statement = select(LoginSession, User).join(User, User.id == LoginSession.user_id)
    if token_hash is not None:
        statement = statement.where(LoginSession.token_hash == token_hash)
    else:
        statement = statement.where(LoginSession.id == as_uuid(login_id or ""))
    row = (await session.execute(statement)).one_or_none()
    return (row[0], row[1]) if row else None


def as_uuid(text: str) -> str | None:
    """The id in its usual form, or `None` (which equals no id) for what is no UUID and would be an error in a query."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None
