"""Organisations, users and their keys for tests that need somebody."""

from __future__ import annotations

from dataclasses import dataclass

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.security import Passwords
from registry.identity.models import Organization, User
from registry.identity.principal import Principal
from registry.identity.service import IdentityService, permissions_of
from tests.support.clock import SettableClock

MASTER = bytes(range(32))
PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Person:
    """A stored user, as the principal of an access without narrowing."""

    user: User
    principal: Principal


def make_service(clock: SettableClock) -> IdentityService:
    return IdentityService(clock, AuditService(clock), MASTER)


async def add_organization(database: Database, clock: SettableClock, slug: str) -> str:
    async with database.transaction() as session:
        made = Organization(name=slug.title(), slug=slug, created_at=clock.now(), updated_at=clock.now())
        session.add(made)
        await session.flush()
        return made.id


async def add_user(
    database: Database,
    clock: SettableClock,
    org_id: str,
    email: str,
    *,
    role: str = "user",
    is_operator: bool = False,
    password: str | None = None,
) -> Person:
    user = User(
        org_id=org_id,
        email=email,
        name=email.partition("@")[0],
        role=role,
        is_operator=is_operator,
        password_hash=await Passwords().hash(password) if password else None,
        created_at=clock.now(),
        updated_at=clock.now(),
    )
    async with database.transaction() as session:
        session.add(user)
    return Person(user, Principal(org_id, user.id, role, permissions_of(user), email=email))


async def add_key(database: Database, service: IdentityService, person: Person, **narrowing: object) -> tuple[int, str]:
    """Id and text of a new key of the person."""
    async with database.transaction() as session:
        issued = await service.create_key(session, person.principal, name="test", **narrowing)  # type: ignore[arg-type]
    return issued.record.id, issued.text
