"""What a container hides from its own server is seen from outside."""

from __future__ import annotations

import asyncio

from tests.workspace_runtime.conftest import Bench
from workspace_runtime.keeper import Fault, Finding, Keeper
from workspace_runtime.runtime import Container, EngineUnavailable, State


class Eye:
    """A keeper that looks when it is told to."""

    def __init__(self, bench: Bench, answer_seconds: float = 60) -> None:
        self.findings: list[Finding] = []
        self.found = asyncio.Event()
        self._turns = asyncio.Semaphore(0)
        self.asleep = asyncio.Event()
        self.keeper = Keeper(bench.runtime, None, self._find, answer_seconds=answer_seconds, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self._turns.acquire()
        self.asleep.clear()

    async def _find(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.found.set()

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.asleep.wait()
            self.asleep.clear()
            self._turns.release()
        done = asyncio.create_task(self.found.wait())
        slept = asyncio.create_task(self.asleep.wait())
        async with asyncio.timeout(120):
            await asyncio.wait({done, slept}, return_when=asyncio.FIRST_COMPLETED)
        for task in (done, slept):
            task.cancel()


async def test_a_volume_that_grows_past_its_quota_stops_the_container(docker: Bench) -> None:
    container = await docker.start()
    eye = Eye(docker)
    eye.keeper.keep(container)
    await eye.look()
    assert eye.findings == []
    # What the engine runs is no job of the server's, which therefore does not end it.
    await docker.run(container, "sh", "-c", "for i in 1 2; do head -c 20000000 /dev/zero >f$i; done")
    await eye.look()
    await eye.keeper.close()
    assert [(finding.fault, finding.container.id) for finding in eye.findings] == [(Fault.DISK_QUOTA, container.id)]
    assert (await docker.runtime.inspect(container.id)).state is State.EXITED


async def test_a_server_that_is_held_stops_the_container(docker: Bench) -> None:
    container = await docker.start()
    eye = Eye(docker, answer_seconds=2)
    # The shell that looks, and what attends it, have these words in theirs too, but in another place.
    found = "tr '\\0' '\\n' <$p/cmdline | grep -q '^import sys.* import main; '"
    stop = f"for p in /proc/[0-9]*; do {found} && kill -STOP ${{p#/proc/}}; done 2>/dev/null"
    await docker.run(container, "sh", "-c", stop)
    eye.keeper.keep(container)
    await eye.look(3)
    await eye.keeper.close()
    assert [finding.fault for finding in eye.findings] == [Fault.UNRESPONSIVE]
    assert (await docker.runtime.inspect(container.id)).state is State.EXITED


async def test_an_engine_that_is_away_is_no_fault_of_the_container() -> None:
    class Away:
        isolates = True

        async def connect(self, id: str, factory: object) -> None:
            raise EngineUnavailable("away")

    bench = Bench(Away(), "x")  # type: ignore[arg-type]
    eye = Eye(bench)
    container = Container("x", "x", "x", State.RUNNING, {}, None)  # type: ignore[arg-type]
    eye.keeper.keep(container)
    await eye.look(5)
    assert eye.findings == []
    assert eye.keeper.kept() == {"x"}
    await eye.keeper.close()
