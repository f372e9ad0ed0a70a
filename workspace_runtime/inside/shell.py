"""Commands: run with a deadline, their output told as it comes, or as background jobs with logs.

Each job is a session of its own whose processes carry a mark in their environment, so that all of them can be found
and ended, also those that went their own way. `guard` ends jobs that use up the container.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import itertools
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.ends import Watch, attended, told
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.processes import MARK, PAUSE_SECONDS, carrying, kill, killing, marked
from workspace_runtime.inside.tool import Call, Result, Say

OUTPUT_BYTES = 256 * 1024
"""What one call gives of each stream: its beginning and its end."""
LOG_BYTES = 1024 * 1024
"""What is kept of a job; older output is forgotten."""
MAX_SECONDS = 3600
JOBS = 32
ENDED = 64
"""Ended jobs whose logs are kept."""
_LINGER_SECONDS = 0.3
"""How long output may still come after a command has ended: children may hold its pipes."""
_EXHAUSTED = (11, 12)  # EAGAIN, ENOMEM

# The kernel is to end the command rather than the server when memory runs out; no core files fill the disk.
_PRELUDE = 'echo 1000 >/proc/self/oom_score_adj 2>/dev/null; ulimit -S -c 0; exec "$0" -c "$1"'


class Log:
    """The end of what a job says, with the position that its first byte has in all of it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.start = 0
        self.head = bytearray()

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def add(self, data: bytes) -> None:
        if len(self.head) < OUTPUT_BYTES // 2:
            self.head += data[: OUTPUT_BYTES // 2 - len(self.head)]
        self._data += data
        if len(self._data) > LOG_BYTES:
            excess = len(self._data) - LOG_BYTES
            del self._data[:excess]
            self.start += excess

    def since(self, offset: int) -> tuple[int, bytes]:
        """From `offset` on, or from the first byte that is still there; up to what one call gives."""
        begin = min(max(offset, self.start), self.end)
        return begin, bytes(self._data[begin - self.start :][:OUTPUT_BYTES])

    def shown(self) -> tuple[str, bool]:
        """All of it, or its beginning and end with a word on what is missing; and whether something is."""
        if self.end <= OUTPUT_BYTES:
            return bytes(self._data).decode("utf-8", "replace"), False
        tail = bytes(self._data[-(OUTPUT_BYTES // 2) :])
        missing = self.end - len(self.head) - len(tail)
        head = self.head.decode("utf-8", "replace")
        return f"{head}\n[… {missing} bytes left out …]\n{tail.decode('utf-8', 'replace')}", True


@dataclass(eq=False)
class Job:
    """A command that runs or has run.

    Args:
        reason: why it was ended by us; empty if it ended by itself.
    """

    id: str
    command: str
    process: asyncio.subprocess.Process
    began: float
    background: bool
    mark: str
    watch: Watch
    out: Log = field(default_factory=Log)
    err: Log = field(default_factory=Log)
    both: Log = field(default_factory=Log)
    reason: str = ""
    ended: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def exit_code(self) -> int | None:
        return self.process.returncode if self.done.is_set() else None


class Shell:
    """Args:
    env: of every command, beside what it is given.
    """

    def __init__(self, root: Beneath, env: dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._env = env
        self._clock = clock
        self._numbers = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._shell = shutil.which("bash", path=env.get("PATH")) or "/bin/sh"

    # -- tools

    async def run(self, call: Call) -> Result:
        job = await self._start(call)
        if job.background:
            return Result({"job": job.id, "running": True}, f"job {job.id} runs in the background")
        follow = asyncio.create_task(_follow(job, call.say))
        try:
            async with asyncio.timeout(call.get("timeout", 120)):
                await job.done.wait()
        except TimeoutError:
            await self.end(job, "timeout")
        except asyncio.CancelledError:
            await self.end(job, "cancelled")
            raise
        finally:
            follow.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follow
        self._jobs.pop(job.id, None)
        return _outcome(job, self._clock())

    async def logs(self, call: Call) -> Result:
        job = self._job(call["job"])
        if call.get("wait", 0) and job.both.end <= call.get("offset", 0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(call["wait"]):
                    await job.done.wait()
        begin, data = job.both.since(call.get("offset", 0))
        output = data.decode("utf-8", "replace")
        structured = {
            **_state(job),
            "output": output,
            "offset": begin,
            "next_offset": begin + len(data),
            "more": begin + len(data) < job.both.end,
        }
        return Result(structured, output or "(no output)")

    async def kill(self, call: Call) -> Result:
        job = self._job(call["job"])
        if call.get("signal", "KILL") == "KILL":
            await self.end(job, "killed")
        elif job.exit_code is None:
            for pid in self._pids(job):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.Signals[f"SIG{call['signal']}"])
        return Result(_state(job))

    def list(self, call: Call) -> Result:
        return Result(
            {"jobs": [{**_state(job), "command": job.command} for job in self._jobs.values() if job.background]}
        )

    # -- life

    @property
    def running(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.exit_code is None]

    async def end(self, job: Job, reason: str) -> None:
        """Kill all processes of a job, and know it as ended when none is left."""
        if job.exit_code is not None:
            return
        job.reason = job.reason or reason
        await _end_all(lambda: self._pids(job))
        await job.done.wait()

    async def end_attended(self) -> None:
        """Kill the commands that came from outside; who attends them tells why."""
        needle = "=".join(attended()).encode()
        await _end_all(lambda: carrying(needle))

    async def close(self) -> None:
        for job in self.running:
            await self.end(job, "the workspace stops")

    def _job(self, id: str) -> Job:
        job = self._jobs.get(id)
        if job is None:
            raise ToolFailure(f"there is no job {id}; shell_jobs lists them")
        return job

    async def _start(self, call: Call) -> Job:
        background = call.get("background", False)
        if len(self.running) >= JOBS:
            raise ToolFailure(f"{JOBS} commands are running: end some by shell_kill")
        self._forget()
        mark = secrets.token_hex(8)
        env = {**self._env, **call.get("env", {}), MARK: mark}
        if any("\0" in word or "=" in name or not name for name, value in env.items() for word in (name, value)):
            raise ToolFailure("env has a name or value that no environment can hold")
        if "\0" in call["command"]:
            raise ToolFailure("a command cannot contain a zero byte")
        watch = Watch()
        with self._root.opened(call.get("cwd", "."), os.O_PATH | os.O_DIRECTORY) as folder:
            try:
                process = await asyncio.create_subprocess_exec(
                    *("/bin/sh", "-c", _PRELUDE, self._shell, call["command"]),
                    cwd=f"/proc/self/fd/{folder}",
                    env=env,
                    stdin=asyncio.subprocess.PIPE if "stdin" in call.arguments else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    pass_fds=(folder,),
                )
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    raise ToolFailure("the workspace has no processes or memory left: end something first") from error
                raise
        job = Job(str(next(self._numbers)), call["command"], process, self._clock(), background, mark, watch)
        self._jobs[job.id] = job
        self._spawn(self._watch(job, call.get("stdin")))
        return job

    def _forget(self) -> None:
        ended = [job for job in self._jobs.values() if job.exit_code is not None]
        for job in ended[: max(0, len(ended) - ENDED)]:
            del self._jobs[job.id]

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, job: Job, stdin: str | None) -> None:
        process = job.process
        assert process.stdout
        assert process.stderr
        reading = [
            asyncio.create_task(_read(process.stdout, (job.out, job.both))),
            asyncio.create_task(_read(process.stderr, (job.err, job.both))),
        ]
        if process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write((stdin or "").encode())
                await process.stdin.drain()
            process.stdin.close()
        await _exit_of(process)
        _, late = await asyncio.wait(reading, timeout=_LINGER_SECONDS)
        if late and job.background:
            await asyncio.wait(late)  # a job is over when the last of its processes is
        elif late:
            kill(self._pids(job))
            await asyncio.wait(late, timeout=_LINGER_SECONDS)
        for task in reading:
            task.cancel()
        job.ended = self._clock()
        job.reason = job.reason or job.watch.reason(process.returncode or 0) or ""
        job.done.set()

    def _pids(self, job: Job) -> list[int]:
        return marked(job.mark, job.process.pid)


async def _exit_of(process: asyncio.subprocess.Process) -> None:
    """Return when a process has ended: `Process.wait` of some versions waits for its pipes too, which others hold."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(process.pid)
        loop.add_reader(watched, lambda: ended.done() or ended.set_result(None))
        try:
            await ended
        finally:
            loop.remove_reader(watched)
            os.close(watched)
    while process.returncode is None:  # noqa: ASYNC110 - the event is the one above, this is its echo
        await asyncio.sleep(0.001)  # it has been seen to end, and is told of at once


async def _end_all(find: Callable[[], list[int]]) -> None:
    for _ in killing(find):
        await asyncio.sleep(PAUSE_SECONDS)


async def _read(stream: asyncio.StreamReader, logs: tuple[Log, ...]) -> None:
    while data := await stream.read(65536):
        for log in logs:
            log.add(data)


async def _follow(job: Job, say: Say) -> None:
    """Tell what a job says, in pieces that gather while the last is on its way."""
    told = 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        await asyncio.sleep(0.1)
        begin, data = job.both.since(told)
        if data:
            told = begin + len(data)
            say(float(told), decoder.decode(data))


def _state(job: Job) -> dict[str, Any]:
    state: dict[str, Any] = {"job": job.id, "running": job.exit_code is None}
    if job.exit_code is not None:
        state["exit_code"] = job.exit_code
    if job.reason:
        state["reason"] = job.reason
    return state


def _outcome(job: Job, now: float) -> Result:
    out, cut = job.out.shown()
    err, cut_too = job.err.shown()
    structured = {
        **{name: value for name, value in _state(job).items() if name != "job"},
        "stdout": out,
        "stderr": err,
        "truncated": cut or cut_too,
        "seconds": round((job.ended or now) - job.began, 3),
    }
    said = [part.rstrip("\n") for part in (out, err) if part]
    if job.reason:
        said.append(told(job.reason))
    elif job.exit_code:
        said.append(f"[exit code {job.exit_code}]")
    return Result(structured, "\n".join(said) or "(no output)", failed=bool(job.exit_code or job.reason))
