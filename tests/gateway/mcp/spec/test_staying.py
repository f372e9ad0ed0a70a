"""What stays when the gateway goes and comes back, and where it listens when nobody says."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.app import Application
from gateway.cli.serve import serve
from registry.core.settings import Settings
from tests.gateway.mcp.door import Door, opened
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
