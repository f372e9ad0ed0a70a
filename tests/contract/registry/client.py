"""A client that holds every answer against the document: status, form, and the headers of its rate limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.registry.endpoints import ENDPOINTS, ERROR, VALIDATION_ERROR
from tests.contract.shapes import differences
from tests.gateway.mcp.door import HOST, Answer, Door


class Client:
    """Asks a started application.

    Args:
        server: fills `{server_id}` where a call does not.
    """

    def __init__(self, door: Door, server: str | None = None) -> None:
        self.door = door
        self.server = server

    async def ask(self, endpoint: str, body: Any = None, *, query: str = "", **ids: str) -> Any:
        """The body of a successful answer, of which all that the document promises has been checked."""
        answer = await self.send(endpoint, body, query=query, **ids)
        promised = ENDPOINTS[endpoint]
        assert answer.status == promised.status, answer.body
        assert list(differences(promised.answer, answer.json())) == []
        return answer.json()

    async def refused(
        self, endpoint: str, status: int, body: Any = None, *, query: str = "", key: str | None = None, **ids: str
    ) -> Any:
        """The body of an error answer of that status, in the document's form."""
        answer = await self.send(endpoint, body, query=query, key=key, **ids)
        assert answer.status == status, answer.body
        error = answer.json()
        assert list(differences(VALIDATION_ERROR if status == 422 else ERROR, error)) == []
        assert error["status"] == status
        assert error["request_id"] == answer.headers["x-request-id"]
        return error

    async def send(
        self, endpoint: str, body: Any = None, *, query: str = "", key: str | None = None, **ids: str
    ) -> Answer:
        method, _, path = endpoint.partition(" ")
        if self.server is not None:
            ids.setdefault("server_id", self.server)
        path = path.format(**ids)
        return await self.door.rest(method, f"{path}?{query}" if query else path, body, key=key)

    @asynccontextmanager
    async def socket(self, server_id: str, query: str, **headers: str) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
        """What the application sends to a socket that follows a server; the client goes at the end of the block."""
        sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        gone = asyncio.Event()
        begun = False

        async def receive() -> dict[str, Any]:
            nonlocal begun
            if begun:
                await gone.wait()
                return {"type": "websocket.disconnect", "code": 1000}
            begun = True
            return {"type": "websocket.connect"}

        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "websocket",
            "path": f"/ws/health/{server_id}",
            "query_string": query.encode(),
            "headers": [(b"host", HOST.encode()), *given],
        }
        serving = asyncio.create_task(self.door.app(scope, receive, sent.put))
        try:
            yield sent
        finally:
            gone.set()
            async with asyncio.timeout(30):
                await serving

    async def update(self, socket: asyncio.Queue[dict[str, Any]]) -> Any:
        """The next update, held against the document."""
        async with asyncio.timeout(30):
            while (message := await socket.get())["type"] != "websocket.send":
                assert message["type"] == "websocket.accept"
        update = json.loads(message["text"])
        assert list(differences(ENDPOINTS["WEBSOCKET /ws/health/{server_id}"].answer, update)) == []
        return update

    async def closed(self, socket: asyncio.Queue[dict[str, Any]]) -> int:
        """The code that the socket is closed with, whatever comes before."""
        async with asyncio.timeout(30):
            while (message := await socket.get())["type"] != "websocket.close":
                pass
        return int(message["code"])
