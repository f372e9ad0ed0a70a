"""Change notices: telling the clients of an organisation that their lists are different now.

Legacy clients hear it on their GET stream, modern ones on `subscriptions/listen`. Streams are bounded: a reader that
does not keep up is ended, and lists again when it comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from gateway.mcp import envelope, protocol, sse
from gateway.mcp.envelope import Params, encode

KEEP_ALIVE_SECONDS = 15.0
MAX_WAITING = 64

LIST_CHANGED = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}


class Listener:
    """One open stream of notices."""

    __slots__ = ("org_id", "queue", "subscription", "wanted")

    def __init__(self, org_id: str, wanted: frozenset[str], subscription: bytes | None) -> None:
        self.org_id = org_id
        self.wanted = wanted
        self.subscription = subscription
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)

    def put(self, method: str) -> None:
        if method not in self.wanted:
            return
        try:
            self.queue.put_nowait(sse.frame(envelope.notification(method, self._params())))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        while self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)

    def _params(self) -> Params | None:
        return None if self.subscription is None else _subscription(self.subscription)


class Notices:
    """All open streams of notices in this process."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def lists_changed(self, org_id: str) -> None:
        for listener in tuple(self._listeners):
            if listener.org_id == org_id:
                for method in LIST_CHANGED.values():
                    listener.put(method)

    def end_all(self) -> None:
        for listener in tuple(self._listeners):
            listener.end()

    async def stream(self, org_id: str) -> AsyncIterator[bytes]:
        """A legacy client's GET stream."""
        listener = Listener(org_id, frozenset(LIST_CHANGED.values()), None)
        # The first byte makes the response begin, so that the client knows that it is heard.
        async for event in self._events(listener, sse.KEEP_ALIVE):
            yield event

    async def listen(self, org_id: str, identifier: bytes, asked: Params) -> AsyncIterator[bytes]:
        """A modern subscription: acknowledged with what it will really hear, ended by its empty result.

        Args:
            asked: the request's `notifications`.
        """
        granted = {name: True for name in LIST_CHANGED if bytes(asked.get(name, msgspec.Raw())) == b"true"}
        acknowledgement = {**_subscription(identifier), "notifications": msgspec.Raw(encode(granted))}
        listener = Listener(org_id, frozenset(LIST_CHANGED[name] for name in granted), identifier)
        first = sse.frame(envelope.notification("notifications/subscriptions/acknowledged", acknowledgement))
        async for event in self._events(listener, first):
            yield event
        ending = encode({"resultType": "complete", **_subscription(identifier)})
        yield sse.frame(envelope.result(identifier, ending))

    async def _events(self, listener: Listener, first: bytes) -> AsyncIterator[bytes]:
        self._listeners.add(listener)
        try:
            yield first
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        event = await listener.queue.get()
                except TimeoutError:
                    event = sse.KEEP_ALIVE
                if event is None:
                    return
                yield event
        finally:
            self._listeners.discard(listener)


def _subscription(identifier: bytes) -> Params:
    return {"_meta": msgspec.Raw(b'{"%b":%b}' % (protocol.META_SUBSCRIPTION.encode(), identifier))}
