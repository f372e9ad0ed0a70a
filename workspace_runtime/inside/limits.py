"""What the container may use and does use, as the kernel shows it inside, by control groups of either version."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def _number(*names: str) -> int | None:
    for name in names:
        try:
            return int((_GROUPS / name).read_text())
        except (OSError, ValueError):
            continue
    return None


def pids() -> tuple[int, int] | None:
    """Processes and threads now, and at most; `None` where there is no limit."""
    now = _number("pids.current", "pids/pids.current")
    most = _number("pids.max", "pids/pids.max")
    return None if now is None or most is None else (now, most)


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not tell."""
    return _counted("oom_kill", "memory.events", "memory/memory.oom_control")


def denied_processes() -> int:
    """How many processes were not made for there being too many; 0 where the kernel does not tell."""
    return _counted("max", "pids.events", "pids/pids.events")


def _counted(word: str, *names: str) -> int:
    for name in names:
        try:
            words = (_GROUPS / name).read_text().split()
        except OSError:
            continue
        if word in words:
            return int(words[words.index(word) + 1])
    return 0


def used_bytes(path: str) -> int:
    """What a folder takes on its disk, each file once, without following links or leaving the file system.

    Files that were deleted while they are still written to are counted too, and folders that were closed to their owner
    are opened for it: what is hidden takes its place all the same.
    """
    total = 0
    seen: set[int] = set()
    device = os.lstat(path).st_dev
    left = [path]
    while left:
        for entry in _entries(left.pop()):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if status.st_dev != device or status.st_ino in seen:
                continue
            if status.st_nlink > 1:
                seen.add(status.st_ino)
            total += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                left.append(entry.path)
    return total + _deleted_bytes(device)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    for try_again in (True, False):
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except PermissionError:
            if try_again:
                with contextlib.suppress(OSError):
                    os.chmod(folder, 0o700, follow_symlinks=True)
        except OSError:
            break
    return []


def _deleted_bytes(device: int) -> int:
    found: dict[int, int] = {}
    for process in os.listdir("/proc"):
        if not process.isdigit():
            continue
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{process}/fd/{number}")
                    if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                        found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def report(path: str) -> None:
    """Print what a folder takes, for whoever asks from outside."""
    sys.stdout.write(f"{used_bytes(path)}\n")


def free_bytes(path: str) -> int:
    """Of the disk that the folder is on, whoever else uses it."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
