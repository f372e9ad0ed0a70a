"""`gatehouse serve --workers 2`: both serve, one that is killed is replaced, and nothing is left at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.wire import Legacy, Modern
from tests.gateway.replicas.seen import register, saved, session_of_last_call, soon
from tests.support.components.redis import Redis
from tests.support.faulty import Faulty
from tests.support.gateway import RunningGateway, exchange, run_gatehouse
from tests.support.servers.process import alive, descendants


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path / "data", args=["--workers", "2"], env={"GATEHOUSE_RATE_LIMITS": "off"}) as made:
        yield made


async def test_calls_and_sessions_are_the_same_whichever_worker_answers(
    gateway: RunningGateway, server: Faulty
) -> None:
    assert len(descendants(gateway.pid)) == 2
    assert gateway.output.count("First run.") == 1
    await register(gateway, server)
    client = await asyncio.to_thread(Legacy, f"{gateway.url}/mcp", gateway.agent_key)
    modern = Modern(f"{gateway.url}/mcp", gateway.agent_key)
    # Connections are shared out as the system likes: many, so that both workers are among those that answer.
    await soon(lambda: all("stateful__good" in modern.listed("tools") for _ in range(200)))
    await asyncio.to_thread(client.call, "stateful__good")
    await saved(f"sqlite+aiosqlite:///{gateway.data_dir / 'gatehouse.db'}")
    before = await session_of_last_call(server)
    # Each request has a connection of its own, so both workers get some.
    for _ in range(30):
        await asyncio.to_thread(client.call, "stateful__good")
        assert await session_of_last_call(server) == before
    assert (await asyncio.to_thread(client.close)).status == 204
    await soon(lambda: all(client.send("ping").status == 404 for _ in range(20)))


async def test_a_worker_that_is_killed_is_replaced(gateway: RunningGateway) -> None:
    first, second = descendants(gateway.pid)
    os.kill(first, signal.SIGKILL)

    def replaced() -> bool:
        now = descendants(gateway.pid)
        return len(now) == 2 and first not in now and second in now

    await soon(replaced)
    await soon(lambda: exchange(f"{gateway.url}/readyz").status == 200)
    assert "a worker has died" in gateway.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_it_is_told_to_end(gateway: RunningGateway, number: signal.Signals) -> None:
    family = [gateway.pid, *descendants(gateway.pid)]
    os.kill(gateway.pid, number)
    assert gateway.child.wait(30) == 0
    assert not [pid for pid in family if alive(pid)]


async def test_workers_end_when_their_parent_is_killed(gateway: RunningGateway) -> None:
    workers = descendants(gateway.pid)
    gateway.child.kill()
    await soon(lambda: not any(alive(pid) for pid in workers))


def test_limits_that_workers_cannot_keep_together_are_refused(tmp_path: Path) -> None:
    ran = run_gatehouse("serve", "--workers", "2", "--port", "0", home=tmp_path, GATEHOUSE_CALLS_PER_MINUTE="10")
    assert ran.code != 0
    assert "GATEHOUSE_REDIS_URL" in ran.err


def test_with_redis_they_are_kept(tmp_path: Path, redis: Redis) -> None:
    redis.empty()
    env = {"GATEHOUSE_CALLS_PER_MINUTE": "1000", "GATEHOUSE_REDIS_URL": redis.url}
    with RunningGateway(tmp_path / "data", args=["--workers", "2"], env=env) as made:
        assert len(descendants(made.pid)) == 2
