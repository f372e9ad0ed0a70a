"""Stdio upstreams: one supervised child per server, shared by all its callers, wherever it runs.

The child starts with the first request, and again after a death, after a pause that grows while it keeps dying. Whose
answer is whose is `multiplex`'s affair.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.mcp import protocol, translate
from gateway.mcp.envelope import Message
from gateway.mcp.upstream.backoff import Backoff
from gateway.mcp.upstream.multiplex import Multiplex
from gateway.mcp.upstream.opening import opened
from gateway.mcp.upstream.port import Answer, NotSent, Outgoing, UpstreamFailure
from gateway.mcp.upstream.program import Launch, Program, ProgramFailed

if TYPE_CHECKING:
    from registry.core.clock import Clock
    from registry.servers.connection import Connection

HANDSHAKE_SECONDS = 30.0
MAX_OWN = 16
"""Children of one server for single clients; beyond it the one longest unused goes."""
DETECT_SECONDS = 3.0


class StdioUpstream:
    """One server reached over the pipes of its program.

    Args:
        launch: starts it.
        capabilities: what the server is told that its client can be asked for. A pipe does not say which client a
            request of the server's is for, so clients that can be asked have a child of their own.
    """

    def __init__(self, connection: Connection, launch: Launch, clock: Clock, capabilities: bytes = b"{}") -> None:
        self._clock = clock
        self._capabilities = capabilities
        self._own: OrderedDict[tuple[str, bytes], StdioUpstream] = OrderedDict()
        self._connection = connection
        self._slug = connection.slug
        self._era = connection.era
        self._introduction: Message | None = None
        version = connection.protocol_version
        self._version = version if version in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        self._launch = launch
        self._multiplex = Multiplex(self._slug, self, modern=self._era == "modern")
        self._backoff = Backoff(clock)
        self._child: Program | None = None
        self._ready = False
        self._closing: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    @property
    def busy(self) -> bool:
        return len(self._multiplex) > 0

    async def request(self, outgoing: Outgoing) -> Answer:
        outgoing.sent = False
        await self._running()
        outgoing.sent = True
        capabilities = translate.legacy_capabilities(outgoing.capabilities)
        if self._multiplex.modern or capabilities == self._capabilities or capabilities in (b"", b"{}"):
            return await self._multiplex.request(outgoing)
        return await self._own_child(outgoing.principal.subject, capabilities).request(outgoing)

    def _own_child(self, subject: str, capabilities: bytes) -> StdioUpstream:
        """The child for one principal's clients with these capabilities."""
        key = (subject, capabilities)
        child = self._own.get(key)
        if child is None:
            connection = replace(self._connection, era="legacy")
            child = self._own[key] = StdioUpstream(connection, self._launch, self._clock, capabilities)
            self._retire_surplus()
        self._own.move_to_end(key)
        return child

    def _retire_surplus(self) -> None:
        idle = [key for key, child in self._own.items() if not child.busy]
        for key in idle[: max(0, len(self._own) - MAX_OWN)]:
            task = asyncio.ensure_future(self._own.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def notify(self, outgoing: Outgoing) -> None:
        capabilities = translate.legacy_capabilities(outgoing.capabilities)
        child = self._own.get((outgoing.principal.subject, capabilities))
        if child is not None:
            await child.notify(outgoing)
        elif self._ready and not self._multiplex.modern and capabilities == self._capabilities:
            await self._multiplex.notify(outgoing)

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message]:
        return self._announcements(resources, tasks)

    async def _announcements(self, resources: frozenset[str], tasks: frozenset[str]) -> AsyncGenerator[Message]:
        await self._running()
        async for message in self._multiplex.announced(resources, tasks):
            yield message

    async def introduce(self) -> Message:
        """What the server said of itself when it was started: its `server/discover` or `initialize` answer."""
        await self._running()
        assert self._introduction is not None
        return self._introduction

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(child.close() for child in self._own.values()), *self._closing)
        if self._starting is not None:
            self._starting.cancel()
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    async def write(self, message: bytes, identifier: bytes | None) -> None:
        """As `multiplex.Line`."""
        if self._child is None:
            raise NotSent(self._slug, "its program is gone")
        try:
            await self._child.write(message)
        except ProgramFailed as error:
            raise NotSent(self._slug, str(error)) from None

    # -- the child's life

    async def _running(self) -> None:
        if self._ready:
            return
        if self._closed:
            raise NotSent(self._slug, "it has been removed or changed", blames=False)
        if self._backoff.wait > 0:
            why = f"its program keeps ending, the next start is in {self._backoff.wait:.1f} s"
            raise NotSent(self._slug, why, blames=False)
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._start_done)
        try:
            await opened(self._starting, self._slug)
        except ProgramFailed as error:
            raise NotSent(self._slug, str(error)) from None

    def _start_done(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()

    async def _start(self) -> None:
        self._backoff.started()
        try:
            child = await self._launch(self._connection, self._multiplex.heard, self._gone)
        except ProgramFailed:
            self._backoff.failed()
            raise
        self._child = child
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                self._introduction = await self._open()
        except (TimeoutError, UpstreamFailure) as error:
            self._gone("it was ended")
            await child.stop()
            why = error.reason if isinstance(error, UpstreamFailure) else f"no handshake in {HANDSHAKE_SECONDS:.0f} s"
            raise ProgramFailed(why) from None
        self._ready = True

    async def _open(self) -> Message:
        """Find the era, where it is not known, by asking as a modern client first; open a session with a legacy one.

        A server that says nothing for a while may be a legacy one that ignores what it does not know, or just be slow
        to start: then it is greeted as a legacy one too, and what it answers well first decides.
        """
        if self._era == "legacy":
            return await self._initialize()
        asked = asyncio.create_task(self._multiplex.ask("server/discover", translate.stamp({}, b"{}")))
        greeted: asyncio.Task[Message] | None = None
        try:
            await asyncio.wait([asked], timeout=None if self._era else DETECT_SECONDS)
            if not asked.done():
                greeted = asyncio.create_task(self._initialize())
                await asyncio.wait([asked, greeted], return_when=asyncio.FIRST_COMPLETED)
                if greeted.done() and greeted.exception() is not None:
                    # A modern server that was slow to start refuses the greeting, and may do so first.
                    await asyncio.wait([asked])
            if asked.done() and bytes(asked.result().result):
                self._era = "modern"
                self._multiplex.modern = True
                return asked.result()
            self._multiplex.modern = False
            introduction = await (greeted or self._initialize())
            self._era = "legacy"
            return introduction
        finally:
            unread = [task for task in (asked, greeted) if task is not None]
            for task in unread:
                task.cancel()
            await asyncio.gather(*unread, return_exceptions=True)

    async def _initialize(self) -> Message:
        return await self._multiplex.initialize(self._version, self._capabilities)

    def _gone(self, why: str) -> None:
        if self._child is None:
            # It was ended on purpose, or this has been told before.
            return
        self._child = None
        self._ready = False
        self._backoff.failed()
        self._multiplex.lost(why)
