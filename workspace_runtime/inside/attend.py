"""Runs a command that comes from outside, and tells why it was ended if it was: `attend (tied|free) COMMAND ARGS…`.

A tied one ends when its caller is gone, in whatever way. The engine lets a command go on whose caller was killed; all
that it tells is the end of the standard input. So this stands between: it hands the input on, and after its end gives
the command a while, then asks it to end, then forces it, with all that it has started. A free one has the input itself,
and goes on as long as it likes.

Output passes untouched; what this has to say is a last line on the standard error, as `ends` words it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

from workspace_runtime.inside.ends import Watch, attended, told
from workspace_runtime.inside.processes import MARK, end_marked

GRACE_SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024
"""Of input that waits for a command that does not read: only whoever takes its input sees that it has ended."""
_PIECE = 65536


def attend(command: Sequence[str], *, tied: bool) -> int:
    """Run the command to its end, and give its exit code as a shell would."""
    watch = Watch()
    try:
        process = subprocess.Popen(  # noqa: S603 - running what it is given is what this is for
            command,
            env=dict([*os.environ.items(), attended()]),
            stdin=subprocess.PIPE if tied else None,
            bufsize=0,
            start_new_session=tied,
            preexec_fn=_expendable,  # noqa: PLW1509 - there are no threads
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]} could not be started: {error.strerror or error}\n")
        return 127
    code = _to_the_end(process) if tied else process.wait()
    if reason := watch.reason(code):
        if mark := os.environ.get(MARK):
            end_marked(mark)  # what is left of it would have the last word
        sys.stderr.write(f"{told(reason)}\n")
    return code if code >= 0 else 128 - code


def _to_the_end(process: subprocess.Popen[bytes]) -> int:
    """Of the command, or of its input; gives the code."""
    assert process.stdin
    watched = os.pidfd_open(process.pid)
    try:
        if _carry(process.stdin.fileno(), watched):
            _end(process, watched)
    finally:
        _signal(process, signal.SIGKILL)  # its own children may have outlived it
        code = process.wait()
        os.close(watched)
    return code


def _carry(sink: int, watched: int) -> bool:
    """Hand the input on until the command has ended; whether it has not, and the input has."""
    os.set_blocking(sink, False)
    waiting = bytearray()
    more = True
    while more or waiting:
        ready = _ready(watched, sink if waiting else None, wants_more=more and len(waiting) < MOST_BYTES, ends=not more)
        if watched in ready:
            return False
        if not ready:
            return True  # it does not take the rest
        if sink in ready:
            try:
                del waiting[: os.write(sink, waiting)]
            except BlockingIOError:
                continue
            except BrokenPipeError:  # it does not read any more, and may go on all the same
                waiting.clear()
        if 0 in ready:
            data = os.read(0, _PIECE)
            waiting += data
            more = bool(data)
    return True


def _ready(watched: int, sink: int | None, *, wants_more: bool, ends: bool) -> set[int]:
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    if wants_more:
        waiting.register(0, select.POLLIN)
    if sink is not None:
        waiting.register(sink, select.POLLOUT)
    return {descriptor for descriptor, _ in waiting.poll(GRACE_SECONDS * 1000 if ends else None)}


def _end(process: subprocess.Popen[bytes], watched: int) -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            _signal(process, sign)
        if waiting.poll(GRACE_SECONDS * 1000):
            return


def _signal(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sign)


def _expendable() -> None:
    """The kernel is to end the command rather than what attends it when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def main() -> None:
    raise SystemExit(attend(sys.argv[2:], tied=sys.argv[1] == "tied"))
