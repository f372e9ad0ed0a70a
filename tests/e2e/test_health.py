"""A server goes down and comes back: everybody who should know is told, once; one that flaps is told of no more.

All of it is real: the gateway and its process, the server's connections, the receiver of webhooks, the mail server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiosmtpd.smtp import SMTP, Envelope

from tests.gateway.mcp.echo import Echo
from tests.support.canary import Canary, http_answer
from tests.support.gateway import RunningGateway

SECONDS = 60.0
INTERVAL = 1
DOWN = [("alert.raised", "server_unreachable")]
OVER = ("alert.resolved", "server_unreachable")


@dataclass
class Scene:
    """A gateway that watches a server, and everything that hears of it.

    Args:
        posts: what the receiver of webhooks was sent: headers and body.
        subjects: of the mails.
        states: what the socket has told.
    """

    gateway: RunningGateway
    listener: Canary
    port: int
    path: str = ""
    secret: str = ""
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def receive(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
        self.posts.append(({name.lower(): value.strip() for name, _, value in lines}, body))
        self.news.set()
        return http_answer(200, b"{}")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.subjects.append(str(message_from_bytes(envelope.content)["Subject"]))
        self.news.set()
        return "250 taken"

    async def follow(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            self.states.append(json.loads(message.data)["health_status"])
            self.news.set()

    async def rest(self, method: str, path: str, body: Any = None) -> Any:
        answer = await asyncio.to_thread(self.gateway.rest, method, path, body)
        assert answer.status < 300, answer.text
        return answer.json()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():
                self.news.clear()
                await self.news.wait()

    async def told(self, status: str) -> None:
        await self.until(lambda: self.states[-1:] == [status])

    async def down(self) -> None:
        await self.listener.stop()
        await self.told("unhealthy")

    async def up(self) -> None:
        server = await asyncio.start_server(self.listener._serve, self.listener.host, self.port)
        self.listener._server = server
        await self.told("healthy")

    @property
    def heard(self) -> list[tuple[str, str]]:
        """What the receiver was told, in the order in which it happened; delivery has none of its own."""
        told = sorted((json.loads(body) for _, body in self.posts), key=lambda each: each["timestamp"])
        return [(each["type"], each["data"]["type"]) for each in told]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    listener = Canary(Echo().answer)
    await listener.start()
    made = Scene(gateway=None, listener=listener, port=listener.port)  # type: ignore[arg-type]
    hook = Canary(made.receive)
    await hook.start()
    loop = asyncio.get_running_loop()
    mail = await loop.create_server(lambda: SMTP(made, loop=loop), "127.0.0.1", 0)
    env = {"GATEHOUSE_SMTP_URL": f"smtp://127.0.0.1:{mail.sockets[0].getsockname()[1]}?from=gate@acme.test"}
    made.gateway = await asyncio.to_thread(RunningGateway, tmp_path / "data", env=env)
    server = await made.rest("POST", "/v1/mcp/servers", {"name": "Echo", "base_url": listener.url + "mcp"})
    made.path = f"/v1/mcp/servers/{server['id']}/health"
    await made.rest("PUT", f"{made.path}/config", {"check_interval_seconds": INTERVAL, "retry_count": 1})
    channel = {"name": "hook", "type": "webhook", "config": {"url": hook.url + "in"}}
    made.secret = (await made.rest("POST", f"{made.path}/notifications", channel))["secrets"]["secret"]
    channel = {"name": "mail", "type": "email", "config": {"recipients": ["ada@acme.test"]}}
    await made.rest("POST", f"{made.path}/notifications", channel)
    async with aiohttp.ClientSession(headers={"X-API-Key": made.gateway.admin_key}) as http:
        async with http.ws_connect(f"{made.gateway.url}/ws/health/{server['id']}") as socket:
            following = asyncio.create_task(made.follow(socket))
            await made.told("healthy")
            yield made
        await following
    await asyncio.to_thread(made.gateway.stop)
    await listener.stop()
    await hook.stop()
    mail.close()
    await mail.wait_closed()


async def test_a_server_goes_down_and_comes_back(scene: Scene) -> None:
    await scene.down()
    await scene.until(lambda: len(scene.posts) == len(scene.subjects) == 1)
    (alert,) = (await scene.rest("GET", f"{scene.path}/alerts?open_only=true"))["alerts"]
    assert (alert["type"], alert["severity"], alert["resolved_at"]) == ("server_unreachable", "critical", None)
    await scene.up()
    await scene.until(lambda: len(scene.posts) == len(scene.subjects) == 2)
    assert scene.heard == [*DOWN, OVER]
    assert sorted(scene.subjects) == [
        "[critical] Echo: server_unreachable raised",
        "[critical] Echo: server_unreachable resolved",
    ]
    # The socket told of the change, and of nothing in between.
    changes = [state for state, before in zip(scene.states, [None, *scene.states], strict=False) if state != before]
    assert changes == ["healthy", "unhealthy", "healthy"]
    key = base64.b64decode(scene.secret.removeprefix("whsec_"))
    for headers, body in scene.posts:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{signature}"
    (alert,) = (await scene.rest("GET", f"{scene.path}/alerts"))["alerts"]
    assert alert["resolved_at"] is not None
    assert (await scene.rest("GET", f"{scene.path}/alerts?open_only=true"))["alerts"] == []
    await _known_by_the_next_check(scene)


async def _known_by_the_next_check(scene: Scene) -> None:
    """The first check of a server that was down said so: nothing was waited for beyond its interval."""
    metrics = await scene.rest("GET", f"{scene.path}/metrics")
    assert metrics["summary"]["failed_checks"] >= 1
    assert 0 < metrics["summary"]["uptime_percentage"] < 100
    points = metrics["metrics"]
    first = next(number for number, point in enumerate(points) if not point["uptime"])
    assert points[first]["status"] == "unhealthy"
    before, after = (datetime.fromisoformat(points[number]["timestamp"]) for number in (first - 1, first))
    # A check is repeated once, a second later at most; the rest is for a machine that has much to do.
    assert (after - before).total_seconds() < INTERVAL + 1 + SECONDS / 2


async def test_a_server_that_flaps_is_told_of_and_then_no_more(scene: Scene) -> None:
    for _ in range(2):
        await scene.down()
        await scene.up()
    await scene.until(lambda: ("alert.raised", "flapping") in scene.heard)
    before = list(scene.heard)
    assert before[0] == DOWN[0]
    assert before.count(("alert.raised", "flapping")) == 1
    for _ in range(3):
        await scene.down()
        await scene.up()
    # It is told of on the socket each time. On the channels it has become quiet, and stays so.
    assert sum(state == "unhealthy" for state in scene.states) >= 5
    jobs = await scene.rest("GET", "/v1/jobs?status=waiting")
    assert jobs["total"] == 0
    assert scene.heard == before
    assert len(scene.subjects) == len(before)
    open_now = (await scene.rest("GET", f"{scene.path}/alerts?open_only=true"))["alerts"]
    assert "flapping" in {alert["type"] for alert in open_now}
