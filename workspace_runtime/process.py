"""Workspaces as plain processes of this machine: for development without an engine, and for nothing else.

It isolates nothing. Whatever an agent runs in such a workspace runs as the user that the gateway runs as, with that
user's files and network; limits and network policies are not held, but for the disk quota that the server inside looks
after. It says so when it is made. A workspace's folder stands for its volume, a record beside it for the engine's
memory: another process that is given the same folder finds the containers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from workspace_runtime.execution import CarriedExecution
from workspace_runtime.inside.limits import used_bytes
from workspace_runtime.inside.processes import carrying
from workspace_runtime.readiness import wait_until_ready
from workspace_runtime.runtime import (
    ROOT,
    Container,
    ContainerMissing,
    ContainerSpec,
    EngineInfo,
    EngineUnavailable,
    Event,
    EventKind,
    Execution,
    LogLine,
    NameTaken,
    NotRunning,
    Output,
    P,
    StartFailed,
    State,
    Stats,
)

_PACKAGE = Path(__file__).resolve().parents[1]


def _program(module: str) -> list[str]:
    """The words that run a program of `workspace_runtime.inside`."""
    code = f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); from workspace_runtime.inside import {module}"
    return [sys.executable, "-I", "-S", "-B", "-c", f"{code}; {module}.main()"]


SERVER = _program("main")
ATTEND = _program("attend")
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
_MARK = "GATEHOUSE_CONTAINER"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS = 0.05
_LAST_WORDS = 20

_log = logging.getLogger(__name__)


@dataclass
class _Record:
    """What is known of a container.

    Args:
        pid: of its first process, which leads a session; 0 if it does not run.
        born: when that process was started, by the kernel's count, as pids are used again.
    """

    id: str
    name: str
    image: str
    volume: str
    quota: int
    env: dict[str, str]
    labels: dict[str, str]
    created_at: str
    socket: str
    pid: int = 0
    born: int = 0
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None


@dataclass(eq=False)
class _Listener:
    labels: Mapping[str, str]
    queue: asyncio.Queue[Event] = field(default_factory=asyncio.Queue[Event])


class ProcessRuntime:
    """Args:
    folder: for volumes, records and logs.
    server: the words that run our server; tests have others.
    """

    kind = "process"
    isolates = False

    def __init__(self, folder: Path, *, server: Sequence[str] = SERVER) -> None:
        _log.warning(
            "Workspaces run as plain processes of this machine, WITHOUT ANY ISOLATION: whoever may use one can do "
            "whatever this user can. This is for development only."
        )
        self._folder = folder
        self._server = list(server)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._listeners: set[_Listener] = set()
        for name in ("containers", "volumes"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    async def ping(self) -> EngineInfo:
        version = f"processes of this machine, without isolation (Python {sys.version.split()[0]})"
        return EngineInfo(self.kind, version, isolates=False, volume_quotas=False)

    async def has_image(self, tag: str) -> bool:
        return True  # this machine stands for every image

    async def build_image(self, tag: str, base: str, say: Callable[[str], None] | None = None) -> str:
        if say is not None:
            say("Processes need no image: workspaces see this machine's own programs.")
        return tag

    # -- life

    async def create(self, spec: ContainerSpec) -> Container:
        if any(record.name == spec.name for record in self._records()):
            raise NameTaken(f"there is a container {spec.name} already")
        made = secrets.token_hex(32)
        (self._folder / "containers" / made).mkdir()
        (self._folder / "volumes" / spec.volume).mkdir(exist_ok=True)
        record = _Record(
            id=made,
            name=spec.name,
            image=spec.image,
            volume=spec.volume,
            quota=spec.limits.disk_bytes,
            env=dict(spec.env),
            labels=spec.all_labels(),
            created_at=_now(),
            # A socket's path is short, and a data folder's may not be.
            socket=str(Path(tempfile.gettempdir(), f"gatehouse-{made[:16]}.sock")),
        )
        self._save(record)
        self._tell(EventKind.CREATED, record)
        return self._container(record)

    async def start(self, id: str, timeout: float = 30.0) -> Container:
        record = self._record(id)
        until = asyncio.get_running_loop().time() + timeout
        if not self._runs(record):
            await self._launch(record)
        try:
            await wait_until_ready(functools.partial(self._dial, record, until), until)
        except (TimeoutError, ConnectionError) as error:
            await self._give_up(id, timeout, error)
        return await self.inspect(id)

    async def _launch(self, record: _Record) -> None:
        Path(record.socket).unlink(missing_ok=True)
        with self._log_path(record.id).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._server,
                cwd=self._root(record),
                env={
                    **_environment(record.env),
                    _MARK: record.id,
                    "GATEHOUSE_ROOT": str(self._root(record)),
                    "GATEHOUSE_SOCKET": record.socket,
                    "GATEHOUSE_QUOTA": str(record.quota),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record.pid, record.born = process.pid, _born(process.pid)
        record.started_at, record.finished_at, record.exit_code = _now(), None, None
        self._save(record)
        self._processes[record.id] = process
        self._tell(EventKind.STARTED, record)
        self._watching[record.id] = asyncio.create_task(self._wait(record.id, process))

    async def _wait(self, id: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self._processes.pop(id, None)
        with contextlib.suppress(ContainerMissing):
            record = self._record(id)
            record.pid, record.finished_at = 0, _now()
            record.exit_code = code if code >= 0 else 128 - code
            self._save(record)
            self._tell(EventKind.EXITED, record)

    async def _give_up(self, id: str, timeout: float, error: Exception) -> None:
        running = self._runs(self._record(id))
        await self.stop(id, grace=1)
        found = await self.inspect(id)
        words = "\n".join([line.text async for line in self.logs(id, tail=_LAST_WORDS)])
        why = f"its server has not answered within {timeout:.0f} s" if running else f"exit code {found.exit_code}"
        raise StartFailed(f"the container did not start: {why}. Its last words: {words or 'none'}") from error

    async def stop(self, id: str, grace: float = 5.0) -> None:
        record = self._record(id)
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 30.0)):
            if not self._runs(record):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._gone(record)
        while members := _members(id):
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        watching = self._watching.pop(id, None)
        if watching is not None:
            await watching

    async def _gone(self, record: _Record) -> None:
        process = self._processes.get(record.id)
        if process is not None:
            await process.wait()
        while self._runs(record):  # noqa: ASYNC110 - another process's child: nobody tells us of its end
            await asyncio.sleep(_LOOK_SECONDS)

    async def remove(self, id: str) -> None:
        try:
            record = self._record(id)
        except ContainerMissing:
            return
        await self.stop(id, grace=0)
        shutil.rmtree(self._folder / "containers" / id)
        Path(record.socket).unlink(missing_ok=True)
        self._tell(EventKind.REMOVED, record)

    async def remove_volume(self, name: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / "volumes" / name, ignore_errors=True)

    # -- looking

    async def inspect(self, id: str) -> Container:
        named = [record for record in self._records() if record.name == id]
        record = named[0] if named else self._record(id)
        if record.pid and not self._runs(record) and record.id in self._watching:
            await self._watching[record.id]  # it has just ended: how is about to be known
            record = self._record(record.id)
        return self._container(record)

    async def list(self, labels: Mapping[str, str]) -> list[Container]:
        return [self._container(record) for record in self._records() if labels.items() <= record.labels.items()]

    async def stats(self, id: str) -> Stats:
        record = self._record(id)
        pids = _members(id) if self._runs(record) else []
        if not pids:
            raise NotRunning(f"the container {id} does not run")
        ticks = memory = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = _stat(pid)
                ticks += int(fields[11]) + int(fields[12])
                memory += int(fields[21]) * _PAGE
        return Stats(datetime.now(UTC), ticks / _TICKS, memory, 0, len(pids))

    async def volume_bytes(self, id: str) -> int:
        record = self._running(id)
        return await asyncio.to_thread(used_bytes, str(self._root(record)))

    async def logs(self, id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[LogLine]:
        record = self._record(id)
        path = self._log_path(record.id)
        position = 0
        if path.exists():
            data = path.read_bytes()
            position = len(data)
            lines = data.decode("utf-8", "replace").splitlines()
            for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
                yield LogLine(None, "stderr", line)
        while follow and path.exists():
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            for line in data.decode("utf-8", "replace").splitlines():
                yield LogLine(None, "stderr", line)
            if not data and not self._runs(record):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[Event]:
        listener = _Listener(labels)
        self._listeners.add(listener)
        try:
            while True:
                yield await listener.queue.get()
        finally:
            self._listeners.discard(listener)

    # -- reaching in

    @asynccontextmanager
    async def exec(
        self,
        id: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = ROOT,
        tied: bool = False,
    ) -> AsyncGenerator[Execution]:
        record = self._running(id)
        folder = self._root(record) if cwd == ROOT else Path(cwd.replace(f"{ROOT}/", f"{self._root(record)}/"))
        process = await asyncio.create_subprocess_exec(
            *(*ATTEND, "tied" if tied else "free", *command),
            cwd=folder,
            env={**_environment(record.env), **(env or {}), _MARK: record.id, "GATEHOUSE_SOCKET": record.socket},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin
        execution = CarriedExecution()
        room = asyncio.Event()
        room.set()
        execution.carry(process.stdin.transport, process.wait, lambda held: room.clear() if held else room.set())
        reading = asyncio.create_task(_read_all(process, execution, room))
        try:
            yield execution
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            reading.cancel()
            await process.wait()
            process.stdin.close()

    async def connect(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        return await self._dial(self._running(id), asyncio.get_running_loop().time(), factory)

    async def connect_to_proxy(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        raise NotRunning("a process has the machine's own network, and no way out that could be held")

    async def _dial(self, record: _Record, until: float, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.create_unix_connection(factory, record.socket)
            except OSError as error:
                if not self._runs(record):
                    raise ConnectionRefusedError("the server has ended") from error
                if loop.time() >= until:
                    raise NotRunning(f"the server does not answer: {error}") from error
                await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """End all of them: nobody else would."""
        for record in self._records():
            if record.id in self._processes:
                await self.stop(record.id, grace=2)
        await asyncio.gather(*self._watching.values())

    # -- records

    def _root(self, record: _Record) -> Path:
        return self._folder / "volumes" / record.volume

    def _log_path(self, id: str) -> Path:
        return self._folder / "containers" / id / "log"

    def _records(self) -> list[_Record]:
        found: list[_Record] = []
        for path in sorted((self._folder / "containers").iterdir()):
            with contextlib.suppress(ContainerMissing):
                found.append(self._record(path.name))
        return found

    def _record(self, id: str) -> _Record:
        try:
            return _Record(**json.loads((self._folder / "containers" / Path(id).name / "record").read_text()))
        except FileNotFoundError:
            pass
        except (ValueError, TypeError) as error:
            raise EngineUnavailable(f"the record of container {id} is damaged: {error}") from error
        raise ContainerMissing(f"there is no container {id}")

    def _save(self, record: _Record) -> None:
        path = self._folder / "containers" / record.id / "record"
        passing = path.with_suffix(".part")
        passing.write_text(json.dumps(asdict(record)))
        passing.rename(path)

    def _running(self, id: str) -> _Record:
        record = self._record(id)
        if not self._runs(record):
            raise NotRunning(f"the container {id} does not run")
        return record

    def _runs(self, record: _Record) -> bool:
        # One that died before it was looked at has no birth.
        return bool(record.pid and record.born) and _born(record.pid) == record.born

    def _container(self, record: _Record) -> Container:
        state = State.CREATED if record.started_at is None else State.EXITED
        return Container(
            id=record.id,
            name=record.name,
            image=record.image,
            state=State.RUNNING if self._runs(record) else state,
            labels=record.labels,
            created_at=datetime.fromisoformat(record.created_at),
            started_at=_time(record.started_at),
            finished_at=_time(record.finished_at),
            exit_code=record.exit_code,
        )

    def _tell(self, kind: EventKind, record: _Record) -> None:
        event = Event(kind, record.id, record.labels, datetime.now(UTC), record.exit_code)
        for listener in self._listeners:
            if listener.labels.items() <= record.labels.items():
                listener.queue.put_nowait(event)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, "HOME": tempfile.gettempdir(), **env}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(words: str | None) -> datetime | None:
    return datetime.fromisoformat(words) if words else None


def _stat(pid: int) -> list[bytes]:
    """The fields of a process's `stat` from its state on."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _born(pid: int) -> int:
    """When a process was started, by the kernel's count; 0 if it is gone or only waits to be buried."""
    try:
        fields = _stat(pid)
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[19])


def _members(id: str) -> list[int]:
    """All processes of a container, by the mark that each of them inherits."""
    return carrying(f"{_MARK}={id}".encode())


async def _read_all(process: asyncio.subprocess.Process, execution: CarriedExecution, room: asyncio.Event) -> None:
    async def read(stream: asyncio.StreamReader | None, name: str) -> None:
        assert stream
        while data := await stream.read(65536):
            execution.said(Output(name, data))
            await room.wait()

    await asyncio.gather(read(process.stdout, "stdout"), read(process.stderr, "stderr"))
    execution.said(None)
