"""The container engine as workspaces see it: whether it is there, what a workspace's container looks like, its image.

The runtime's failures become the registry's here, so that every door can render them. Which container should run when
is `registry.workspaces.lifecycle`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import structlog
from pydantic import BaseModel

from registry.core.clock import Clock
from registry.workspaces.errors import EngineMissing
from registry.workspaces.models import Workspace
from workspace_runtime.runtime import (
    ContainerSpec,
    EngineInfo,
    EngineUnavailable,
    Limits,
    Network,
    Runtime,
    WorkspaceRuntimeError,
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 3.0
"""How long what the engine said of itself is believed."""
TRUST_SECONDS = 20.0
"""How long an engine that answered is taken to be there: a burst of starts may keep it from answering at once."""


class EngineHealth(BaseModel):
    """Source: `octoprox.md`, Health Check; `message` says what is wrong and what to do."""

    status: Literal["healthy", "degraded", "unavailable"]
    version: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What every workspace's container is made of.

    Args:
        gateway: whose containers these are, for all processes of the gateway.
        image: our own, by its tag; it is built on `base` where the engine has none.
    """

    gateway: str
    image: str
    base: str
    limits: Limits = field(default_factory=Limits)

    def name_of(self, workspace_id: int) -> str:
        """The name of its container and of its volume."""
        return f"gatehouse-{self.gateway}-{workspace_id}"

    def spec_of(self, workspace: Workspace) -> ContainerSpec:
        name = self.name_of(workspace.id)
        return ContainerSpec(
            name=name,
            workspace=str(workspace.id),
            gateway=self.gateway,
            image=workspace.image or self.image,
            volume=name,
            env={"WORKSPACE_NAME": workspace.name},
            limits=self.limits,
            network=Network(workspace.network),
            hosts=tuple(workspace.allowed_hosts),
        )


class ContainerEngine:
    """The engine, asked as rarely as its answer allows.

    Args:
        runtime: `None` where the operator wants no workspaces.
    """

    def __init__(self, runtime: Runtime | None, shape: Shape, clock: Clock) -> None:
        self._runtime = runtime
        self.shape = shape
        self._clock = clock
        self._looked_at = float("-inf")
        self._said: EngineInfo | EngineMissing | None = None
        self._looking = asyncio.Lock()
        self._building: asyncio.Task[str] | None = None

    @property
    def runtime(self) -> Runtime:
        """Raises `EngineMissing` where there is none."""
        if self._runtime is None:
            raise EngineMissing("GATEHOUSE_WORKSPACE_RUNTIME is off")
        return self._runtime

    async def require(self) -> None:
        """Raises `EngineMissing` if no engine answers."""
        if isinstance(self._said, EngineInfo) and self._clock.monotonic() - self._looked_at < TRUST_SECONDS:
            return
        said = await self._ask()
        if isinstance(said, EngineMissing):
            raise EngineMissing(said.details["reason"])

    async def health(self) -> EngineHealth:
        said = await self._ask()
        if isinstance(said, EngineMissing):
            return EngineHealth(status="unavailable", message=said.message)
        if not said.isolates:
            message = f"The runtime {said.kind!r} isolates nothing: it is for development only."
            return EngineHealth(status="degraded", version=said.version, message=message)
        return EngineHealth(status="healthy", version=said.version.removeprefix("Docker "))

    def forget(self) -> None:
        """Believe nothing that the engine said before."""
        self._said = None

    async def build(self, *, anew: bool = False) -> str:
        """Our image's id, built unless the engine has it; whoever asks meanwhile waits for the same build.

        Raises:
            WorkspaceRuntimeError: it could not be built.
        """
        if not anew and await self.runtime.has_image(self.shape.image):
            return self.shape.image
        if self._building is None or self._building.done():
            log.info("building the image of workspaces", image=self.shape.image, base=self.shape.base)
            self._building = asyncio.create_task(self.runtime.build_image(self.shape.image, self.shape.base))
        return await asyncio.shield(self._building)

    async def close(self) -> None:
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
        if self._runtime is not None:
            await self._runtime.close()

    async def _ask(self) -> EngineInfo | EngineMissing:
        async with self._looking:
            now = self._clock.monotonic()
            if self._said is None or now - self._looked_at >= LOOK_SECONDS:
                self._said, self._looked_at = await self._ping(), now
            return self._said

    async def _ping(self) -> EngineInfo | EngineMissing:
        try:
            return await self.runtime.ping()
        except WorkspaceRuntimeError as error:
            return EngineMissing(error.message)
        except EngineMissing as error:
            return error


def missing(error: EngineUnavailable) -> EngineMissing:
    return EngineMissing(error.message)
