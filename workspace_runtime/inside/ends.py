"""Why a command was ended, if not by itself: the one place that finds it out, and has the words for it.

Commands of the server's own tools (`shell`) and those that come from outside (`attend`) tell it in the same way, so
that a reader need not know what exit code 137 means. What `guard` ends, it notes here first: `attend` is another
process, and sees no more of it than that its command was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from workspace_runtime.inside.limits import denied_processes, out_of_memory_kills

MEMORY = "memory limit"
PROCESSES = "process limit"
DISK = "disk quota"
_ADVICE = {
    MEMORY: "Out of memory: the commands in this container together used more than it may have. Use less at a time.",
    PROCESSES: "Too many processes: the container has about as many as it may have. Run less at once.",
    DISK: "Disk full: the volume holds more than it may. Delete files before more is written.",
}
_TOLD = re.compile(rf"\[ended: ({'|'.join(_ADVICE)})\] .*\n?\Z")


def told(reason: str) -> str:
    """The line that tells a reader."""
    return f"[ended: {reason}] {_ADVICE.get(reason, '')}".rstrip()


def reason_in(stderr: str) -> str | None:
    """The reason that a command's standard error ends with, where `attend` has told one."""
    found = _TOLD.search(stderr)
    return found[1] if found else None


def attended() -> tuple[str, str]:
    """The variable that commands from outside carry, and its value: no other server's commands have it."""
    return "GATEHOUSE_ATTENDED", _socket()


def note(reason: str) -> None:
    """Leave word for those who attend commands, before these are ended."""
    with contextlib.suppress(OSError):  # a full disk: the command is ended all the same
        _note().write_text(reason)


class Watch:
    """What ends commands, looked at before one begins and after it has ended."""

    def __init__(self) -> None:
        self._kills = out_of_memory_kills()
        self._denied = denied_processes()
        self._noted = _changed()

    def reason(self, code: int) -> str | None:
        """Why a command was ended that gave this code; `None` if it ended by itself, as what ends well always does."""
        if code == 0:
            return None
        if out_of_memory_kills() > self._kills:
            return MEMORY
        if _changed() != self._noted:
            with contextlib.suppress(OSError):
                return _note().read_text()
        return PROCESSES if denied_processes() > self._denied else None


def _note() -> Path:
    return Path(f"{_socket()}.ended")


def _socket() -> str:
    """The server's, of whose environment whoever attends a command here has enough."""
    return os.environ.get("GATEHOUSE_SOCKET", "/run/gatehouse/mcp.sock")


def _changed() -> int:
    try:
        return _note().stat().st_mtime_ns
    except OSError:
        return 0
