"""Makes containers be what is wanted of their workspaces, and keeps them so.

What is wanted is in the database; what is, the engine says. `Lifecycle` follows every change that this process makes
(`WorkspaceWanted`), wakes a sleeping workspace for a call (`wake`), and connects to it. All steps may be repeated and
may meet those of another process: names are unique in the engine, and every step looks before it acts. What nobody
told it of is found by `registry.workspaces.sweep`, in one process at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.errors import GatehouseError
from registry.identity.models import User
from registry.workspaces.engine import ContainerEngine, missing
from registry.workspaces.errors import WorkspaceNotRunning
from registry.workspaces.models import Workspace, WorkspaceEvent
from registry.workspaces.names import server_id_of
from workspace_runtime.runtime import (
    Container,
    ContainerMissing,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    NotRunning,
    State,
    WorkspaceRuntimeError,
)

log = structlog.get_logger(__name__)

P = TypeVar("P", bound=asyncio.Protocol)

WAKE_SECONDS = 30.0
"""How long a call waits for its workspace to start."""
AT_ONCE = 6
"""Containers that one process starts or stops at the same time; the others of a burst wait their turn."""
FIRST_RETRY = timedelta(seconds=5)
LAST_RETRY = timedelta(minutes=5)
STARTING_MINUTES = 1 / 60
"""Booked when a container is started, so that a budget that is used up keeps it asleep."""

Charge = Callable[[str, str, str, float], Awaitable[str | None]]
"""Book container minutes: organisation, user, server id, minutes. Gives why there are no more, or `None`."""


class Lifecycle:
    """What this process does for workspaces."""

    def __init__(self, database: Database, engine: ContainerEngine, clock: Clock, charge: Charge) -> None:
        self._database = database
        self.charge = charge
        self._engine = engine
        self._clock = clock
        self._locks: dict[int, asyncio.Lock] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._awake: dict[int, str] = {}
        """Containers that ran when this process last looked. A stale one is found out by connecting."""
        self._calls: dict[int, int] = {}
        self._used: dict[int, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waking: dict[int, asyncio.Task[None]] = {}

    # -- following what is wanted

    def follow(self, workspace_id: int) -> None:
        """Bring the container to what is wanted now, in the background; what is wanted later is followed later."""
        task = asyncio.create_task(self._follow(workspace_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def follow_once(self, workspace_id: int) -> None:
        """The same, unless it is being done already."""
        lock = self._locks.get(workspace_id)
        if workspace_id not in self._waking and not (lock is not None and lock.locked()):
            self.follow(workspace_id)

    async def settled(self) -> None:
        """Return when everything that was to be followed has been."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Follow no more. Containers run on, and are found again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, workspace_id: int) -> None:
        try:
            await self.reconcile(workspace_id)
        except (WorkspaceRuntimeError, GatehouseError) as error:
            # What can be told is in its record by now; the sweep comes back to it.
            log.warning("a workspace is not as it should be yet", workspace=workspace_id, why=error.message)
        except Exception:
            log.exception("following a workspace failed", workspace=workspace_id)

    async def reconcile(self, workspace_id: int) -> None:
        """Look at what is wanted and what is, and do what is missing.

        Raises:
            WorkspaceRuntimeError: what the engine could not do; it is in the workspace's record, except
                `EngineUnavailable`, which says nothing about the workspace.
        """
        async with self._locks.setdefault(workspace_id, asyncio.Lock()), self._turns:
            workspace, wanted = await self._wanted(workspace_id)
            if workspace is None:
                return
            found = await self._inspect(self._engine.shape.name_of(workspace_id))
            if workspace.deleted_at is not None:
                await self._discard(workspace, found)
            elif wanted:
                await self._run(workspace, found)
            else:
                await self._rest(workspace, found)

    async def _wanted(self, workspace_id: int) -> tuple[Workspace | None, bool]:
        """The record, and whether it is to run."""
        async with self._database.reading() as session:
            workspace = await session.get(Workspace, workspace_id)
            if workspace is None or workspace.status != "active":
                return workspace, False
            owner = await session.get(User, workspace.user_id)
            return workspace, owner is not None and owner.is_active

    async def _inspect(self, name: str) -> Container | None:
        try:
            return await self._engine.runtime.inspect(name)
        except ContainerMissing:
            return None

    async def _discard(self, workspace: Workspace, found: Container | None) -> None:
        self._awake.pop(workspace.id, None)
        if found is not None:
            await self._engine.runtime.remove(found.id)
        if workspace.container_status not in ("stopped", "removed"):
            await self._note(workspace.id, container_status="stopped", container_id=None, problem=None)

    async def _rest(self, workspace: Workspace, found: Container | None) -> None:
        self._awake.pop(workspace.id, None)
        if found is not None and found.state in (State.RUNNING, State.PAUSED):
            await self._engine.runtime.stop(found.id)
            await self._note(workspace.id, ("stopped", "the container was stopped"), container_status="stopped")
        elif workspace.container_status != "stopped":
            await self._note(workspace.id, container_status="stopped")

    async def _run(self, workspace: Workspace, found: Container | None) -> None:
        runtime = self._engine.runtime
        if found is None or found.state is not State.RUNNING:
            await self._afford(workspace)
        try:
            if found is None:
                found = await self._make(workspace)
            elif found.state is State.DEAD:
                await runtime.remove(found.id)
                found = await self._make(workspace)
            elif found.state in (State.RUNNING, State.PAUSED) and workspace.container_status == "restarting":
                await runtime.stop(found.id)
                found = await runtime.inspect(found.id)
            fresh = found.state is not State.RUNNING
            if fresh and found.state is State.EXITED and workspace.container_status == "running":
                await self._note(workspace.id, ("exited", _how_it_ended(found)))
            started = await runtime.start(found.id)
        except EngineUnavailable:
            raise
        except WorkspaceRuntimeError as error:
            self._awake.pop(workspace.id, None)
            await self._failed(workspace, error)
            raise
        self._awake[workspace.id] = started.id
        if fresh or workspace.container_status != "running" or workspace.container_id != started.id:
            await self._running(workspace, started, fresh=fresh)

    async def _afford(self, workspace: Workspace) -> None:
        """Raises `WorkspaceNotRunning` where a budget of minutes is used up; it sleeps then."""
        refusal = await self.charge(workspace.org_id, workspace.user_id, server_id_of(workspace.id), STARTING_MINUTES)
        if refusal is not None:
            await self.sleep(workspace.id, refusal)
            await self._note(workspace.id, container_status="stopped")
            raise WorkspaceNotRunning(refusal)

    async def sleep(self, workspace_id: int, why: str) -> None:
        """Note that it is to sleep until it is called or started; following that is the caller's."""
        async with self._database.transaction() as session:
            workspace = await session.get_one(Workspace, workspace_id, with_for_update=True)
            if workspace.status == "active":
                workspace.status, workspace.problem = "inactive", why
                session.add(_event(workspace_id, self._clock.now(), "sleep", why))

    async def _make(self, workspace: Workspace) -> Container:
        runtime, spec = self._engine.runtime, self._engine.shape.spec_of(workspace)
        try:
            return await runtime.create(spec)
        except NameTaken:
            return await runtime.inspect(spec.name)
        except ImageMissing:
            if workspace.image is not None:
                raise
            await self._note(workspace.id, problem="The image is being built, which takes a few minutes once.")
            await self._engine.build()
            return await runtime.create(spec)

    async def _running(self, workspace: Workspace, started: Container, *, fresh: bool) -> None:
        message = "the container was started" if fresh else "the running container was adopted"
        await self._note(
            workspace.id,
            ("started" if fresh else "adopted", message),
            container_status="running",
            container_id=started.id,
            started_at=started.started_at,
            problem=None,
            failures=0,
            retry_at=None,
        )

    async def _failed(self, workspace: Workspace, error: WorkspaceRuntimeError) -> None:
        pause = min(LAST_RETRY, FIRST_RETRY * 2 ** min(workspace.failures, 10))
        await self._note(
            workspace.id,
            ("failed", error.message),
            container_status="failed",
            problem=error.message,
            failures=workspace.failures + 1,
            retry_at=self._clock.now() + pause,
        )

    # -- for calls

    async def connect(self, workspace_id: int, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A byte stream to the workspace's MCP server; a sleeping one is woken first.

        Raises:
            WorkspaceNotRunning: it cannot be had within `WAKE_SECONDS`; the message says why.
            EngineMissing: no engine answers.
        """
        try:
            known = self._awake.get(workspace_id)
            if known is not None:
                try:
                    return await self._engine.runtime.connect(known, factory)
                except (NotRunning, ContainerMissing):
                    self._awake.pop(workspace_id, None)
            await self.wake(workspace_id)
            container = self._awake.get(workspace_id)
            if container is None:
                raise WorkspaceNotRunning("The workspace was stopped just now: call again to wake it.")
            return await self._engine.runtime.connect(container, factory)
        except EngineUnavailable as error:
            raise missing(error) from None
        except WorkspaceRuntimeError as error:
            raise WorkspaceNotRunning(f"The workspace does not run: {error.message}") from None

    async def wake(self, workspace_id: int) -> None:
        """Let it run, and wait until it does. Raises as `connect`."""
        await self._mark_wanted(workspace_id)
        waking = self._waking.get(workspace_id)
        if waking is None:
            # One start serves all calls that wait for it, and goes on when they give up.
            waking = self._waking[workspace_id] = asyncio.create_task(self.reconcile(workspace_id))
            self._tasks.add(waking)
            waking.add_done_callback(lambda done: self._woken(workspace_id, done))
        try:
            async with asyncio.timeout(WAKE_SECONDS):
                await asyncio.shield(waking)
        except TimeoutError:
            async with self._database.reading() as session:
                workspace = await session.get(Workspace, workspace_id)
            why = workspace.problem if workspace is not None and workspace.problem else "It is still starting."
            late = f"The workspace did not start in {WAKE_SECONDS:.0f} s."
            raise WorkspaceNotRunning(f"{late} {why} Try again.") from None

    def _woken(self, workspace_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._waking.pop(workspace_id, None)
        if not task.cancelled():
            task.exception()

    async def _mark_wanted(self, workspace_id: int) -> None:
        """A call wakes what sleeps, unless it was deleted or its owner may use nothing any more."""
        async with self._database.transaction() as session:
            # Of several calls one wakes it: one that found it asleep must not say so when it has been woken.
            workspace = await session.get(Workspace, workspace_id, with_for_update=True)
            owner = await session.get(User, workspace.user_id) if workspace is not None else None
            if workspace is None or owner is None or workspace.deleted_at is not None:
                raise WorkspaceNotRunning("There is no such workspace any more.")
            if not owner.is_active:
                raise WorkspaceNotRunning("The owner of this workspace is deactivated: it stays stopped.")
            workspace.used_at = self._clock.now()
            if workspace.status != "active":
                workspace.status, workspace.container_status = "active", "starting"
                session.add(_event(workspace_id, self._clock.now(), "woken", "a call woke it"))

    def begin(self, workspace_id: int) -> None:
        """A call sets out: a workspace with calls under way is not idle. Each is ended by `end`."""
        self._calls[workspace_id] = self._calls.get(workspace_id, 0) + 1

    def end(self, workspace_id: int) -> None:
        left = self._calls.pop(workspace_id) - 1
        if left:
            self._calls[workspace_id] = left
        self._used[workspace_id] = self._clock.now()

    def taken_uses(self) -> dict[int, datetime]:
        """When workspaces were used since this was last asked; those with calls under way are used now."""
        used, self._used = self._used, {}
        return used | dict.fromkeys(self._calls, self._clock.now())

    # -- records

    async def _note(self, workspace_id: int, happened: tuple[str, str] | None = None, **fields: Any) -> None:
        """Write down what was seen, and what happened: its kind, and a sentence."""
        async with self._database.transaction() as session:
            workspace = await session.get_one(Workspace, workspace_id)
            for name, value in fields.items():
                setattr(workspace, name, value)
            if happened is not None:
                session.add(_event(workspace_id, self._clock.now(), *happened))


def _event(workspace_id: int, at: datetime, kind: str, message: str) -> WorkspaceEvent:
    return WorkspaceEvent(workspace_id=workspace_id, at=at, kind=kind, message=message)


def _how_it_ended(container: Container) -> str:
    if container.out_of_memory:
        return "the container ran out of memory and was ended"
    return f"the container ended with code {container.exit_code}"
