"""A legacy session outlives the process it was opened in, and is the same session in every process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from registry.sessions.redis import CHANGED
from tests.e2e.wire import Legacy
from tests.gateway.replicas.seen import at, register, saved, session_of_last_call, soon
from tests.support.components.machine import ask
from tests.support.components.redis import Redis
from tests.support.faulty import Faulty
from tests.support.gateway import RunningGateway


async def test_a_client_goes_on_after_a_restart(tmp_path: Path, server: Faulty) -> None:
    gateway = await asyncio.to_thread(RunningGateway, tmp_path / "data")
    await register(gateway, server)
    client = await asyncio.to_thread(Legacy, f"{gateway.url}/mcp", gateway.agent_key)
    await asyncio.to_thread(client.call, "stateful__good")
    before = await session_of_last_call(server)
    await asyncio.to_thread(gateway.stop)
    again = await asyncio.to_thread(RunningGateway, gateway.data_dir, port=gateway.port)
    try:
        await asyncio.to_thread(client.call, "stateful__good")
        assert await session_of_last_call(server) == before
    finally:
        await asyncio.to_thread(again.stop)


async def test_after_a_kill_what_was_saved_goes_on(tmp_path: Path, server: Faulty) -> None:
    gateway = await asyncio.to_thread(RunningGateway, tmp_path / "data")
    await register(gateway, server)
    client = await asyncio.to_thread(Legacy, f"{gateway.url}/mcp", gateway.agent_key)
    await asyncio.to_thread(client.call, "stateful__good")
    before = await session_of_last_call(server)
    await saved(f"sqlite+aiosqlite:///{gateway.data_dir / 'gatehouse.db'}")
    gateway.child.kill()
    await asyncio.to_thread(gateway.stop)
    again = await asyncio.to_thread(RunningGateway, gateway.data_dir, port=gateway.port)
    try:
        await asyncio.to_thread(client.call, "stateful__good")
        assert await session_of_last_call(server) == before
    finally:
        await asyncio.to_thread(again.stop)


async def _is_one_session(
    first: RunningGateway, second: RunningGateway, server: Faulty, written: Awaitable[object]
) -> None:
    await register(first, server)
    key = first.agent_key
    here = await asyncio.to_thread(Legacy, f"{first.url}/mcp", key)
    there = at(second, here)
    await soon(lambda: "stateful__good" in there.listed("tools"))
    await asyncio.to_thread(here.call, "stateful__good")
    before = await session_of_last_call(server)
    # The session is written down behind the call.
    await written
    for client in (there, here, there):
        await asyncio.to_thread(client.call, "stateful__good")
        assert await session_of_last_call(server) == before
    assert (await asyncio.to_thread(here.close)).status == 204
    assert (await asyncio.to_thread(here.send, "ping")).status == 404
    await soon(lambda: there.send("ping").status == 404)


async def test_a_session_is_one_session_at_both_and_its_end_an_end_at_both(
    pair: tuple[RunningGateway, RunningGateway], postgres_env: dict[str, str], server: Faulty
) -> None:
    await _is_one_session(*pair, server, saved(postgres_env["GATEHOUSE_DATABASE_URL"]))


async def test_a_session_moves_between_processes_by_redis(
    tmp_path: Path, postgres_env: dict[str, str], redis: Redis, server: Faulty
) -> None:
    redis.empty()
    env = {**postgres_env, "GATEHOUSE_REDIS_URL": redis.url}
    first = await asyncio.to_thread(RunningGateway, tmp_path / "first", env=env)
    second = await asyncio.to_thread(RunningGateway, tmp_path / "second", env=env)
    try:
        # Limits are in the same Redis, so that it holds something tells nothing.
        written = soon(lambda: ask(redis.port, f"EXISTS {CHANGED}\r\n".encode()) == b":1\r\n")
        await _is_one_session(first, second, server, written)
    finally:
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(second.stop)


async def test_redis_that_has_gone_fails_no_call(tmp_path: Path, postgres_env: dict[str, str], server: Faulty) -> None:
    env = {**postgres_env, "GATEHOUSE_REDIS_URL": "redis://127.0.0.1:1/0"}
    gateway = await asyncio.to_thread(RunningGateway, tmp_path / "data", env=env)
    try:
        await register(gateway, server)
        client = await asyncio.to_thread(Legacy, f"{gateway.url}/mcp", gateway.agent_key)
        for _ in range(3):
            await asyncio.to_thread(client.call, "stateful__good")
        assert (await asyncio.to_thread(client.close)).status == 204
        assert (await asyncio.to_thread(client.send, "ping")).status == 404
    finally:
        await asyncio.to_thread(gateway.stop)
