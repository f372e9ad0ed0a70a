"""A whole gateway in the test's own loop, on a loopback port, and an HTTP client that speaks for its admin."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from gateway.app import Application
from gateway.server import http_protocol
from registry.core.settings import Settings
from tests.support.components.machine import free_port
from tests.support.database import lay_schema


@dataclass
class Running:
    """A gateway that serves.

    Args:
        key: the first-run admin's.
        agent_key: may list, call and read.
    """

    application: Application
    url: str
    key: str
    agent_key: str
    operator_token: str
    http: aiohttp.ClientSession

    async def rest(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and parsed body of a REST call."""
        sent = {"Authorization": f"Bearer {key or self.key}", **(headers or {})}
        async with self.http.request(method, self.url + path, json=body, headers=sent) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def register(self, name: str, **fields: Any) -> dict[str, Any]:
        """Register a server; a command is registered as the machine's operator."""
        headers = {"X-Gatehouse-Operator": self.operator_token}
        status, server = await self.rest("POST", "/v1/mcp/servers", {"name": name, **fields}, headers=headers)
        assert status == 201, server
        return server


@asynccontextmanager
async def running_gateway(directory: Path, *, at: int | None = None, **changes: Any) -> AsyncIterator[Running]:
    """Serve a gateway on its first run until the block ends.

    Args:
        at: the port, where a test has to know it beforehand.
        changes: further settings.
    """
    port = at or free_port()
    settings = Settings(data_dir=directory, stdio_user="same", rate_limits="off", **changes)
    await lay_schema(directory)
    application = Application(settings, "127.0.0.1", port)
    made = await application.prepare()
    assert made is not None
    assert made.admin_api_key is not None
    http = http_protocol(settings)
    server = uvicorn.Server(
        uvicorn.Config(application, host="127.0.0.1", port=port, lifespan="on", log_config=None, ws="none", http=http)
    )
    # A test's loop has its own signals, and ends on its own terms.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the gateway did not start"
        await asyncio.sleep(0)
    token = (directory / "operator.token").read_text().strip()
    try:
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}"
            yield Running(application, url, made.admin_api_key, made.agent_api_key, token, client)
    finally:
        application.drain()
        server.should_exit = True
        await serving
