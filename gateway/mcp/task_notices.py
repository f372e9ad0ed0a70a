"""Changes of tasks on their way to a modern client that follows them: `notifications/tasks`, by the ids it knows.

Each subscription has lines of its own to the servers that run its tasks, opened before it is acknowledged and opened
again when they break; what was missed meanwhile, polling tells. Neighbours: `gateway.mcp.tasks` knows the ids,
`gateway.mcp.notices` has the client's stream. Source: SEP-2663.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import protocol
from gateway.mcp.envelope import UNREADABLE, Message, Params, ProtocolError, decode_params, encode
from gateway.mcp.subscription import ACKNOWLEDGED, TASK_CHANGED
from gateway.mcp.tasks import EXTENSION, needs_extension

if TYPE_CHECKING:
    from gateway.mcp.request import Request
    from gateway.mcp.tasks import TaskIds
    from gateway.mcp.upstream.manager import Upstreams
    from registry.core.clock import Clock
    from registry.servers.connection import Connection

MOST_TASKS = 1000
"""Tasks that one subscription may follow."""
OPEN_SECONDS = 2.0
"""How long a client waits for its servers; the tasks of one that is slow are acknowledged without it knowing."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

Put = Callable[[str, Params], None]
"""Tells the client something: method and parameters."""


class _Filter(msgspec.Struct):
    taskIds: list[str] = []


class _Acknowledged(msgspec.Struct):
    notifications: _Filter = msgspec.field(default_factory=_Filter)


class _Changed(msgspec.Struct):
    taskId: str


@dataclass
class _Line:
    """The tasks at one server: the id that the client knows, by the server's own."""

    connection: Connection
    shown: dict[str, str] = field(default_factory=dict[str, str])
    granted: list[str] = field(default_factory=list[str])
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class TaskNotices:
    """Follows tasks at their servers."""

    def __init__(self, ids: TaskIds, upstreams: Upstreams, clock: Clock) -> None:
        self._ids = ids
        self._upstreams = upstreams
        self._clock = clock

    def wanted(self, request: Request, asked: Params) -> FollowedTasks | None:
        """What a subscription's filter asks for; tasks that are not the caller's are left out.

        Raises:
            ProtocolError: the client has not declared the extension, or asks for what is no list, or too much.
        """
        if "taskIds" not in asked:
            return None
        try:
            shown = msgspec.json.decode(asked["taskIds"], type=list[str])
        except UNREADABLE:
            raise ProtocolError(protocol.INVALID_PARAMS, "taskIds must be a list of task ids.") from None
        if len(shown) > MOST_TASKS:
            raise ProtocolError(protocol.INVALID_PARAMS, f"More than {MOST_TASKS} tasks cannot be followed.")
        if EXTENSION not in request.capabilities:
            raise needs_extension()
        servers = {server.id: server for server in request.view.servers}
        lines: dict[str, _Line] = {}
        for one in shown if request.principal.may("mcp:tools:call") else ():
            with suppress(ProtocolError):
                server_id, own = self._ids.open(request.principal, one)
                if server_id in servers:
                    line = lines.setdefault(server_id, _Line(servers[server_id].connection))
                    line.shown[own] = one
        return FollowedTasks(lines, self._upstreams, self._clock)


class FollowedTasks:
    """The tasks of one subscription."""

    def __init__(self, lines: Mapping[str, _Line], upstreams: Upstreams, clock: Clock) -> None:
        self._lines = lines
        self._upstreams = upstreams
        self._clock = clock

    @asynccontextmanager
    async def told_to(self, put: Put) -> AsyncGenerator[list[str]]:
        """Follow them for the length of the block; gives the tasks whose servers have agreed to tell."""
        following = [asyncio.create_task(self._follow(line, put)) for line in self._lines.values()]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(OPEN_SECONDS):
                    for line in self._lines.values():
                        await line.settled.wait()
            yield [shown for line in self._lines.values() for shown in line.granted]
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _follow(self, line: _Line, put: Put) -> None:
        pause = FIRST_PAUSE
        while True:
            with suppress(ProtocolError, OSError):
                upstream = await self._upstreams.listening(line.connection)
                lines = upstream.listen(frozenset(), frozenset(line.shown))
                if lines is None:
                    line.settled.set()
                    return
                async for message in lines:
                    pause = FIRST_PAUSE
                    with suppress(*UNREADABLE):
                        _hear(line, message, put)
            # One that cannot be heard is not waited for.
            line.settled.set()
            await self._clock.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)


def _hear(line: _Line, message: Message, put: Put) -> None:
    if message.method == ACKNOWLEDGED:
        agreed = msgspec.json.decode(message.params, type=_Acknowledged).notifications.taskIds
        line.granted = [line.shown[own] for own in agreed if own in line.shown]
        line.settled.set()
    elif message.method == TASK_CHANGED:
        shown = line.shown.get(msgspec.json.decode(message.params, type=_Changed).taskId)
        if shown is not None:
            put(TASK_CHANGED, {**decode_params(message.params), "taskId": msgspec.Raw(encode(shown))})
