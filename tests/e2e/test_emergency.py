"""The emergency stop, seen from outside: in one process, in two on one database, and over a restart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dripping import Dripping, GatewayProcess, dripping

STREAMS = 100
REFUSED_SECONDS = 1.0
ENDED_SECONDS = 2.0
"""What is promised, asserted by `--long` on a machine with nothing else to do; every other run prints its figures."""
PATIENCE_SECONDS = 60.0
EMERGENCY_STOP = -31000
UNKNOWN = b"Unknown tool"
SECRET = "0123456789abcdefghijklmnopqrstuv"


@pytest.fixture
async def upstream() -> AsyncIterator[Dripping]:
    async with dripping() as server:
        yield server


@pytest.fixture
def exact(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


async def _register(gateway: GatewayProcess, upstream: Dripping) -> str:
    key = gateway.admin_key
    status, body = await gateway.rest("POST", "/v1/mcp/servers", {"name": "drip", "base_url": upstream.url}, key=key)
    assert status == 201, body
    assert body["health_status"] == "healthy", body
    return key


class Streams:
    """Calls that stream until somebody ends them; `last` holds the last message of each that has ended."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.last: list[dict[str, Any]] = []

    async def open(self, gateway: GatewayProcess, key: str, count: int, tool: str = "drip__drip") -> None:
        self.tasks += [asyncio.create_task(self._read(gateway, key, tool)) for _ in range(count)]

    async def _read(self, gateway: GatewayProcess, key: str, tool: str) -> None:
        while UNKNOWN in (last := await self._last(gateway, key, tool)):
            # The other workers hear of a new server a moment later.
            await asyncio.sleep(0.1)
        self.last.append(json.loads(last))

    async def _last(self, gateway: GatewayProcess, key: str, tool: str) -> bytes:
        last = b""
        async with gateway.open_call(key, tool, alone=True) as answer:
            async for line in answer.content:
                if line.startswith((b"data:", b"{")):
                    last = line.removeprefix(b"data:")
        return last

    async def flowing(self, upstream: Dripping, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while upstream.dripping < count:
                for task in self.tasks:
                    if task.done():
                        task.result()
                assert not self.last, f"{len(self.last)} streams have ended early, such as {self.last[0]}"
                await asyncio.sleep(0.02)

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self.tasks)


async def _refused(gateway: GatewayProcess, key: str, times: int = 1) -> float:
    """When calls began to be refused by the stop, so many one after the other, whichever worker takes them."""
    refused: list[float] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(refused) < times:
            answer = await gateway.call(key, "drip__echo", alone=True)
            if answer.get("error", {}).get("code") == EMERGENCY_STOP:
                refused.append(time.monotonic())
            else:
                refused.clear()
    return refused[0]


async def _all_ended(upstream: Dripping, streams: Streams, count: int) -> float:
    """When the server saw the last of its streams end, all of which must."""
    await streams.ended()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while upstream.dripping:
            await asyncio.sleep(0.01)
    assert len(upstream.ended) == count
    return max(upstream.ended)


def _told(what: str, pressed: float, refused: float, ended: float, *, exact: bool) -> None:
    """Print how long the stop took, and judge it where that means something."""
    print(f"{what}: refused after {refused - pressed:.3f} s, last stream ended after {ended - pressed:.3f} s")
    if exact:
        assert refused - pressed < REFUSED_SECONDS
        assert ended - pressed < ENDED_SECONDS


async def test_a_stop_ends_a_hundred_streams_and_lasts_over_a_restart(
    upstream: Dripping, tmp_path: Path, exact: bool
) -> None:
    async with GatewayProcess(tmp_path / "data") as gateway:
        key = await _register(gateway, upstream)
        streams = Streams()
        await streams.open(gateway, key, STREAMS)
        # One that has not answered yet is cancelled as well.
        await streams.open(gateway, key, 1, "drip__hang")
        await streams.flowing(upstream, STREAMS + 1)

        pressed = time.monotonic()
        status, body = await gateway.rest("POST", "/api/v1/emergency/pause-all", {"reason": "Too hot."}, key=key)
        assert status == 200
        assert body["message"] == "All agents paused. Manual resume required."
        refused = await _refused(gateway, key)
        ended = await _all_ended(upstream, streams, STREAMS + 1)
        _told("one process", pressed, refused, ended, exact=exact)

        assert len(streams.last) == STREAMS + 1
        for last in streams.last:
            # The typed error answers the very request, so that clients do not wait on.
            assert last["id"] == "call"
            assert last["error"]["code"] == EMERGENCY_STOP
            assert last["error"]["data"]["reason"] == "Too hot."
        calls = upstream.calls
        assert (await gateway.call(key, "gatehouse__emergency_status"))["result"]["structuredContent"]["paused"]
        assert "result" in await gateway.call(key, "gatehouse__servers_list")
        assert (await gateway.call(key, "gatehouse__servers_discover", {"server": "drip"}))["error"]["code"] == -31000

    async with GatewayProcess(tmp_path / "data") as gateway:
        refused = await gateway.call(key, "drip__echo")
        assert refused["error"]["data"]["code"] == "EMERGENCY_STOP"
        assert upstream.calls == calls
        resumed = await gateway.call(key, "gatehouse__emergency_resume")
        assert resumed["result"]["structuredContent"] == {"paused": False, "stops": []}
        assert (await gateway.call(key, "drip__echo"))["result"]["content"][0]["text"] == "done"


async def test_a_stop_reaches_the_other_process_on_the_same_database(
    upstream: Dripping, tmp_path: Path, postgres_url: str, exact: bool
) -> None:
    env = {"GATEHOUSE_DATABASE_URL": postgres_url, "GATEHOUSE_SECRET_KEY": SECRET}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(GatewayProcess(tmp_path / "one", **env))
        key = await _register(first, upstream)
        second = await stack.enter_async_context(GatewayProcess(tmp_path / "two", **env))
        streams = Streams()
        await streams.open(first, key, STREAMS // 2)
        await streams.open(second, key, STREAMS // 2)
        await streams.flowing(upstream, STREAMS)

        pressed = time.monotonic()
        stopped = await first.call(key, "gatehouse__emergency_pause", {"scope": "system", "reason": "Both."})
        assert stopped["result"]["structuredContent"]["paused"]
        refused = await _refused(second, key)
        ended = await _all_ended(upstream, streams, STREAMS)
        _told("two processes", pressed, refused, ended, exact=exact)
        assert {last["error"]["data"]["reason"] for last in streams.last} == {"Both."}

        await second.rest("POST", "/api/v1/emergency/resume-all", {"scope": "system"}, key=key)
        async with asyncio.timeout(30):
            while "error" in await first.call(key, "drip__echo"):
                pass


async def test_a_stop_reaches_every_worker(
    upstream: Dripping, tmp_path: Path, postgres_url: str, redis_url: str, exact: bool
) -> None:
    env = {"GATEHOUSE_DATABASE_URL": postgres_url, "GATEHOUSE_REDIS_URL": redis_url}
    async with GatewayProcess(tmp_path / "data", "--workers", "2", **env) as gateway:
        key = await _register(gateway, upstream)
        streams = Streams()
        await streams.open(gateway, key, STREAMS)
        await streams.flowing(upstream, STREAMS)
        pressed = time.monotonic()
        status, body = await gateway.rest("POST", "/api/v1/emergency/pause-all", {"reason": "All."}, key=key)
        assert status == 200, body
        refused = await _refused(gateway, key, 40)
        ended = await _all_ended(upstream, streams, STREAMS)
        _told("two workers", pressed, refused, ended, exact=exact)
        assert {last["error"]["data"]["reason"] for last in streams.last} == {"All."}


async def test_nothing_passes_for_long_without_the_database(
    upstream: Dripping, tmp_path: Path, postgres_url: str, postgres: Any
) -> None:
    """Whichever notices first, who the caller is or what is stopped can no longer be known."""
    env = {"GATEHOUSE_DATABASE_URL": postgres_url, "GATEHOUSE_SECRET_KEY": SECRET}
    async with GatewayProcess(tmp_path / "data", **env) as gateway:
        key = await _register(gateway, upstream)
        assert "result" in await gateway.call(key, "drip__echo")
        postgres.stop()
        try:
            async with asyncio.timeout(60):
                while "error" not in await gateway.call(key, "drip__echo"):
                    pass
            passed = upstream.calls
            assert "error" in await gateway.call(key, "drip__echo")
            assert upstream.calls == passed
        finally:
            postgres.start()
        async with asyncio.timeout(30):
            while "error" in await gateway.call(key, "drip__echo"):
                await asyncio.sleep(0.05)
