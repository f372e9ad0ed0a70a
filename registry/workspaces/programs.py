"""Stdio servers of the registry that run in containers: one container for each, held like a workspace's.

A container is made when its server is first started, and goes when the server is removed or runs in another way. What
runs in it belongs to the process that started it, and ends with it. `registry.workspaces.sweep` keeps an eye on the
containers and reaps them; the data path reaches in by `gateway.mcp.upstream.contained`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from registry.core.clock import Clock
from registry.servers.contained import Contained
from registry.workspaces.engine import ContainerEngine, missing
from registry.workspaces.errors import WorkspaceNotRunning
from workspace_runtime.runtime import (
    HOSTS_LABEL,
    NETWORK_LABEL,
    WORKSPACE_LABEL,
    Container,
    ContainerMissing,
    ContainerSpec,
    EngineUnavailable,
    Execution,
    ImageMissing,
    NameTaken,
    Network,
    State,
    WorkspaceRuntimeError,
)

log = structlog.get_logger(__name__)

_MARK = "server:"
KEEP = timedelta(seconds=60)
"""A container without a server is kept so long: a server is looked at before it is stored."""


def server_of(container: Container) -> str | None:
    """The id of the server that a container is for, if it is one's."""
    label = container.workspace
    return label.removeprefix(_MARK) if label.startswith(_MARK) else None


class Programs:
    """Makes the containers of stdio servers, and takes them away."""

    def __init__(self, engine: ContainerEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def run(
        self, server_id: str, contained: Contained, command: Sequence[str], env: Mapping[str, str]
    ) -> AsyncGenerator[Execution]:
        """Run a server's program in its container. It ends with the block, or with this process.

        Raises:
            WorkspaceNotRunning: it cannot be had; the message says why.
            EngineMissing: no engine answers.
            WorkspaceRuntimeError: the container has gone in the middle.
        """
        container = await self._container(server_id, contained)
        async with self._engine.runtime.exec(container.id, command, env=env, tied=True) as execution:
            yield execution

    async def reap(self, containers: Sequence[Container], servers: set[str]) -> None:
        """Take away those whose servers are not among these any more. Raises `EngineUnavailable`."""
        for container in containers:
            server_id = server_of(container)
            if server_id is None or server_id in servers or self._clock.now() - container.created_at < KEEP:
                continue
            log.info("removing the container of a server that is gone", container=container.name)
            try:
                await self._engine.runtime.remove(container.id)
                await self._engine.runtime.remove_volume(container.name)
            except EngineUnavailable:
                raise
            except WorkspaceRuntimeError as error:
                log.warning("a container could not be removed", container=container.name, why=error.message)

    async def _container(self, server_id: str, contained: Contained) -> Container:
        """Its container, running."""
        if not self._engine.runtime.isolates:
            raise WorkspaceNotRunning(
                "This server is to run in a container, and GATEHOUSE_WORKSPACE_RUNTIME='process' has none: set it to "
                "'docker', or register the server without a container."
            )
        async with self._locks.setdefault(server_id, asyncio.Lock()):
            try:
                return await self._started(self._spec_of(server_id, contained), own_image=contained.image is None)
            except EngineUnavailable as error:
                raise missing(error) from None
            except WorkspaceRuntimeError as error:
                raise WorkspaceNotRunning(f"Its container does not run: {error.message}") from None

    async def _started(self, spec: ContainerSpec, *, own_image: bool) -> Container:
        runtime = self._engine.runtime
        try:
            found = await runtime.inspect(spec.name)
            if found.state is State.DEAD or not _fits(found, spec):
                await runtime.remove(found.id)
                found = None
        except ContainerMissing:
            found = None
        if found is None:
            found = await self._make(spec, own_image=own_image)
        return await runtime.start(found.id)

    async def _make(self, spec: ContainerSpec, *, own_image: bool) -> Container:
        runtime = self._engine.runtime
        try:
            return await runtime.create(spec)
        except NameTaken:  # by another process just now
            return await runtime.inspect(spec.name)
        except ImageMissing:
            if not own_image:
                raise
            await self._engine.build()
            return await runtime.create(spec)

    def _spec_of(self, server_id: str, contained: Contained) -> ContainerSpec:
        shape, name = self._engine.shape, self._name_of(server_id)
        return ContainerSpec(
            name=name,
            workspace=f"{_MARK}{server_id}",
            gateway=shape.gateway,
            image=contained.image or shape.image,
            volume=name,
            limits=shape.limits,
            network=Network(contained.network),
            hosts=contained.hosts,
        )

    def _name_of(self, server_id: str) -> str:
        return f"gatehouse-{self._engine.shape.gateway}-server-{server_id}"


def _fits(container: Container, spec: ContainerSpec) -> bool:
    """Whether a container that is there is what is wanted now."""
    wanted = spec.all_labels()
    labels = (WORKSPACE_LABEL, NETWORK_LABEL, HOSTS_LABEL)
    return container.image == spec.image and all(container.labels.get(name) == wanted[name] for name in labels)
