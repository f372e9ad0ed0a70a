"""One child process of a test: started, awaited, ended by its own pid, its output kept for the failure report.

It knows nothing of MCP or of the gateway. `ready` conditions are polled against the real process, and a child that
exits while it is awaited fails at once with what it printed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

START_SECONDS = 60.0
"""A loaded machine with two cores needs most of this for the first start of a Node or Python server."""

STOP_SECONDS = 15.0
POLL_SECONDS = 0.05

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class ChildFailed(AssertionError):
    """A child that did not come up, or came down by itself; the message holds the end of its output."""


class Child:
    """A running child process.

    Args:
        name: what to call it in messages.
        argv: command and arguments.
        log: file that receives standard output and standard error together.
        env: the whole environment of the child; nothing is inherited but what is put in here.
        cwd: working directory.
    """

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                # Its own group, so that a Ctrl-C meant for pytest reaches children by `stop` alone.
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  one system call, no lock is taken
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> Self:
        """Return when `ready` holds. Raises `ChildFailed` when the child exits first or `seconds` pass."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                self.stop()
                raise ChildFailed(f"{self.name} was not ready within {seconds} s:\n{self.tail()}")
            if self.wait(POLL_SECONDS) is not None:
                raise ChildFailed(f"{self.name} exited with {self.exit_code} before it was ready:\n{self.tail()}")
        return self

    def wait(self, seconds: float) -> int | None:
        """The exit code, or `None` if it still runs after `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it the way a crash does."""
        if self.running:
            self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, then SIGKILL after `seconds`. Returns the exit code (negative: the signal)."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        if self.wait(seconds) is None:
            self._process.kill()
        return self._process.wait(STOP_SECONDS)


def _end_with_parent() -> None:
    # A test run that is killed leaves no child behind.
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid: int) -> bool:
    """Whether this pid runs. A zombie counts as gone: its parent may be slow to collect it, but nothing executes."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields.rpartition(")")[2].split()[0] not in "ZX"


def descendants(pid: int) -> list[int]:
    """Pids of all children, and of theirs, at this moment."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: list[int] = []
    frontier = [pid]
    while frontier:
        frontier = [child for child, parent in parents.items() if parent in frontier]
        found += frontier
    return found


def command_line(pid: int) -> bytes:
    """How a process was started; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def plain_environment(home: Path, **extra: str) -> dict[str, str]:
    """What a child of a test sees of this machine: PATH, HOME and LANG, and what the test adds."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **extra}
