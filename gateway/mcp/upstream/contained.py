"""A stdio server's program in a container, its streams carried by the container engine.

It knows streams and lines, and nothing of MCP. Which container it is, and its life, is behind `ProgramDoor`, which
`gateway.wiring` provides. Like a child of this machine it is ended with all that it started.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.mcp.upstream.program import (
    KEPT_STDERR_LINES,
    MAX_LINE,
    TERMINATE_SECONDS,
    OnExit,
    OnLine,
    ProgramFailed,
)
from registry.core.errors import GatehouseError
from workspace_runtime.runtime import WorkspaceRuntimeError

if TYPE_CHECKING:
    from registry.servers.connection import Connection
    from workspace_runtime.runtime import Execution

log = structlog.get_logger(__name__)


class ProgramDoor(Protocol):
    """What runs programs in containers; every method may raise `GatehouseError` and `WorkspaceRuntimeError`."""

    def program(self, connection: Connection) -> AbstractAsyncContextManager[Execution]:
        """The server's program, running for the length of the block."""
        ...


class ContainedProgram:
    """One that runs, or is about to."""

    pid = None

    def __init__(self, connection: Connection, door: ProgramDoor, on_line: OnLine, on_exit: OnExit) -> None:
        self._connection = connection
        self._door = door
        self._on_line = on_line
        self._on_exit = on_exit
        self._execution: Execution | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)
        # One task for all of its life: whoever enters the block leaves it.
        self._living = asyncio.create_task(self._live())

    @classmethod
    async def start(
        cls, connection: Connection, door: ProgramDoor, on_line: OnLine, on_exit: OnExit
    ) -> ContainedProgram:
        """Raises `ProgramFailed`: there is no engine, no such image or no such program."""
        program = cls(connection, door, on_line, on_exit)
        try:
            await program._started
        except asyncio.CancelledError:
            await program.stop()
            raise
        return program

    async def write(self, line: bytes) -> None:
        if self._execution is None:
            raise ProgramFailed(f"{self._connection.slug} is gone")
        try:
            self._execution.write(line + b"\n")
            await self._execution.drain()
        except WorkspaceRuntimeError as error:
            raise ProgramFailed(f"{self._connection.slug} is gone ({error.message})") from None

    async def stop(self) -> None:
        try:
            if self._execution is not None:
                self._execution.write_eof()
                # What attends it inside waits, asks and forces; this is for one that does not come to an end with it.
                await asyncio.wait([self._living], timeout=4 * TERMINATE_SECONDS)
        finally:
            self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)

    async def _live(self) -> None:
        try:
            async with self._door.program(self._connection) as execution:
                self._execution = execution
                self._started.set_result(None)
                why = await self._read(execution)
                if not why:
                    # Where a limit ended it, what attends it inside has said so in its last words.
                    why = f"the program ended with code {await execution.exit_code()}"
        except (GatehouseError, WorkspaceRuntimeError) as error:
            if not self._started.done():
                self._started.set_exception(ProgramFailed(error.message))
                return
            why = error.message
        finally:
            self._execution = None
        last = f"; its last words: {self._stderr[-1]}" if self._stderr else ""
        self._on_exit(why + last)

    async def _read(self, execution: Execution) -> str:
        """Hand on what it says until it has ended; what is wrong with it, if something is."""
        left = {"stdout": bytearray(), "stderr": bytearray()}
        async for output in execution:
            line = left[output.stream]
            line += output.data
            if b"\n" not in output.data:
                if len(line) > MAX_LINE:
                    return "it sent a line that is too long"
                continue
            *whole, rest = bytes(line).split(b"\n")
            line[:] = rest
            for one in whole:
                if output.stream == "stdout":
                    self._on_line(one.strip())
                else:
                    self._complained(one)
        self._complained(bytes(left["stderr"]))
        return ""

    def _complained(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()[:1000]
        if text:
            self._stderr.append(text)
            log.debug("server wrote to stderr", server=self._connection.slug, line=text)
