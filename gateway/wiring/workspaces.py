"""Workspaces: the engine that runs them, the records of them, and what keeps the two alike; with their beginning."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote

from registry.budgets.errors import BudgetExceeded
from registry.core.egress import Egress, EgressFailed, EgressPolicy, EgressRefused, UrlInvalid, vet_url
from registry.core.errors import Unavailable
from registry.core.security import derive_key
from registry.identity.events import CredentialsChanged
from registry.workspaces.console import Console
from registry.workspaces.credentials import CredentialBook, Lent
from registry.workspaces.engine import ContainerEngine, Shape
from registry.workspaces.events import WorkspaceWanted
from registry.workspaces.lifecycle import Lifecycle
from registry.workspaces.programs import Programs
from registry.workspaces.service import Terms, WorkspaceService
from registry.workspaces.sweep import Sweep
from workspace_runtime.docker import IMAGE, DockerRuntime
from workspace_runtime.keeper import Finding, Keeper
from workspace_runtime.process import ProcessRuntime
from workspace_runtime.runtime import Limits
from workspace_runtime.tunnel import DIAL_SECONDS, DialRefused, Tunnel

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from gateway.wiring.ground import Ground
    from gateway.wiring.services import Services
    from registry.core.db import Database
    from registry.core.settings import Settings
    from registry.servers.connection import Connection
    from workspace_runtime.runtime import Execution, Runtime

P = TypeVar("P", bound=asyncio.Protocol)
MEGABYTE = 1024 * 1024


class Minutes(Protocol):
    """What container minutes are paid from."""

    async def spend_minutes(self, org_id: str, user_id: str, server_id: str, minutes: float) -> None:
        """Raises `BudgetExceeded`, or `Unavailable` when nobody can tell."""
        ...


class Workspaces:
    """Everything about workspaces that is made once."""

    def __init__(self, ground: Ground, services: Services) -> None:
        settings, database, clock = ground.settings, ground.database, ground.clock
        self._url = ground.url
        self._minutes: Minutes | None = None
        shape = _shape(settings, ground.master)
        runtime = _runtime(settings, shape.image)
        self.engine = ContainerEngine(runtime, shape, clock)
        terms = Terms(
            per_user=settings.workspaces_per_user,
            images=frozenset(settings.workspace_images),
            network=settings.workspace_network,
        )
        self.service = WorkspaceService(clock, services.audit, self.engine, terms)
        self.console = Console(database, self.service, self.engine, services.audit)
        self.lifecycle = Lifecycle(database, self.engine, clock, self._charge)
        self.credentials = CredentialBook(clock, services.audit, ground.master)
        programs = Programs(self.engine, clock)
        self.door = Door(database, self.lifecycle, self.credentials, programs)
        self._way_out = _WayOut()
        self._runs = runtime is not None
        self.sweep = Sweep(
            database,
            self.engine,
            self.lifecycle,
            clock,
            idle_seconds=settings.workspace_idle_seconds,
            programs=programs,
            keeper=Keeper(runtime, Tunnel(runtime, self._way_out.dial), self._found) if runtime is not None else None,
        )
        ground.events.subscribe(WorkspaceWanted, lambda wanted: self.lifecycle.follow(wanted.workspace_id))
        ground.events.subscribe(CredentialsChanged, lambda changed: self.sweep.hurry())

    def endpoint_of(self, name: str) -> str:
        """The address of a workspace's MCP endpoint."""
        return f"{self._url}/ws/{quote(name, safe='')}/mcp"

    def pay_from(self, minutes: Minutes) -> None:
        self._minutes = minutes

    async def _charge(self, org_id: str, user_id: str, server_id: str, minutes: float) -> str | None:
        if self._minutes is None:
            return None
        try:
            await self._minutes.spend_minutes(org_id, user_id, server_id, minutes)
        except BudgetExceeded as error:
            return error.message
        except Unavailable:
            # The ledger is back soon; ending work that nobody has forbidden would be worse than a minute unpaid.
            return None
        return None

    async def _found(self, finding: Finding) -> None:
        await self.sweep.found(finding)

    def start(self) -> None:
        if self._runs:
            self.sweep.start()

    async def stop(self) -> None:
        await self.sweep.stop()
        await self.lifecycle.stop()
        await self.engine.close()
        await self._way_out.close()


class Door:
    """What the data path opens containers by: `WorkspaceDoor` and `ProgramDoor` of `gateway.mcp.upstream`."""

    def __init__(
        self, database: Database, lifecycle: Lifecycle, credentials: CredentialBook, programs: Programs
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._programs = programs
        self.connect = lifecycle.connect
        self.begin = lifecycle.begin
        self.end = lifecycle.end

    async def credentials(self, workspace_id: int, user_id: str | None) -> list[Lent]:
        async with self._database.reading() as session:
            return await self._credentials.lend(session, workspace_id, user_id)

    def program(self, connection: Connection) -> AbstractAsyncContextManager[Execution]:
        assert connection.container is not None
        assert connection.command is not None
        command = (connection.command, *connection.args)
        return self._programs.run(connection.server_id, connection.container, command, dict(connection.env))


def _shape(settings: Settings, master: bytes) -> Shape:
    return Shape(
        # The same in all processes of a gateway, and in no other gateway on the same engine.
        gateway=derive_key(master, "workspaces").hex()[:12],
        image=settings.workspace_image or IMAGE,
        base=settings.workspace_base_image,
        limits=Limits(
            memory_bytes=settings.workspace_memory_mb * MEGABYTE,
            cpus=settings.workspace_cpus,
            pids=settings.workspace_pids,
            disk_bytes=settings.workspace_disk_mb * MEGABYTE,
        ),
    )


def _runtime(settings: Settings, image: str) -> Runtime | None:
    match settings.workspace_runtime:
        case "docker":
            return DockerRuntime(image=image, engine_runtime=settings.workspace_engine_runtime)
        case "process":
            return ProcessRuntime(settings.data_dir / "workspaces")
        case "off":
            return None


class _WayOut:
    """Dials for workspaces: public addresses alone, whatever the gateway's own servers may have."""

    def __init__(self) -> None:
        self._egress = Egress(EgressPolicy())

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        try:
            # Whatever is spoken passes untouched: TLS is between the workspace and the host.
            target = vet_url(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
            transport, protocol = await self._egress.connect(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), target, timeout=DIAL_SECONDS
            )
        except (EgressRefused, UrlInvalid) as error:
            raise DialRefused(error.message) from None
        except EgressFailed as error:
            raise OSError(error.message) from None
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def close(self) -> None:
        await self._egress.close()
