"""What holds for every runtime: one suite, run against each, with servers that misbehave."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tests.workspace_runtime.conftest import Bench, Kind, ask
from workspace_runtime import containment, process
from workspace_runtime.runtime import (
    GATEWAY_LABEL,
    WORKSPACE_LABEL,
    Container,
    ContainerMissing,
    Event,
    EventKind,
    NameTaken,
    NotRunning,
    StartFailed,
    State,
)


async def test_a_container_is_made_started_reached_stopped_and_removed(bench: Bench) -> None:
    runtime = bench.runtime
    info = await runtime.ping()
    assert (info.kind, info.isolates) == (runtime.kind, runtime.isolates)
    made = await bench.create(labels={"more": "label"})
    assert (made.state, made.workspace, made.started_at, made.exit_code) == (State.CREATED, "one", None, None)
    assert made.labels["more"] == "label"
    started = await runtime.start(made.id, timeout=60)
    assert (started.state, started.id) == (State.RUNNING, made.id)
    assert started.started_at is not None
    assert (await bench.call(started, "git_status"))["structuredContent"]["branch"] == "main"
    assert (await runtime.start(made.id, timeout=60)).state is State.RUNNING
    await runtime.stop(made.id)
    stopped = await runtime.inspect(made.id)
    assert (stopped.state, stopped.exit_code) == (State.EXITED, 0)
    await runtime.stop(made.id)
    await runtime.remove(made.id)
    await runtime.remove(made.id)
    with pytest.raises(ContainerMissing):
        await runtime.inspect(made.id)


async def test_files_outlive_a_stop_and_the_container(bench: Bench) -> None:
    container = await bench.start()
    await bench.call(container, "write_file", path="kept.txt", content="kept")
    await bench.runtime.stop(container.id)
    await bench.runtime.start(container.id, timeout=60)
    assert (await bench.call(container, "read_file", path="kept.txt"))["structuredContent"]["content"] == "kept"
    await bench.runtime.remove(container.id)
    again = await bench.start()
    assert (await bench.call(again, "read_file", path="kept.txt"))["structuredContent"]["content"] == "kept"


async def test_containers_are_found_by_their_labels_by_another_runtime(bench: Bench, kind: Kind) -> None:
    one, two = await bench.start("one"), await bench.create("two")
    async with kind.make() as other:
        found = await other.runtime.list({GATEWAY_LABEL: bench.gateway})
        assert {(container.id, container.state) for container in found} == {
            (one.id, State.RUNNING),
            (two.id, State.CREATED),
        }
        assert (await other.runtime.list({GATEWAY_LABEL: bench.gateway, WORKSPACE_LABEL: "two"}))[0].id == two.id
        assert await other.runtime.list({GATEWAY_LABEL: "nobody"}) == []
        # It can be reached from there, too.
        assert (await other.call(one, "git_status"))["structuredContent"]["status"] == "clean"


async def test_a_name_is_taken_once(bench: Bench) -> None:
    await bench.create()
    with pytest.raises(NameTaken):
        await bench.create()


async def test_what_does_not_run_cannot_be_reached(bench: Bench) -> None:
    container = await bench.create()
    for attempt in (
        lambda: ask(bench.runtime, container.id, "ping", {}),
        lambda: bench.run(container, "true"),
        lambda: bench.runtime.stats(container.id),
        lambda: bench.runtime.volume_bytes(container.id),
    ):
        with pytest.raises(NotRunning):
            await attempt()


async def test_what_is_not_there_is_missing(bench: Bench) -> None:
    gone = Container("f" * 64, "x", "x", State.EXITED, {}, (await bench.create()).created_at)
    for attempt in (
        lambda: bench.runtime.start(gone.id),
        lambda: bench.runtime.stop(gone.id),
        lambda: bench.runtime.inspect(gone.id),
        lambda: ask(bench.runtime, gone.id, "ping", {}),
        lambda: bench.run(gone, "true"),
        lambda: bench.runtime.stats(gone.id),
        lambda: collect(bench.runtime.logs(gone.id)),
    ):
        with pytest.raises(ContainerMissing):
            await attempt()
    await bench.runtime.remove_volume("nothing-of-this-name")


async def test_a_command_has_streams_and_an_exit_code(bench: Bench) -> None:
    container = await bench.start()
    script = "cat; echo bad >&2; exit 3"
    async with asyncio.timeout(60), bench.runtime.exec(container.id, ["sh", "-c", script], env={"A": "b"}) as running:
        running.write(b"in" * 100_000)
        await running.drain()
        running.write_eof()
        said: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        async for output in running:
            said[output.stream] += output.data
        assert said == {"stdout": b"in" * 100_000, "stderr": b"bad\n"}
        assert await running.exit_code() == 3


async def test_a_command_ends_when_its_caller_leaves(bench: Bench) -> None:
    container = await bench.start()
    async with asyncio.timeout(60):
        async with bench.runtime.exec(container.id, ["sh", "-c", "echo $$; sleep 1000"]) as running:
            async for output in running:
                pid = output.data.decode().strip()
                break
        code = 0
        while code == 0:
            code, _ = await bench.run(container, "sh", "-c", f"kill -0 {pid} 2>/dev/null")


async def test_usage_is_told(bench: Bench) -> None:
    container = await bench.start()
    stats = await bench.runtime.stats(container.id)
    assert stats.cpu_seconds > 0
    assert 1_000_000 < stats.memory_bytes < 128 * 1024**2
    assert stats.pids >= 1
    await bench.call(container, "shell_run", command="head -c 3000000 /dev/urandom >f")
    assert 3_000_000 <= await bench.runtime.volume_bytes(container.id) < 8_000_000


async def test_logs_are_told_and_followed(bench: Bench) -> None:
    container = await bench.start()
    assert [line.text.startswith("serving ") for line in await collect(bench.runtime.logs(container.id))] == [True]
    async with asyncio.timeout(60), aclosing(bench.runtime.logs(container.id, follow=True)) as lines:
        async for line in lines:
            if line.text == "ended":
                break
            await bench.runtime.stop(container.id)
    assert [line.text for line in await collect(bench.runtime.logs(container.id, tail=1))] == ["ended"]


async def test_events_tell_what_happens(bench: Bench) -> None:
    seen: list[Event] = []
    started = asyncio.Event()
    removed = asyncio.Event()

    async def listen() -> None:
        async for event in bench.runtime.events({GATEWAY_LABEL: bench.gateway}):
            seen.append(event)
            started.set()
            if event.kind is EventKind.REMOVED and event.labels[WORKSPACE_LABEL] == "one":
                removed.set()

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(60):
        number = 0
        while not started.is_set():  # whatever came before the engine listens is not told
            await bench.create(f"first{number}")
            number += 1
            await asyncio.sleep(0.05)
        container = await bench.start("one")
        await bench.runtime.stop(container.id)
        await bench.runtime.remove(container.id)
        await removed.wait()
    listening.cancel()
    mine = [event for event in seen if event.container == container.id]
    assert [event.kind for event in mine] == [
        EventKind.CREATED,
        EventKind.STARTED,
        EventKind.EXITED,
        EventKind.REMOVED,
    ]
    assert mine[2].exit_code == 0
    assert mine[0].labels[WORKSPACE_LABEL] == "one"


# -- servers that misbehave


def ours(kind: Kind) -> list[str]:
    return list(containment.SERVER if kind.name == "docker" else process.SERVER)


async def test_a_server_that_dies_is_told_of_with_its_last_words(kind: Kind) -> None:
    async with kind.make(["sh", "-c", "echo out of luck >&2; exit 7"]) as bench:
        container = await bench.create()
        with pytest.raises(StartFailed, match=r"(?s)exit code 7.*out of luck"):
            await bench.runtime.start(container.id, timeout=60)
        assert (await bench.runtime.inspect(container.id)).exit_code == 7


async def test_a_server_that_never_answers_is_stopped(kind: Kind) -> None:
    async with kind.make(["sh", "-c", "echo waiting >&2; sleep 1000"]) as bench:
        container = await bench.create()
        with pytest.raises(StartFailed, match=r"(?s)not answered.*waiting"):
            await bench.runtime.start(container.id, timeout=3)
        assert (await bench.runtime.inspect(container.id)).state is State.EXITED


async def test_a_slow_server_is_waited_for(kind: Kind) -> None:
    async with kind.make(["sh", "-c", 'sleep 2; exec "$@"', "sh", *ours(kind)]) as bench:
        container = await bench.start()
        assert (await bench.call(container, "git_status"))["structuredContent"]["branch"] == "main"


async def test_a_server_that_is_killed_is_seen_and_can_be_started_again(bench: Bench) -> None:
    container = await bench.start()
    result = bench.call(container, "shell_run", command="kill -9 $PPID")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await result
    async with asyncio.timeout(60):
        while (found := await bench.runtime.inspect(container.id)).state is State.RUNNING:
            await asyncio.sleep(0.02)
    assert found.exit_code == 137
    await bench.runtime.start(container.id, timeout=60)
    assert (await bench.call(container, "git_status"))["structuredContent"]["branch"] == "main"


async def collect(lines: Any) -> list[Any]:
    return [line async for line in lines]


# -- commands that are tied to their callers

STUBBORN = "trap '' TERM; cat >/dev/null; echo still here; while :; do sleep 0.1; done"
DEAF = "echo deaf; while :; do sleep 0.1; done"


async def test_a_tied_command_is_ended_when_its_input_has_ended(bench: Bench) -> None:
    """All at once, as each of those that do not end by themselves is waited for."""
    container = await bench.start()

    async def tied(given: bytes, *command: str) -> tuple[str, int]:
        async with bench.runtime.exec(container.id, command, tied=True) as running:
            running.write(given)
            running.write_eof()
            said = b"".join([output.data async for output in running])
            return said.decode(), await running.exit_code()

    async with asyncio.timeout(60):
        gentle, stubborn, deaf, missing = await asyncio.gather(
            tied(b"in" * 100_000, "cat"),
            tied(b"", "sh", "-c", STUBBORN),
            tied(b"x" * 1_000_000, "sh", "-c", DEAF),
            tied(b"", "no-such-program"),
        )
    assert gentle == ("in" * 100_000, 0)
    assert stubborn == ("still here\n", 137)
    assert deaf == ("deaf\n", 143)
    assert missing == ("no-such-program could not be started: No such file or directory\n", 127)
