"""A started application whose containers are in memory, two users, and a client that checks answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.core.clock import SystemClock
from registry.identity.models import User
from tests.contract.shapes import differences
from tests.contract.workspaces.endpoints import ENDPOINTS
from tests.gateway.mcp.door import Answer, Door, opened
from tests.gateway.mcp.echo import Echo
from tests.gateway.mcp.inside import answering, in_memory
from tests.support.containers import MemoryRuntime
from tests.support.identity import add_user


class Client:
    """Holds every answer against the document.

    Args:
        key: whose calls these are.
        user_id: whose key it is.
    """

    def __init__(self, door: Door, key: str, user_id: str) -> None:
        self.door = door
        self.key = key
        self.user_id = user_id

    async def ask(self, endpoint: str, body: Any = None, *, query: str = "", **ids: Any) -> Any:
        """The body of a successful answer, of which all that the document promises has been checked."""
        answer = await self.send(endpoint, body, query=query, **ids)
        promised = ENDPOINTS[endpoint]
        assert answer.status == promised.status, answer.body
        if promised.answer is None:
            assert answer.body == b""
            return None
        assert list(differences(promised.answer, answer.json())) == []
        return answer.json()

    async def refused(self, endpoint: str, status: int, body: Any = None, *, query: str = "", **ids: Any) -> Any:
        """The body of an error answer of that status."""
        answer = await self.send(endpoint, body, query=query, **ids)
        assert answer.status == status, answer.body
        error = answer.json()
        assert error["detail"]
        return error

    async def send(self, endpoint: str, body: Any = None, *, query: str = "", **ids: Any) -> Answer:
        method, _, path = endpoint.partition(" ")
        path = path.format(**ids)
        return await self.door.rest(method, f"{path}?{query}" if query else path, body, key=self.key)

    async def settle(self) -> None:
        await self.door.app.workspaces.lifecycle.settled()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> MemoryRuntime:
    return in_memory(monkeypatch)


@pytest.fixture
async def inside(runtime: MemoryRuntime) -> AsyncIterator[Echo]:
    """What answers as the server in every container."""
    async with answering(runtime) as server:
        yield server


@pytest.fixture
async def door(runtime: MemoryRuntime, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def admin(door: Door) -> Client:
    found = (await door.rest("GET", "/api/v1/users")).json()
    return Client(door, door.admin, found["users"][0]["id"])


@pytest.fixture
async def member(door: Door, admin: Client) -> Client:
    """An ordinary user of the same organisation."""
    async with door.app.database.reading() as session:
        org_id = (await session.get_one(User, admin.user_id)).org_id
    person = await add_user(door.app.database, SystemClock(), org_id, "member@acme.test")
    made = await admin.ask("POST /api/v1/api-keys", {"name": "member's", "user_id": person.user.id})
    return Client(door, made["data"]["api_key"], person.user.id)
