"""Looks at all workspaces and all containers again and again, and finds what nobody told of.

A container that ended by itself, an engine that was restarted, a gateway that was: whatever differs from what is wanted
is given to `Lifecycle`. Workspaces that nobody uses are put to sleep, containers without a workspace are removed, and
what each workspace uses is written down. Every process passes on when workspaces were used; the rest is done by one at
a time, which holds the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.errors import GatehouseError
from registry.core.leases import Lease
from registry.workspaces import queries
from registry.workspaces.engine import ContainerEngine
from registry.workspaces.lifecycle import Lifecycle
from registry.workspaces.models import Workspace
from registry.workspaces.names import server_id_of
from registry.workspaces.programs import Programs, server_of
from workspace_runtime.keeper import Finding, Keeper
from workspace_runtime.runtime import (
    GATEWAY_LABEL,
    Container,
    EngineUnavailable,
    State,
    Stats,
    WorkspaceRuntimeError,
)

log = structlog.get_logger(__name__)

TICK_SECONDS = 3.0
TOUCH_SECONDS = 15.0
METER_SECONDS = 30.0
LEASE_SECONDS = 5.0
"""Short, as the containers of a process that died have neither a way out nor an eye on them meanwhile."""
RENEW_SECONDS = 1.5
ASK_SECONDS = 2.0
"""How often the others ask whether the lease is free."""
KEEP_DELETED = timedelta(days=7)
"""How long the files of a deleted workspace are kept."""


@dataclass(slots=True)
class _Metered:
    """When a container was last measured, and the processor time that it had used by then."""

    container: str
    at: float
    cpu_seconds: float


class Sweep:
    """The rounds of one process.

    Args:
        idle_seconds: after so long without a call a workspace is put to sleep; 0: never.
        keeper: looks after the containers that run.
        programs: those of stdio servers.
    """

    def __init__(
        self,
        database: Database,
        engine: ContainerEngine,
        lifecycle: Lifecycle,
        clock: Clock,
        *,
        idle_seconds: int,
        keeper: Keeper | None = None,
        programs: Programs | None = None,
    ) -> None:
        self._programs = programs
        self._database = database
        self._engine = engine
        self._lifecycle = lifecycle
        self._clock = clock
        self._keeper = keeper
        self._idle = timedelta(seconds=idle_seconds)
        self._lease = Lease(database, clock, "workspaces.sweep", LEASE_SECONDS)
        self._holds = False
        self._metered: dict[int, _Metered] = {}
        self._touched_at = self._metered_at = clock.monotonic()
        self._blind = False
        self._hurry = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._renew())]

    async def stop(self) -> None:
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._keeper is not None:
            await self._keeper.close()
        try:
            await self._touch()
            await self._lease.release()
        except GatehouseError:
            log.warning("the sweep of workspaces pauses until its lease has run out", exc_info=True)

    def hurry(self) -> None:
        """Look at once: somebody's access has changed."""
        self._hurry.set()

    async def adopt(self) -> None:
        """Compare everything once, whoever holds the lease: a gateway that was killed left it behind for a while."""
        containers = _by_workspace(await self._all())
        for workspace in (await self._live()).values():
            self._compare(workspace, containers.get(workspace.id))

    async def _run(self) -> None:
        look = self.adopt
        while True:
            self._hurry.clear()
            try:
                await look()
                look = self.tick
                self._blind = False
            except EngineUnavailable as error:
                if not self._blind and await self._any():
                    log.warning("workspaces cannot be looked after until the engine is back", why=error.message)
                self._blind = True
            except Exception:
                log.warning("workspaces could not be looked after, trying later", exc_info=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS if self._holds else ASK_SECONDS):
                    await self._hurry.wait()

    async def _renew(self) -> None:
        """Keep the lease while a round lasts: an engine that is busy takes longer than the lease does."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            if self._holds:
                with suppress(GatehouseError, SQLAlchemyError):
                    self._holds = await self._lease.hold()

    async def tick(self) -> None:
        """One round. Raises `EngineUnavailable`."""
        now = self._clock.monotonic()
        if now - self._touched_at >= TOUCH_SECONDS:
            self._touched_at = now
            await self._touch()
        self._holds = await self._lease.hold()
        if not self._holds:
            self._metered.clear()
            if self._keeper is not None:
                await self._keeper.close()
            return
        everything = await self._all()
        containers = _by_workspace(everything)
        workspaces = await self._live()
        for workspace in workspaces.values():
            container = containers.get(workspace.id)
            self._compare(workspace, container)
            self._keep(container)
        await self._reap(containers, workspaces)
        await self._look_at_programs([container for container in everything if server_of(container) is not None])
        if now - self._metered_at >= METER_SECONDS:
            self._metered_at = now
            await self._meter(containers, workspaces)
            await self._purge()

    async def _any(self) -> bool:
        """An engine is missed only by workspaces."""
        async with self._database.reading() as session:
            return (await queries.counts(session))[0] > 0

    async def _touch(self) -> None:
        used = self._lifecycle.taken_uses()
        if used:
            async with self._database.transaction() as session:
                await queries.touch(session, used)

    def _keep(self, container: Container | None) -> None:
        if self._keeper is not None and container is not None and container.state is State.RUNNING:
            self._keeper.keep(container)

    async def _look_at_programs(self, containers: list[Container]) -> None:
        if not containers or self._programs is None:
            return
        async with self._database.reading() as session:
            servers = await queries.contained_servers(session)
        for container in containers:
            self._keep(container)
        await self._programs.reap(containers, servers)

    async def _all(self) -> list[Container]:
        """Ours. Read before the workspaces, so that each had one when its container was made."""
        return await self._engine.runtime.list({GATEWAY_LABEL: self._engine.shape.gateway})

    async def _live(self) -> dict[int, Workspace]:
        """The workspaces that are not deleted, with those put to sleep that nobody uses or may use."""
        async with self._database.reading() as session:
            rows = await queries.live(session)
            inactive = await queries.owners_inactive(session)
        now = self._clock.now()
        for row in rows:
            why = None
            if row.status == "active" and row.user_id in inactive:
                why = "its owner was deactivated"
            elif self._idle and row.container_status == "running" and now - row.used_at >= self._idle:
                why = f"nobody called it for {self._idle.total_seconds():.0f} s"
            if why is not None and row.status == "active":
                await self._lifecycle.sleep(row.id, why)
                row.status = "inactive"
        return {row.id: row for row in rows}

    def _compare(self, workspace: Workspace, container: Container | None) -> None:
        runs = container if container is not None and container.state in (State.RUNNING, State.PAUSED) else None
        if workspace.status == "active":
            due = workspace.retry_at is None or workspace.retry_at <= self._clock.now()
            noted = workspace.container_id if workspace.container_status == "running" else None
            same = runs is not None and runs.id == noted
            if not same and due:
                self._lifecycle.follow_once(workspace.id)
        elif runs is not None or workspace.container_status != "stopped":
            self._lifecycle.follow_once(workspace.id)

    async def _reap(self, containers: Mapping[int, Container], workspaces: Mapping[int, Workspace]) -> None:
        for workspace_id in containers.keys() - workspaces.keys():
            container = containers[workspace_id]
            log.info("removing a container without a workspace", container=container.name)
            try:
                await self._engine.runtime.remove(container.id)
            except EngineUnavailable:
                raise
            except WorkspaceRuntimeError as error:
                log.warning("a container could not be removed", container=container.name, why=error.message)

    async def found(self, finding: Finding) -> None:
        """A container was stopped for what it did. One that is full sleeps until somebody makes room, or calls it."""
        if not finding.container.workspace.isdigit():
            # Of a stdio server, whose next call starts it again: its files are what it left there.
            log.warning("the container of a server was stopped", container=finding.container.name, why=finding.message)
            return
        workspace_id = int(finding.container.workspace)
        log.warning("a workspace was stopped", workspace=workspace_id, why=finding.message)
        await self._lifecycle.sleep(workspace_id, f"It was stopped: {finding.message}.")
        self._lifecycle.follow_once(workspace_id)

    # -- what they use

    async def _meter(self, containers: Mapping[int, Container], workspaces: Mapping[int, Workspace]) -> None:
        running = {
            workspace_id: container
            for workspace_id, container in containers.items()
            if container.state is State.RUNNING and workspace_id in workspaces
        }
        for workspace_id in self._metered.keys() - running.keys():
            del self._metered[workspace_id]
        stats = await asyncio.gather(*(self._stats(container) for container in running.values()))
        for (workspace_id, container), measured in zip(running.items(), stats, strict=True):
            if measured is not None:
                await self._book(workspaces[workspace_id], container, measured)

    async def _stats(self, container: Container) -> Stats | None:
        try:
            return await self._engine.runtime.stats(container.id)
        except WorkspaceRuntimeError:
            return None

    async def _book(self, workspace: Workspace, container: Container, measured: Stats) -> None:
        now = self._clock.monotonic()
        before = self._metered.get(workspace.id)
        self._metered[workspace.id] = _Metered(container.id, now, measured.cpu_seconds)
        if before is not None and before.container == container.id:
            seconds, cpu = now - before.at, measured.cpu_seconds - before.cpu_seconds
        else:
            seconds = self._age(container)
            cpu = measured.cpu_seconds
        if seconds <= 0:
            return
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        # A container that was restarted counts from nothing again.
        cpu = cpu if cpu >= 0 else measured.cpu_seconds
        async with self._database.transaction() as session:
            await queries.add_usage(session, workspace.id, hour, seconds, cpu, measured.memory_bytes * seconds)
        server_id = server_id_of(workspace.id)
        refusal = await self._lifecycle.charge(workspace.org_id, workspace.user_id, server_id, seconds / 60)
        if refusal is not None:
            await self._lifecycle.sleep(workspace.id, refusal)
            self._lifecycle.follow_once(workspace.id)

    def _age(self, container: Container) -> float:
        """Seconds of a container that this process has not measured before; at most one round of measuring."""
        if container.started_at is None:
            return 0.0
        return min(METER_SECONDS, (self._clock.now() - container.started_at).total_seconds())

    async def _purge(self) -> None:
        """Remove the files of workspaces that were deleted long ago."""
        gone = select(Workspace).where(
            Workspace.deleted_at <= self._clock.now() - KEEP_DELETED, Workspace.container_status != "removed"
        )
        async with self._database.reading() as session:
            rows = (await session.scalars(gone.limit(100))).all()
        for row in rows:
            await self._engine.runtime.remove_volume(self._engine.shape.name_of(row.id))
            async with self._database.transaction() as session:
                (await session.get_one(Workspace, row.id)).container_status = "removed"


def _by_workspace(containers: list[Container]) -> dict[int, Container]:
    return {int(container.workspace): container for container in containers if container.workspace.isdigit()}
