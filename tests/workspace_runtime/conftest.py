"""Runtimes on a real engine with our image, and as processes; and containers that are gone after the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.components.engine import DockerEngine
from workspace_runtime import containment, process
from workspace_runtime.docker import IMAGE, DockerRuntime
from workspace_runtime.engine_line import Address
from workspace_runtime.process import ProcessRuntime
from workspace_runtime.runtime import Container, ContainerSpec, Limits, Runtime, open_stream

SMALL = Limits(memory_bytes=128 * 1024**2, cpus=0.5, pids=64, disk_bytes=32 * 1024**2, tmp_bytes=16 * 1024**2)


async def build(host: str, base: str) -> None:
    runtime = DockerRuntime(Address(host))
    try:
        if not await runtime.has_image(IMAGE):
            await runtime.build_image(IMAGE, base)
    finally:
        await runtime.close()


@pytest.fixture(scope="session")
def image(docker_engine: DockerEngine, docker_base_image: str) -> str:
    """Our image, there in the engine."""
    asyncio.run(build(docker_engine.host, docker_base_image))
    return IMAGE


class Bench:
    """A runtime, and the containers that a test makes with it."""

    def __init__(self, runtime: Runtime, image: str) -> None:
        self.runtime = runtime
        self.image = image
        self.gateway = f"test-{secrets.token_hex(4)}"
        self.volumes: set[str] = set()

    def spec(self, name: str = "one", **more: Any) -> ContainerSpec:
        unique = f"{self.gateway}-{name}"
        made = ContainerSpec(unique, name, self.gateway, self.image, unique, limits=SMALL)
        return replace(made, **more)

    async def create(self, name: str = "one", **more: Any) -> Container:
        spec = self.spec(name, **more)
        self.volumes.add(spec.volume)
        return await self.runtime.create(spec)

    async def start(self, name: str = "one", **more: Any) -> Container:
        return await self.runtime.start((await self.create(name, **more)).id, timeout=60)

    async def call(self, container: Container, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool of the container's server."""
        params = {"name": tool, "arguments": arguments}
        async with asyncio.timeout(120):
            return (await ask(self.runtime, container.id, "tools/call", params))["result"]

    async def run(self, container: Container, *command: str) -> tuple[int, str]:
        """Run a command by the engine: exit code and what it said."""
        said = b""
        async with asyncio.timeout(120), self.runtime.exec(container.id, command) as execution:
            async for output in execution:
                said += output.data
            return await execution.exit_code(), said.decode()

    async def clear(self) -> None:
        for container in await self.runtime.list({"gatehouse.gateway": self.gateway}):
            await self.runtime.remove(container.id)
        for volume in self.volumes:
            await self.runtime.remove_volume(volume)


async def ask(runtime: Runtime, id: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    reader, writer = await open_stream(runtime, id)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        writer.write(b"POST /mcp HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return json.loads(await reader.readexactly(length))
    finally:
        writer.transport.abort()


@pytest.fixture
async def docker(docker_engine: DockerEngine, image: str) -> AsyncIterator[Bench]:
    """Workspaces on the engine."""
    async with docker_bench(docker_engine.host) as bench:
        yield bench


@asynccontextmanager
async def docker_bench(host: str, server: Sequence[str] = containment.SERVER, **more: Any) -> AsyncIterator[Bench]:
    runtime = DockerRuntime(Address(host), server=server, **more)
    bench = Bench(runtime, IMAGE)
    try:
        yield bench
    finally:
        with contextlib.suppress(Exception):  # of an engine that the test has taken away
            await bench.clear()
        await runtime.close()


@asynccontextmanager
async def process_bench(folder: Path, server: Sequence[str] = process.SERVER) -> AsyncIterator[Bench]:
    runtime = ProcessRuntime(folder, server=server)
    bench = Bench(runtime, "any")
    try:
        yield bench
    finally:
        await bench.clear()
        await runtime.close()


@dataclass
class Kind:
    """One implementation of the port, for tests that hold for each.

    Args:
        make: a bench, with the words that run the server where it is not ours.
    """

    name: str
    make: Callable[..., Any]
    python: Sequence[str]


@pytest.fixture(params=["docker", "process"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "docker":
        engine: DockerEngine = request.getfixturevalue("docker_engine")
        request.getfixturevalue("image")
        return Kind("docker", lambda *server: docker_bench(engine.host, *server), ["python3"])
    return Kind("process", lambda *server: process_bench(tmp_path / "data", *server), [sys.executable])


@pytest.fixture
async def bench(kind: Kind) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(kind.make())
