"""The processes of a command, also those that went their own way: found by the mark that each carries.

`shell` marks its jobs, and the engine's driver (`workspace_runtime.docker`) the commands that come from outside.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

MARK = "GATEHOUSE_JOB"
PAUSE_SECONDS = 0.01
_ROUNDS = 100
"""How often what is to end is looked for again: what was not stopped yet has made more of it."""


def marked(mark: str, session: int = -1) -> list[int]:
    """The processes of a job: those of its session, and those that carry its mark."""
    return carrying(f"{MARK}={mark}".encode(), session)


def carrying(needle: bytes, session: int = -1) -> list[int]:
    """Processes with this variable in their environment, and those of a session."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile, or half gone
            pid = int(name)
            with open(f"/proc/{name}/stat", "rb") as file:
                state, *numbers = file.read().rpartition(b")")[2].split()
            if state == b"Z":
                continue
            if int(numbers[2]) == session:
                found.append(pid)
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                if needle in file.read().split(b"\0"):
                    found.append(pid)
    return found


def end_marked(mark: str) -> None:
    """End whatever carries a mark, but for who asks: a command that came from outside, and is over or left alone."""
    for _ in killing(lambda: [pid for pid in marked(mark) if pid != os.getpid()]):
        time.sleep(PAUSE_SECONDS)


def killing(find: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Kill what is found, until nothing is; who asks pauses between the rounds, for `PAUSE_SECONDS`."""
    seen_none = False
    for _ in range(_ROUNDS):
        pids = find()
        if not pids and seen_none:
            return
        # A process that is just becoming another program carries nothing for a moment: none has to be seen twice.
        seen_none = not pids
        kill(pids)
        yield


def kill(pids: Sequence[int]) -> None:
    """Kill processes, of which some may have ended meanwhile."""
    for stop in (signal.SIGSTOP, signal.SIGKILL):  # what is stopped makes no more children meanwhile
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, stop)
