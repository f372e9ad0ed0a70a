"""Several processes on one listening socket: the parent forks them, starts anew those that die, and ends with them.

The parent serves nothing and has neither a loop nor a thread, which a fork would leave half behind. It waits for
signals instead of handling them, so nothing here can be interrupted. Workers that lose their parent end by themselves.
What a worker does is `gateway.server`'s to say.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

STEADY_SECONDS = 10.0
"""A worker that lived so long is replaced at once; those that die sooner, ever more slowly."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
JOIN_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM)


@dataclass(slots=True)
class _Place:
    """One worker's place: who has it, since when, and when it is filled again (monotonic seconds)."""

    pid: int | None = None
    since: float = 0.0
    failures: int = 0
    due: float = 0.0


class Workers:
    """The parent's side.

    Args:
        work: what a worker does until it is told to end; its exit code. It gets a file descriptor that becomes readable
            when the parent has gone.
        patience: seconds that workers have to end before they are killed.
    """

    def __init__(self, work: Callable[[int], int], number: int, *, patience: float) -> None:
        self._work = work
        self._places = [_Place() for _ in range(number)]
        self._patience = patience
        self._ending = False
        self._lifeline, self._held = os.pipe()

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; the exit code of the parent."""
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                # A driver's thread that is on its way out; a fork would leave its locks held for ever.
                thread.join(JOIN_SECONDS)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._fill()
        while not self._ending or any(place.pid for place in self._places):
            received = signal.sigwait(_SIGNALS)
            if received in (signal.SIGTERM, signal.SIGINT):
                self._end()
            elif received == signal.SIGCHLD:
                self._reap()
            elif self._ending:
                self._tell(signal.SIGKILL)
            if not self._ending:
                self._fill()
        return 0

    def _fill(self) -> None:
        """Start what is to be started now, and have the alarm ring for the next."""
        now = time.monotonic()
        empty = [place for place in self._places if place.pid is None]
        for place in empty:
            if place.due <= now:
                self._start(place)
        waiting = [place.due - now for place in empty if place.pid is None]
        signal.setitimer(signal.ITIMER_REAL, min(waiting, default=0.0))

    def _start(self, place: _Place) -> None:
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        place.pid, place.since = pid, time.monotonic()

    def _be_worker(self) -> None:
        """Never returns: what the parent was about to do is none of the worker's business."""
        code = 1
        try:
            os.close(self._held)
            # Ctrl-C in a terminal is for the parent, which tells its workers in its own way.
            os.setpgrp()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            code = self._work(self._lifeline)
        except Exception:  # noqa: BLE001 - nobody is above to see it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Take note of every worker that has ended; one signal may stand for several."""
        for place in self._places:
            if place.pid is None:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid == 0:
                continue
            place.pid = None
            if self._ending:
                continue
            now = time.monotonic()
            place.failures = 0 if now - place.since >= STEADY_SECONDS else place.failures + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(place.failures - 1, 10)) if place.failures else 0.0
            place.due = now + pause
            log.error("a worker has died", pid=pid, code=os.waitstatus_to_exitcode(status), again_in_seconds=pause)

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            signal.setitimer(signal.ITIMER_REAL, self._patience)
            self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid is not None:
                os.kill(place.pid, number)
