"""A client that holds every answer against the document: status, form, and the headers of its rate limit."""

from __future__ import annotations

from typing import Any

from tests.contract.registry.endpoints import ENDPOINTS, ERROR, VALIDATION_ERROR
from tests.contract.shapes import differences
from tests.gateway.mcp.door import Answer, Door


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
