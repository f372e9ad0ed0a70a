"""What the tests of several processes ask of servers and gateways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select

from registry.core.db import Database
from registry.core.events import EventBus
from registry.sessions.models import StoredSession
from tests.e2e.wire import Legacy
from tests.support.faulty import Faulty
from tests.support.gateway import RunningGateway

SOON_SECONDS = 10.0
"""What holds within a second may take longer on a loaded machine; that it never happens is what a test is for."""


async def session_of_last_call(server: Faulty) -> str:
    call = next(request for request in reversed(server.requests) if b'"tools/call"' in request)
    lines = call.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("mcp-session-id:"))


async def soon(met: Callable[[], Any], seconds: float = SOON_SECONDS) -> float:
    """Seconds until a condition held."""
    began = time.monotonic()
    while not await asyncio.to_thread(met):
        assert time.monotonic() - began < seconds, "it never happened"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def register(gateway: RunningGateway, server: Faulty, name: str = "stateful", key: str | None = None) -> None:
    body = {"name": name, "base_url": server.url}
    answer = await asyncio.to_thread(gateway.rest, "POST", "/v1/mcp/servers", body, key=key)
    assert answer.status == 201, answer


async def saved(database_url: str) -> None:
    """Return when a session has been written down."""
    database = Database(database_url, EventBus())
    try:
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                async with database.reading() as session:
                    if await session.scalar(select(func.count()).select_from(StoredSession)):
                        return
                await asyncio.sleep(0.02)
    finally:
        await database.close()


def at(gateway: RunningGateway, session: Legacy) -> Legacy:
    """The same client, as it would be had its connection gone to another process."""
    moved = Legacy.__new__(Legacy)
    moved.__dict__.update(session.__dict__)
    moved.url = f"{gateway.url}/mcp"
    return moved
