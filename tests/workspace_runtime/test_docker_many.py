"""Many containers at once, and an engine that is killed and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.components.base_image import base_image
from tests.support.components.engine import DockerEngine, kill_and_restart, own_engine
from tests.support.components.missing import skip_if_missing
from tests.workspace_runtime.conftest import Bench, build, docker_bench
from workspace_runtime.docker import DockerRuntime
from workspace_runtime.engine_line import Address
from workspace_runtime.runtime import GATEWAY_LABEL, EngineUnavailable, State, open_stream

MANY = 20


@pytest.mark.long
async def test_many_are_made_at_once_and_all_answer(docker: Bench) -> None:
    started = await asyncio.gather(*(docker.start(f"w{number}") for number in range(MANY)))
    assert {container.state for container in started} == {State.RUNNING}
    assert len(await docker.runtime.list({GATEWAY_LABEL: docker.gateway})) == MANY
    answers = await asyncio.gather(*(docker.call(container, "git_status") for container in started))
    assert {answer["structuredContent"]["branch"] for answer in answers} == {"main"}
    await asyncio.gather(*(docker.runtime.remove(container.id) for container in started))
    assert await docker.runtime.list({GATEWAY_LABEL: docker.gateway}) == []


@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "ssh://nowhere"])
async def test_no_engine_is_said_everywhere(url: str, tmp_path: Path) -> None:
    runtime = DockerRuntime(Address(url))
    bench = Bench(runtime, "x")
    try:
        for attempt in (
            runtime.ping,
            bench.create,
            lambda: runtime.start("x"),
            lambda: runtime.stop("x"),
            lambda: runtime.remove("x"),
            lambda: runtime.list({}),
            lambda: runtime.build_image("x", "y"),
            lambda: anext(runtime.events({})),
            lambda: anext(runtime.logs("x")),
        ):
            with pytest.raises(EngineUnavailable, match=url):
                await attempt()
    finally:
        await runtime.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[DockerEngine]:
    """An engine of our own, with our image, to be killed."""
    with skip_if_missing(), own_engine() as engine, base_image(engine) as base:
        asyncio.run(build(engine.host, base))
        yield engine


async def test_an_engine_that_is_killed_and_comes_back_loses_nothing(fragile: DockerEngine) -> None:
    async with docker_bench(fragile.host) as bench:
        one, two = await asyncio.gather(bench.start("one"), bench.start("two"))
        await bench.call(one, "write_file", path="kept.txt", content="kept")
        events = bench.runtime.events({GATEWAY_LABEL: bench.gateway})
        listening = asyncio.ensure_future(anext(events))
        reader, writer = await open_stream(bench.runtime, one.id)
        await asyncio.to_thread(kill_and_restart, fragile)
        with pytest.raises(EngineUnavailable):
            await listening
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.transport.abort()
        found = await bench.runtime.list({GATEWAY_LABEL: bench.gateway})
        assert {container.id for container in found} == {one.id, two.id}
        await asyncio.gather(*(bench.runtime.start(container.id, timeout=60) for container in found))
        read = await bench.call(one, "read_file", path="kept.txt")
        assert read["structuredContent"]["content"] == "kept"
