"""Many containers at once, and an engine that is killed and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.workspace_runtime.conftest import Bench
from workspace_runtime.docker import DockerRuntime
from workspace_runtime.engine_line import Address
from workspace_runtime.runtime import GATEWAY_LABEL, EngineUnavailable, State

MANY = 20


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
