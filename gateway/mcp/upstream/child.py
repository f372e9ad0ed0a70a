"""One child process that speaks newline-delimited JSON on stdin and stdout.

It knows processes and lines, and nothing of MCP. A child gets PATH, HOME, LANG and what was registered for it, and
another user where the gateway is root. It leads a process group of its own, so that it is ended with all it started.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.mcp.upstream.program import KEPT_STDERR_LINES, MAX_LINE, TERMINATE_SECONDS, OnExit, OnLine, ProgramFailed

if TYPE_CHECKING:
    from registry.servers.connection import Connection

log = structlog.get_logger(__name__)


class Child:
    """A running child.

    Args:
        on_line: called with every line of its stdout.
        on_exit: called once with a sentence when it is gone.
    """

    def __init__(self, process: asyncio.subprocess.Process, home: Path, name: str) -> None:
        self._process = process
        self._home = home
        self._name = name
        self._tasks: list[asyncio.Task[None]] = []
        self.stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)

    @classmethod
    async def start(cls, connection: Connection, user: str, on_line: OnLine, on_exit: OnExit) -> Child:
        """Start a server's program.

        Args:
            user: who it runs as where the gateway is root; `same` keeps the gateway's own user.

        Raises:
            ProgramFailed: with the reason, such as a program that does not exist.
        """
        assert connection.command is not None
        command = connection.command
        account = _account(user)
        home = Path(tempfile.mkdtemp(prefix="gatehouse-"))
        if account is not None:
            os.chown(home, account.pw_uid, account.pw_gid)
        base = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                command,
                *connection.args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**base, **dict(connection.env)},
                cwd=home,
                start_new_session=True,
                limit=MAX_LINE,
                preexec_fn=_becoming(account) if account is not None else None,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            shutil.rmtree(home, ignore_errors=True)
            who = f" as {user}, whom GATEHOUSE_STDIO_USER names" if account is not None else ""
            raise ProgramFailed(f"{command} could not be started{who}: {error}") from None
        child = cls(process, home, connection.slug)
        child._tasks = [
            asyncio.create_task(child._read_stdout(on_line, on_exit)),
            asyncio.create_task(child._read_stderr()),
        ]
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def write(self, line: bytes) -> None:
        """Raises `ProgramFailed` if the child no longer reads."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line + b"\n")
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ProgramFailed(f"{self._name} is gone ({error})") from None

    async def stop(self) -> None:
        """End it as the specification asks: close its stdin, then SIGTERM, then SIGKILL, to its whole group.

        Whoever is cancelled while waiting for that leaves nothing behind either: then it is killed at once.
        """
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            for sign in (None, signal.SIGTERM, signal.SIGKILL):
                if sign is not None:
                    self._signal(sign)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), TERMINATE_SECONDS)
                    break
        finally:
            # Its own children may have outlived it.
            self._signal(signal.SIGKILL)
            shutil.rmtree(self._home, ignore_errors=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _signal(self, sign: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, sign)

    async def _read_stdout(self, on_line: Callable[[bytes], None], on_exit: Callable[[str], None]) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        why = ""
        try:
            while line := await stdout.readline():
                on_line(line.strip())
        except ValueError:
            why = "it sent a line that is too long"
            self._signal(signal.SIGKILL)
        code = await self._process.wait()
        last = f"; its last words: {self.stderr[-1]}" if self.stderr else ""
        on_exit((why or f"the program ended with code {code}") + last)

    async def _read_stderr(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with suppress(ValueError):
            while line := await stderr.readline():
                text = line.decode(errors="replace").rstrip()
                self.stderr.append(text[:1000])
                log.debug("server wrote to stderr", server=self._name, line=text[:1000])


def _becoming(account: pwd.struct_passwd) -> Callable[[], None]:
    """Makes the child another user; uvloop takes no `user` of its own."""

    def become() -> None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _account(user: str) -> pwd.struct_passwd | None:
    if os.geteuid() != 0 or user == "same":
        return None
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ProgramFailed(
            f"GATEHOUSE_STDIO_USER names {user!r}, which does not exist: create it, or set it to another user."
        ) from None
