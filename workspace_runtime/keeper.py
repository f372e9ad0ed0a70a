"""What a running container needs from outside: its way to allowed hosts, and an eye on its disk.

One task for each container, begun by `keep` whenever one is found running, in whatever process: all that it must know
stands in the container's labels. It looks at what the container could hide from its own server: a volume that goes on
growing past its quota, a server that does not answer. Such a container is stopped, and told of as a `Finding`. One that
is only full is left alone: whoever works in it has been told so, and is to delete something. What to do then, and
whether it is to be started again, is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from workspace_runtime.readiness import wait_until_ready
from workspace_runtime.runtime import (
    DISK_LABEL,
    NETWORK_LABEL,
    Container,
    ContainerMissing,
    EngineUnavailable,
    Network,
    NoAnswer,
    NotRunning,
    Runtime,
)
from workspace_runtime.tunnel import HostRules, Tunnel

LOOK_SECONDS = 15.0
FULL_LOOK_SECONDS = 5.0
"""While the volume is too full: about as long as the server inside takes to see that, and to end what fills it."""
ANSWER_SECONDS = 20.0
STRIKES = 3
"""How often in a row a container may fail to answer, and be found grown while its volume is too full."""
TOLERANCE = 1.1
"""The server inside acts at the quota; what grows on this far above it, it has not ended."""
ENGINE_AGAIN_SECONDS = 2.0


class Fault(StrEnum):
    DISK_QUOTA = "disk_quota"
    UNRESPONSIVE = "unresponsive"


@dataclass(frozen=True)
class Finding:
    """A container that was stopped, and why."""

    container: Container
    fault: Fault
    message: str


class Keeper:
    """Args:
    tunnel: `None` where no container has a way out.
    found: is told of what was stopped.
    sleep: tests have another.
    """

    def __init__(
        self,
        runtime: Runtime,
        tunnel: Tunnel | None,
        found: Callable[[Finding], Awaitable[None]],
        *,
        answer_seconds: float = ANSWER_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._runtime = runtime
        self._tunnel = tunnel
        self._found = found
        self._answer_seconds = answer_seconds
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def keep(self, container: Container) -> None:
        """Begin, if that was not done yet. It ends by itself when the container stops."""
        if container.id not in self._tasks:
            task = self._tasks[container.id] = asyncio.create_task(self._keep(container))
            task.add_done_callback(lambda _: self._tasks.pop(container.id, None))

    def kept(self) -> set[str]:
        return set(self._tasks)

    async def release(self, id: str) -> None:
        task = self._tasks.pop(id, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        for kept in list(self._tasks):
            await self.release(kept)

    async def _keep(self, container: Container) -> None:
        network = Network(container.labels.get(NETWORK_LABEL, Network.NONE))
        work = [asyncio.create_task(self._look(container))]
        if self._tunnel is not None and self._runtime.isolates and network is not Network.NONE:
            work.append(asyncio.create_task(self._hold(self._tunnel, container)))
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _hold(self, tunnel: Tunnel, container: Container) -> None:
        while True:
            try:
                await tunnel.hold(container.id, HostRules.of(container))
                return
            except EngineUnavailable:
                await self._sleep(ENGINE_AGAIN_SECONDS)

    async def _look(self, container: Container) -> None:
        """Look again and again, until the container has stopped."""
        volume = _Volume(int(container.labels.get(DISK_LABEL, "0")))
        strikes = 0
        while True:
            await self._sleep(FULL_LOOK_SECONDS if volume.full else LOOK_SECONDS)
            try:
                used = await self._used(container.id)
            except (NotRunning, ContainerMissing):
                return
            except EngineUnavailable:
                strikes = 0  # nobody can tell
                continue
            if used is None:
                strikes += 1
                if strikes == STRIKES:
                    await self._stop(container, Fault.UNRESPONSIVE, "its server does not answer any more")
                    return
                continue
            strikes = 0
            if volume.grows(used):
                message = f"its volume holds {used} bytes, {volume.quota} are allowed, and it grows on"
                await self._stop(container, Fault.DISK_QUOTA, message)
                return

    async def _used(self, id: str) -> int | None:
        """The volume's bytes; `None` if the container does not answer."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                until = asyncio.get_running_loop().time() + self._answer_seconds
                await wait_until_ready(partial(self._runtime.connect, id), until)
                return await self._runtime.volume_bytes(id)
        except (TimeoutError, ConnectionError, NoAnswer):
            return None

    async def _stop(self, container: Container, fault: Fault, message: str) -> None:
        with contextlib.suppress(ContainerMissing, NotRunning):
            await self._runtime.stop(container.id, grace=0)
        await self._found(Finding(container, fault, message))


class _Volume:
    """What was seen of a volume; without a quota nothing is too much."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.full = False
        self._used = 0
        self._strikes = 0

    def grows(self, used: int) -> bool:
        """Whether it has gone on growing while it was too full. It may rest in between: that takes nothing back."""
        if not self.quota or used <= self.quota * TOLERANCE:
            self.full = False
            self._strikes = 0
            return False
        self._strikes += self.full and used > self._used
        self.full = True
        self._used = used
        return self._strikes == STRIKES
