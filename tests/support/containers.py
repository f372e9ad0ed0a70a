"""A runtime of workspaces in memory, which misbehaves when told to: for what stands on the port.

Containers are entries in a dict, and their MCP server is whatever listens at `server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from workspace_runtime.runtime import (
    Container,
    ContainerMissing,
    ContainerSpec,
    EngineInfo,
    EngineUnavailable,
    Event,
    Execution,
    ImageMissing,
    LogLine,
    NameTaken,
    NotRunning,
    P,
    StartFailed,
    State,
    Stats,
)

BORN = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class MemoryRuntime:
    """An engine without containers at first.

    Args:
        server: host and port of what answers as the server inside.
        down: no engine answers.
        broken: no container starts.
        slow: containers start when this is set.
        images: those that the engine has.
    """

    server: tuple[str, int] | None = None
    kind: str = "docker"
    isolates: bool = True
    down: bool = False
    broken: bool = False
    slow: asyncio.Event | None = None
    images: set[str] = field(default_factory=lambda: {"workspace"})
    containers: dict[str, Container] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    specs: dict[str, ContainerSpec] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    builds: int = 0
    starts: int = 0

    def _up(self) -> None:
        if self.down:
            raise EngineUnavailable("the engine at memory does not answer")

    def _find(self, id: str) -> Container:
        self._up()
        for container in self.containers.values():
            if id in (container.id, container.name):
                return container
        raise ContainerMissing(f"the engine has no container {id}")

    def _put(self, container: Container, **changes: object) -> Container:
        made = self.containers[container.name] = replace(container, **changes)  # type: ignore[arg-type]
        return made

    async def ping(self) -> EngineInfo:
        self._up()
        return EngineInfo(self.kind, "24.0.7", isolates=True)

    async def has_image(self, tag: str) -> bool:
        self._up()
        return tag in self.images

    async def build_image(self, tag: str, base: str, say: Callable[[str], None] | None = None) -> str:
        self._up()
        self.builds += 1
        self.images.add(tag)
        return tag

    async def create(self, spec: ContainerSpec) -> Container:
        self._up()
        if spec.name in self.containers:
            raise NameTaken(f"there is a container {spec.name}")
        if spec.image not in self.images:
            raise ImageMissing(f"the engine has no image {spec.image}")
        self.volumes.add(spec.volume)
        self.specs[spec.name] = spec
        made = Container(f"id-{spec.name}", spec.name, spec.image, State.CREATED, spec.all_labels(), BORN)
        self.containers[spec.name] = made
        return made

    async def start(self, id: str, timeout: float = 30.0) -> Container:
        container = self._find(id)
        if self.slow is not None:
            await self.slow.wait()
        self._up()
        if self.broken:
            raise StartFailed("the container ended: it does not feel like it")
        if container.state is State.RUNNING:
            return container
        self.starts += 1
        return self._put(container, state=State.RUNNING, started_at=BORN)

    async def stop(self, id: str, grace: float = 5.0) -> None:
        self._put(self._find(id), state=State.EXITED, exit_code=0)

    async def remove(self, id: str) -> None:
        self._up()
        self.containers = {name: one for name, one in self.containers.items() if id not in (one.id, one.name)}

    async def remove_volume(self, name: str) -> None:
        self._up()
        self.volumes.discard(name)

    async def inspect(self, id: str) -> Container:
        return self._find(id)

    async def list(self, labels: Mapping[str, str]) -> list[Container]:
        self._up()
        return [one for one in self.containers.values() if labels.items() <= one.labels.items()]

    async def stats(self, id: str) -> Stats:
        if self._find(id).state is not State.RUNNING:
            raise NotRunning("it is stopped")
        return Stats(BORN, self.cpu_seconds, 1000, 0, 3)

    async def logs(self, id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[LogLine]:
        self._find(id)
        for number in range(tail or 1):
            yield LogLine(BORN, "stderr", f"line {number}")

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[Event]:
        raise NotImplementedError

    def exec(
        self,
        id: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        tied: bool = False,
    ) -> AbstractAsyncContextManager[Execution]:
        raise NotRunning("commands do not run in memory")

    async def connect(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        if self._find(id).state is not State.RUNNING:
            raise NotRunning("it is stopped")
        assert self.server is not None
        return await asyncio.get_running_loop().create_connection(factory, *self.server)

    async def connect_to_proxy(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        raise NotRunning("nothing leaves")

    async def volume_bytes(self, id: str) -> int:
        return 0

    async def close(self) -> None:
        """Nothing is open."""

    # -- what tests do to it

    def die(self, name: str, *, out_of_memory: bool = False) -> None:
        """A container ends by itself."""
        self._put(self.containers[name], state=State.EXITED, exit_code=137, out_of_memory=out_of_memory)

    def states(self) -> dict[str, State]:
        return {name: container.state for name, container in self.containers.items()}
