"""A façade with two organisations and an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.core.db import Database
from registry.core.events import EventBus
from tests.gateway.api.support import Facade
from tests.support.clock import SettableClock
from tests.support.database import database, database_url, events, postgres_template, sqlite_template  # noqa: F401
from tests.support.identity import PASSWORD, Person, add_organization, add_user


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def facade(
    database: Database,  # noqa: F811
    events: EventBus,  # noqa: F811
    clock: SettableClock,
    tmp_path: Path,
) -> AsyncIterator[Facade]:
    made = Facade(database, events, clock, tmp_path)
    yield made
    await made.authenticator.close()


@pytest.fixture
async def admin(facade: Facade) -> Person:
    org = await add_organization(facade.database, facade.clock, "acme")
    return await add_user(facade.database, facade.clock, org, "admin@acme.test", role="admin", password=PASSWORD)


@pytest.fixture
async def member(facade: Facade, admin: Person) -> Person:
    return await add_user(facade.database, facade.clock, admin.principal.org_id, "member@acme.test")


@pytest.fixture
async def stranger(facade: Facade) -> Person:
    org = await add_organization(facade.database, facade.clock, "other")
    return await add_user(facade.database, facade.clock, org, "admin@other.test", role="admin")
