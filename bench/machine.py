"""The machine under the benchmark: its cores, pinned processes, and what /proc tells about both. Linux only.

It knows nothing about gateways; `targets` starts them with it and `window` measures them with it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, MissingProgram

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Where things run: the gateway alone on one core; upstream, load generator and runner on the other."""

    gateway: int
    load: int

    @property
    def shared(self) -> bool:
        return self.gateway == self.load


def choose_cores() -> Cores:
    """The first two cores this process may use; the same one twice when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(gateway=allowed[1] if len(allowed) > 1 else allowed[0], load=allowed[0])


def require(program: str, remedy: str) -> str:
    """The path of an installed program. Raises MissingProgram with the remedy."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
    if not found:
        raise MissingProgram(f"{program} is not installed: {remedy}")
    return found


class Process:
    """A program pinned to one core, with its output in a log file; `stop` ends it and its children, by pid."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        taskset = require("taskset", "install util-linux")
        self.log = log
        self.began = time.monotonic()
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                [taskset, "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check_alive(self) -> None:
        """Raises BenchError with the end of the log when the program has ended by itself."""
        if self._popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-800:].strip()
            raise BenchError(f"it ended with status {self._popen.returncode}: {tail or 'no output'}")

    def stop(self, grace: float = 8.0) -> None:
        """SIGTERM to the program, which should end its children; SIGKILL to what is left after `grace` seconds."""
        pids = tree(self.pid)
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(grace)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for pid in pids:
            # the session is ours alone, so a recycled pid is not mistaken for a child
            try:
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        current = pending.pop()
        found.append(current)
        pending += children.get(current, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process tree so far, with that of children that ended."""
    return sum(sum(map(int, fields[11:15])) for p in tree(pid) if (fields := _stat(p))) / TICKS_PER_SECOND


def pss_mib(pid: int) -> float:
    """Proportional set size of the process tree: pages shared by forked children count once."""
    total = 0
    for p in tree(pid):
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{p}/smaps_rollup").read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def core_seconds(core: int) -> float:
    """Time that a core has worked for anybody (user, nice, system), or that the hypervisor kept (steal)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            fields = line.split()
            return sum(int(fields[i]) for i in (1, 2, 3, 8)) / TICKS_PER_SECOND
    raise BenchError(f"/proc/stat does not know core {core}")


def own_cpu_seconds() -> float:
    """User and system time of this process, without its children."""
    times = os.times()
    return times.user + times.system
