"""Change notices: telling clients that their lists, or resources they watch, are different now.

Legacy clients hear it on their GET stream, modern ones on `subscriptions/listen`. A client is told only of changes in
what it sees. Streams are bounded: a reader that does not keep up is ended, and lists again when it comes back.
What servers announce is heard by `gateway.mcp.watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import Params, ProtocolError, decode_params, encode
from gateway.mcp.subscription import ACKNOWLEDGED, LIST_CHANGED, RESOURCE_UPDATED

if TYPE_CHECKING:
    from gateway.mcp.catalog import View
    from gateway.mcp.task_notices import FollowedTasks
    from registry.servers.connection import Kind

MAX_WAITING = 64
MAX_SUBSCRIPTIONS = 1000
"""Resources that one stream may watch."""

_KINDS: dict[str, tuple[Kind, ...]] = {
    "notifications/tools/list_changed": ("tool",),
    "notifications/prompts/list_changed": ("prompt",),
    "notifications/resources/list_changed": ("resource", "template"),
}

Watched = Mapping[tuple[str, str], str]
"""The URI that the client knows, by server id and the server's own URI."""


class Listener:
    """One open stream of notices.

    Args:
        current: what the client sees now; `None` if it sees nothing any more.
        wanted: the methods it wants to hear of.
        watched: the resources it watches; may change while the stream is open.
        subscription: the id of a modern client's request.
        listed: what the client was shown last, by kind; what has changed since is told at once. The same object means
            the same session.
    """

    __slots__ = ("_current", "_seen", "_subscription", "events", "listed", "org_id", "wanted", "watched")

    def __init__(
        self,
        org_id: str,
        current: Callable[[], View | None],
        wanted: frozenset[str],
        watched: Watched,
        subscription: bytes | None,
        listed: Mapping[Kind, bytes] | None = None,
    ) -> None:
        self.org_id = org_id
        self.wanted = wanted
        self.watched = watched
        self.listed = listed
        self.events = sse.Mailbox(MAX_WAITING)
        self._current = current
        self._subscription = subscription
        self._seen = {method: self._fingerprint(method) for method in wanted}
        for method, kinds in _KINDS.items() if listed else ():
            shown = tuple(listed.get(kind, b"") for kind in kinds) if listed else ()
            if method in self._seen and all(shown):
                self._seen[method] = shown
        self.lists_changed()

    def take_over(self, other: Listener) -> None:
        """Go on telling where another stream of the same session stopped."""
        self._seen = other._seen
        self.lists_changed()

    def lists_changed(self) -> None:
        for method in self.wanted:
            fingerprint = self._fingerprint(method)
            if fingerprint != self._seen[method]:
                self._seen[method] = fingerprint
                self.put(method, {})

    def resource_updated(self, server_id: str, uri: str) -> None:
        known = self.watched.get((server_id, uri))
        if known is not None:
            self.put(RESOURCE_UPDATED, {"uri": msgspec.Raw(encode(known))})

    def put(self, method: str, params: Params) -> None:
        """Tell the client; one that does not keep up is told no more."""
        if self._subscription is not None:
            params = {**params, "_meta": _subscribed_meta(self._subscription, params.get("_meta"))}
        self.events.put(sse.frame(envelope.notification(method, params or None)))

    def _fingerprint(self, method: str) -> tuple[bytes, ...]:
        view = self._current()
        return () if view is None else tuple(view.fingerprint(kind) for kind in _KINDS[method])


class Notices:
    """All open streams of notices in this process."""

    def __init__(self) -> None:
        self._listeners: dict[Listener, None] = {}
        """In the order in which they were opened."""
        self._on_wanted: list[Callable[[set[str]], Awaitable[None]]] = []
        self._telling: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def on_wanted(self, tell: Callable[[set[str]], Awaitable[None]]) -> None:
        """Call `tell` with the servers whose watched resources have changed; it returns when they know."""
        self._on_wanted.append(tell)

    def wanted_of(self, server_id: str) -> set[str]:
        """The server's resources that some client watches."""
        return {uri for listener in self._listeners for server, uri in listener.watched if server == server_id}

    def lists_changed(self, org_id: str) -> None:
        for listener in self._telling_ones():
            if listener.org_id == org_id:
                listener.lists_changed()

    def resource_updated(self, server_id: str, uri: str) -> None:
        for listener in self._telling_ones():
            listener.resource_updated(server_id, uri)

    def _telling_ones(self) -> list[Listener]:
        """Of several streams of one session the newest: nothing is told twice."""
        by_session = {id(one.listed) if one.listed is not None else id(one): one for one in self._listeners}
        return list(by_session.values())

    async def watched_changed(self, servers: set[str]) -> None:
        """Have servers told what is watched now; returns when they know, or will not in a while."""
        for tell in self._on_wanted if servers else ():
            await tell(servers)

    def watches_changed(self, servers: set[str]) -> None:
        """As `watched_changed`, without waiting."""
        if servers:
            task = asyncio.create_task(self.watched_changed(servers))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def end_all(self) -> None:
        for listener in tuple(self._listeners):
            listener.events.end()

    def stream(
        self, org_id: str, current: Callable[[], View | None], watched: Watched, listed: Mapping[Kind, bytes]
    ) -> AsyncIterator[bytes]:
        """A legacy client's GET stream."""
        listener = Listener(org_id, current, frozenset(LIST_CHANGED.values()), watched, None, listed)
        # The first byte makes the response begin, so that the client knows that it is heard.
        return self._events(listener, sse.KEEP_ALIVE)

    def listen(
        self,
        org_id: str,
        current: Callable[[], View | None],
        identifier: bytes,
        asked: Params,
        tasks: FollowedTasks | None = None,
    ) -> AsyncIterator[bytes]:
        """A modern subscription: acknowledged with what it will really hear, ended by its empty result.

        Args:
            asked: what the client wants to hear of.
            tasks: those that it wants to hear of.

        Raises:
            ProtocolError: it asks for what is no list, or too much.
        """
        granted: dict[str, object] = {name: True for name in LIST_CHANGED if bytes(asked.get(name, b"")) == b"true"}
        methods = frozenset(LIST_CHANGED[name] for name in granted)
        watched = _watched(current(), asked)
        if watched:
            granted["resourceSubscriptions"] = list(watched.values())
        return self._subscribed(Listener(org_id, current, methods, watched, identifier), granted, identifier, tasks)

    async def _subscribed(
        self, listener: Listener, granted: dict[str, object], identifier: bytes, tasks: FollowedTasks | None
    ) -> AsyncIterator[bytes]:
        async with tasks.told_to(listener.put) if tasks is not None else nullcontext(()) as followed:
            agreed = {**granted, "taskIds": followed} if followed else granted
            acknowledgement = {**_subscription(identifier), "notifications": msgspec.Raw(encode(agreed))}
            first = sse.frame(envelope.notification(ACKNOWLEDGED, acknowledgement))
            events = self._events(listener, first)
            try:
                async for event in events:
                    yield event
            finally:
                await translate.close(events)
        ending = encode({"resultType": "complete", **_subscription(identifier)})
        yield sse.frame(envelope.result(identifier, ending))

    async def _events(self, listener: Listener, first: bytes) -> AsyncIterator[bytes]:
        self._listeners[listener] = None
        try:
            await self.watched_changed({server for server, _ in listener.watched})
            yield first
            while (event := await listener.events.next_event()) is not None:
                yield event
        finally:
            self._close(listener)
            self.watches_changed({server for server, _ in listener.watched})

    def _close(self, listener: Listener) -> None:
        streams = [one for one in self._listeners if one.listed is listener.listed and one.listed is not None]
        del self._listeners[listener]
        if len(streams) > 1 and streams[-1] is listener:
            streams[-2].take_over(listener)


def watchable(view: View, uri: str) -> tuple[str, str] | None:
    """Server id and own URI of a resource whose changes can be watched, by the URI that the client knows."""
    found = view.find_resource(uri)
    if found is None:
        return None
    server, own = found
    resources = server.capabilities.get("resources")
    return (server.id, own) if isinstance(resources, dict) and "subscribe" in resources else None


def _watched(view: View | None, asked: Params) -> dict[tuple[str, str], str]:
    raw = asked.get("resourceSubscriptions")
    if view is None or raw is None:
        return {}
    try:
        uris = msgspec.json.decode(raw, type=list[str])
    except msgspec.DecodeError:
        raise ProtocolError(protocol.INVALID_PARAMS, "resourceSubscriptions must be a list of URIs.") from None
    if len(uris) > MAX_SUBSCRIPTIONS:
        raise ProtocolError(protocol.INVALID_PARAMS, f"More than {MAX_SUBSCRIPTIONS} resources cannot be watched.")
    return {place: uri for uri in uris if (place := watchable(view, uri)) is not None}


def _subscribed_meta(identifier: bytes, given: msgspec.Raw | None) -> msgspec.Raw:
    own = {protocol.META_SUBSCRIPTION: msgspec.Raw(identifier)}
    return msgspec.Raw(encode({**(decode_params(given) if given is not None else {}), **own}))


def _subscription(identifier: bytes) -> Params:
    return {"_meta": msgspec.Raw(b'{"%b":%b}' % (protocol.META_SUBSCRIPTION.encode(), identifier))}
