"""What stays when the gateway goes and comes back, and where it listens when nobody says."""

from __future__ import annotations

import gc
import inspect
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.app import Application
from gateway.cli.serve import serve
from registry.core.settings import Settings
from registry.sessions.models import StoredSession
from tests.gateway.mcp.door import LEGACY, Door, opened
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.spec.conftest import SLUGS, answer_of
from tests.gateway.mcp.spec.server import spoken
from tests.gateway.mcp.spec.test_lifecycle import head_of

requirement = pytest.mark.requirement


@asynccontextmanager
async def started_again(data_dir: Path, key: str) -> AsyncIterator[Door]:
    app = Application(Settings(data_dir=data_dir, rate_limits="off"), "127.0.0.1", 8000)
    assert await app.prepare() is None
    await app.start()
    try:
        yield Door(app, key, key)
    finally:
        await app.stop()


@requirement("legacy-http.survives-restart")
@pytest.mark.parametrize("server", sorted(SLUGS))
async def test_a_client_that_comes_back_with_its_id_goes_on(tmp_path: Path, server: str) -> None:
    async with spoken(modern=server == "modern") as upstream:
        async with opened(tmp_path / "data") as door:
            await door.register("stays", upstream.url)
            speaker = await Speaker.of(door, "legacy", "/mcp", capabilities={"roots": {}})
            await speaker.request("logging/setLevel", {"level": "critical"}).done()
            assert "result" in answer_of(await speaker.call("stays__echo").done())
            key, session = door.admin, speaker.session
            before, _ = upstream.requests_of("tools/call")[-1]
        async with started_again(tmp_path / "data", key) as again:
            back = Speaker(again, "/mcp", key, session)
            assert "result" in answer_of(await back.call("stays__echo").done())
            after, sent = upstream.requests_of("tools/call")[-1]
            # Its session at the server goes on as well.
            assert head_of(after, b"mcp-session-id") == head_of(before, b"mcp-session-id")
            if server == "modern":
                assert sent["params"]["_meta"]["io.modelcontextprotocol/logLevel"] == "critical"
            assert (await back.send("DELETE").done()).status == 204
            assert (await back.request("ping").done()).status == 404


@requirement("http.local-only")
def test_only_this_machine_is_listened_to_unless_somebody_says_otherwise() -> None:
    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"


async def abandoned(data_dir: Path, count: int) -> None:
    """Clients that shake hands and never come back leave neither rows nor sessions, and hardly any memory."""
    async with opened(data_dir) as door:
        opening = {
            "protocolVersion": LEGACY,
            "capabilities": {"roots": {}},
            "clientInfo": {"name": "c", "version": "1"},
        }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}).encode()
        headers = {"Authorization": f"Bearer {door.admin}", "Content-Type": "application/json"}
        for _ in range(100):
            await door.send("POST", "/mcp", headers, body)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                assert (await door.send("POST", "/mcp", headers, body)).status == 200
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        await door.app.path.sessions.save()
        assert door.app.path.sessions.in_use() == []
        assert grown < 1024 * 1024, f"{grown} bytes of {count} sessions"
        async with door.app.database.reading() as session:
            assert (await session.execute(select(func.count()).select_from(StoredSession))).scalar_one() == 0


@requirement("legacy-http.abandoned")
async def test_a_thousand_abandoned_sessions_leave_nothing(tmp_path: Path) -> None:
    await abandoned(tmp_path / "data", 1000)


@pytest.mark.long
async def test_a_hundred_thousand_abandoned_sessions_leave_nothing(tmp_path: Path) -> None:
    await abandoned(tmp_path / "data", 100_000)
