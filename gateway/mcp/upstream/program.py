"""A program that speaks newline-delimited JSON, wherever it runs: what a stdio upstream needs of it.

Implementations: `child` (a process of this machine), `contained` (in a container of its server's).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from registry.servers.connection import Connection

MAX_LINE = 64 * 1024 * 1024
KEPT_STDERR_LINES = 200
TERMINATE_SECONDS = 2.0

OnLine = Callable[[bytes], None]
"""Called with every line of its stdout."""
OnExit = Callable[[str], None]
"""Called once, with a sentence, when it is gone."""


class ProgramFailed(Exception):
    """The program could not be started, or is gone."""


class Program(Protocol):
    """One that runs."""

    @property
    def pid(self) -> int | None:
        """On this machine; `None` where it is on none of its own."""
        ...

    async def write(self, line: bytes) -> None:
        """Raises `ProgramFailed` if it no longer reads."""
        ...

    async def stop(self) -> None:
        """End it as the specification asks: close its stdin, then SIGTERM, then SIGKILL, with all that it started."""
        ...


Launch = Callable[["Connection", OnLine, OnExit], Awaitable[Program]]
"""Start a server's program. Raises `ProgramFailed` with the reason, such as a program that does not exist."""
