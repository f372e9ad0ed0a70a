"""Workspaces on a real database, with a runtime in memory that can misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.events import EventBus
from registry.identity.models import User
from registry.workspaces.console import Console
from registry.workspaces.engine import ContainerEngine, Shape
from registry.workspaces.events import WorkspaceWanted
from registry.workspaces.lifecycle import Lifecycle
from registry.workspaces.models import Workspace
from registry.workspaces.programs import Programs
from registry.workspaces.service import Creation, Terms, WorkspaceService
from registry.workspaces.sweep import Sweep
from tests.support.clock import SettableClock
from tests.support.containers import MemoryRuntime
from tests.support.database import database, database_url, events, postgres_template, sqlite_template  # noqa: F401
from tests.support.identity import Person, add_organization, add_user

IDLE_SECONDS = 600
QUOTA = 3


@dataclass
class Yard:
    """Everything that looks after workspaces in one process."""

    database: Database
    clock: SettableClock
    runtime: MemoryRuntime
    refusals: list[str | None] = field(default_factory=list)
    charged: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        audit = AuditService(self.clock)
        self.engine = ContainerEngine(self.runtime, Shape("gw", "workspace", "base"), self.clock)
        terms = Terms(per_user=QUOTA, images=frozenset({"other"}))
        self.service = WorkspaceService(self.clock, audit, self.engine, terms)
        self.console = Console(self.database, self.service, self.engine, audit)
        self.lifecycle = Lifecycle(self.database, self.engine, self.clock, self._charge)
        self.programs = Programs(self.engine, self.clock)
        self.sweep = Sweep(
            self.database,
            self.engine,
            self.lifecycle,
            self.clock,
            idle_seconds=IDLE_SECONDS,
            programs=self.programs,
        )

    async def _charge(self, org_id: str, user_id: str, server_id: str, minutes: float) -> str | None:
        self.charged.append((server_id, minutes))
        return self.refusals.pop(0) if self.refusals else None

    async def create(self, person: Person, name: str, **more: object) -> Workspace:
        async with self.database.transaction() as session:
            return await self.service.create(session, person.principal, Creation(name, **more))  # type: ignore[arg-type]

    async def steer(self, verb: str, person: Person, workspace_id: int) -> Workspace:
        async with self.database.transaction() as session:
            found: Workspace = await getattr(self.service, verb)(session, person.principal, workspace_id)
            return found

    async def see(self, workspace_id: int) -> Workspace:
        async with self.database.reading() as session:
            return await session.get_one(Workspace, workspace_id)

    async def events(self, person: Person, workspace_id: int) -> list[str]:
        """Oldest first."""
        async with self.database.reading() as session:
            found = await self.service.events(session, person.principal, workspace_id)
        return [event.kind for event in reversed(found)]

    async def round(self) -> None:
        """One round of looking after everything, with what follows from it."""
        await self.sweep.tick()
        await self.lifecycle.settled()

    async def deactivate(self, person: Person) -> None:
        async with self.database.transaction() as session:
            (await session.get_one(User, person.user.id)).is_active = False

    def name_of(self, workspace: Workspace) -> str:
        return self.engine.shape.name_of(workspace.id)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def runtime() -> MemoryRuntime:
    return MemoryRuntime()


@pytest.fixture
async def yard(
    database: Database,  # noqa: F811
    events: EventBus,  # noqa: F811
    clock: SettableClock,
    runtime: MemoryRuntime,
) -> AsyncIterator[Yard]:
    made = Yard(database, clock, runtime)
    events.subscribe(WorkspaceWanted, lambda wanted: made.lifecycle.follow(wanted.workspace_id))
    yield made
    await made.lifecycle.stop()
    await made.engine.close()


@pytest.fixture
async def owner(database: Database, clock: SettableClock) -> Person:  # noqa: F811
    org = await add_organization(database, clock, "acme")
    return await add_user(database, clock, org, "owner@acme.test")


@pytest.fixture
async def admin(database: Database, clock: SettableClock, owner: Person) -> Person:  # noqa: F811
    return await add_user(database, clock, owner.principal.org_id, "admin@acme.test", role="admin")


@pytest.fixture
async def colleague(database: Database, clock: SettableClock, owner: Person) -> Person:  # noqa: F811
    return await add_user(database, clock, owner.principal.org_id, "colleague@acme.test")


@pytest.fixture
async def stranger(database: Database, clock: SettableClock) -> Person:  # noqa: F811
    org = await add_organization(database, clock, "other")
    return await add_user(database, clock, org, "admin@other.test", role="admin")
