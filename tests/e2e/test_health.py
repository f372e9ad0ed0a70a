"""A server goes down and comes back: everybody who should know is told, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway.mcp.echo import Echo
from tests.support.canary import Canary, http_answer
from tests.support.gateway import RunningGateway

SECONDS = 60.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    made = await asyncio.to_thread(RunningGateway, tmp_path / "data")
    yield made
    await asyncio.to_thread(made.stop)


async def rest(gateway: RunningGateway, method: str, path: str, body: Any = None) -> Any:
    answer = await asyncio.to_thread(gateway.rest, method, path, body)
    assert answer.status < 300, answer.text
    return answer.json()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await holds():
            await asyncio.sleep(0.1)


async def test_a_server_goes_down_and_comes_back(gateway: RunningGateway) -> None:
    server = Echo()
    hook_bodies: list[dict[str, Any]] = []

    def receive(request: bytes) -> bytes:
        hook_bodies.append(json.loads(request.partition(b"\r\n\r\n")[2]))
        return http_answer(200, b"{}")

    listener, hook = Canary(server.answer), Canary(receive)
    await hook.start()
    await listener.start()
    port = listener.port
    made = await rest(gateway, "POST", "/v1/mcp/servers", {"name": "Echo", "base_url": listener.url + "mcp"})
    path = f"/v1/mcp/servers/{made['id']}/health"
    await rest(gateway, "PUT", f"{path}/config", {"check_interval_seconds": 1, "retry_count": 1})
    channel = {"name": "hook", "type": "webhook", "config": {"url": hook.url + "in"}}
    await rest(gateway, "POST", f"{path}/notifications", channel)
    states: list[str] = []

    async with aiohttp.ClientSession() as http:
        headers = {"X-API-Key": gateway.admin_key}
        async with http.ws_connect(f"{gateway.url}/ws/health/{made['id']}", headers=headers) as socket:

            async def told(status: str) -> None:
                async with asyncio.timeout(SECONDS):
                    while not states or states[-1] != status:
                        states.append((await socket.receive_json())["health_status"])

            await told("healthy")
            await listener.stop()
            await told("unhealthy")
            await until(lambda: _is(hook_bodies, 1))
            listener._server = await asyncio.start_server(listener._serve, listener.host, port)
            await told("healthy")
            await until(lambda: _is(hook_bodies, 2))
    assert [(body["type"], body["data"]["type"]) for body in hook_bodies] == [
        ("alert.raised", "server_unreachable"),
        ("alert.resolved", "server_unreachable"),
    ]
    (alert,) = (await rest(gateway, "GET", f"{path}/alerts"))["alerts"]
    assert alert["resolved_at"] is not None
    metrics = await rest(gateway, "GET", f"{path}/metrics")
    assert metrics["summary"]["failed_checks"] >= 1
    assert 0 < metrics["summary"]["uptime_percentage"] < 100
    await listener.stop()
    await hook.stop()


async def _is(found: list[Any], number: int) -> bool:
    return len(found) >= number
