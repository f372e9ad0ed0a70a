"""What a container hides from its own server is seen from outside."""

from __future__ import annotations

import asyncio

from tests.workspace_runtime.conftest import Bench
from workspace_runtime.keeper import STRIKES, Fault, Finding, Keeper
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


FILL = "fallocate -l 20000000 full; fallocate -l 20000000 fuller"


async def shell(docker: Bench, container: Container, command: str) -> None:
    """Run a command, again where the server inside looked at a grown volume just then: it ends what runs meanwhile."""
    async with asyncio.timeout(60):
        while True:
            exit_code, said = await docker.run(container, "sh", "-c", command)
            if "[ended: disk quota]" not in said:
                break
    assert (exit_code, said) == (0, "")


async def test_a_volume_that_goes_on_growing_past_its_quota_stops_the_container(docker: Bench) -> None:
    container = await docker.start()
    await shell(docker, container, FILL)
    eye = Eye(docker)
    eye.keeper.keep(container)
    await eye.look(4)
    assert eye.findings == [], "it is full, and does not grow"
    for number in range(3):
        assert eye.findings == [], number
        await shell(docker, container, f"fallocate -l 100000 more{number}")
        await eye.look()
    await eye.keeper.close()
    assert [(finding.fault, finding.container.id) for finding in eye.findings] == [(Fault.DISK_QUOTA, container.id)]
    assert (await docker.runtime.inspect(container.id)).state is State.EXITED


async def test_a_volume_that_was_emptied_may_be_filled_again(docker: Bench) -> None:
    container = await docker.start()
    eye = Eye(docker)
    eye.keeper.keep(container)
    for number in range(STRIKES + 1):
        for command in (FILL, f"fallocate -l 100000 more{number}", "rm -f full*"):
            await shell(docker, container, command)
            await eye.look()
    assert eye.findings == []
    await eye.keeper.close()


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
