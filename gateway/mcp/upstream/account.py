"""Requests with an account: repeated once where the server refuses the token and there is another.

It stands before a transport of servers that are signed in to, and only there. Whose account it is, and what becomes of
it, `manager` and the registry know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from gateway.mcp.envelope import Message
from gateway.mcp.upstream.port import Answer, CredentialsRefused, Outgoing, Upstream


class AccountUpstream:
    """Args:
    again: what to repeat a refused request with; `None` if there is nothing else.
    """

    def __init__(self, upstream: Upstream, again: Callable[[CredentialsRefused], Awaitable[Upstream | None]]) -> None:
        self._upstream = upstream
        self._again = again

    async def request(self, outgoing: Outgoing) -> Answer:
        try:
            return await self._upstream.request(outgoing)
        except CredentialsRefused as error:
            # A refused request was not carried out, so this is safe whatever it asks for.
            other = await self._again(error)
            if other is None:
                raise
        return await other.request(outgoing)

    async def notify(self, outgoing: Outgoing) -> None:
        await self._upstream.notify(outgoing)

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message] | None:
        return self._upstream.listen(resources, tasks)

    async def close(self) -> None:
        await self._upstream.close()
