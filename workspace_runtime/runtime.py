"""The port to whatever runs containers: what the registry asks of it, and how it can fail.

Implementations: `docker` (the default), `process` (development only, isolates nothing). A container is one workspace:
our image or another that has Python, hardened, with the MCP server of `workspace_runtime.inside` as its main process.
That server is reached by `connect`, a byte stream that the engine carries into the container, so that it needs no
network and no published port. The port holds no wanted state and starts nothing again by itself: who calls it does.

What a running container needs from outside (its way to allowed hosts, its disk quota) is `workspace_runtime.keeper`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

P = TypeVar("P", bound=asyncio.Protocol)

ROOT = "/workspace"
"""Where a workspace's volume is, inside."""
LABEL = "gatehouse"
"""All our labels begin with this word and a dot."""
GATEWAY_LABEL = f"{LABEL}.gateway"
WORKSPACE_LABEL = f"{LABEL}.workspace"
NETWORK_LABEL = f"{LABEL}.network"
HOSTS_LABEL = f"{LABEL}.hosts"
DISK_LABEL = f"{LABEL}.disk"
VOLUME_LABEL = f"{LABEL}.volume"


class WorkspaceRuntimeError(Exception):
    """A failure that the caller is expected to handle; the message says what was wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EngineUnavailable(WorkspaceRuntimeError):
    """No engine answers: there is none, it is down, or it has lost the connection in the middle."""


class ImageMissing(WorkspaceRuntimeError):
    """The engine has no such image: ours can be built, another must be brought there."""


class BuildFailed(WorkspaceRuntimeError):
    """The image was not built; the message ends with the build's last words."""


class SpecRefused(WorkspaceRuntimeError):
    """The engine does not accept what the spec asks for, as a limit or a runtime that it does not have."""


class NameTaken(WorkspaceRuntimeError):
    """A container of this name exists; `list` finds it by its labels."""


class ContainerMissing(WorkspaceRuntimeError):
    """The engine knows no such container: it was removed."""


class StartFailed(WorkspaceRuntimeError):
    """The container ended, or its server did not answer in time; the message ends with its last words."""


class NotRunning(WorkspaceRuntimeError):
    """The container is there, but stopped: start it first."""


class NoAnswer(WorkspaceRuntimeError):
    """The container runs, but what was asked inside has not answered as it should."""


class Network(StrEnum):
    """How a container reaches others. None of them gives it an interface: what leaves, leaves through the gateway."""

    NONE = "none"
    ALLOWLIST = "allowlist"
    """Only the hosts that the spec names."""
    OPEN = "open"
    """Any host that the gateway's own egress rules let it reach: nothing private, no metadata service."""


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    DEAD = "dead"
    """The engine could not clean it up; remove it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use at most.

    Args:
        cpus: in cores, as 0.5.
        pids: processes and threads together.
        disk_bytes: of the volume. Engines without quotas have it enforced by the keeper, which stops what writes on.
        tmp_bytes: of /tmp, which is memory and counts as such.
    """

    memory_bytes: int = 512 * 1024 * 1024
    cpus: float = 1.0
    pids: int = 256
    disk_bytes: int = 2 * 1024 * 1024 * 1024
    tmp_bytes: int = 256 * 1024 * 1024
    open_files: int = 4096


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container that is to be made.

    Args:
        name: unique in the engine.
        workspace: the workspace's id, as text; becomes a label.
        gateway: whose container it is, as several gateways may share an engine; becomes a label.
        env: for everything that runs inside. No secrets: `inspect` shows it.
        hosts: for `Network.ALLOWLIST`: `example.org`, `*.example.org`, each with an optional `:port` (else 80 and 443).
        volume: name of the volume at `ROOT`; it is made if it is not there, and outlives the container.
        labels: further ones.
    """

    name: str
    workspace: str
    gateway: str
    image: str
    volume: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Limits = field(default_factory=Limits)
    network: Network = Network.NONE
    hosts: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def all_labels(self) -> dict[str, str]:
        """Ours, from which a gateway that knows nothing of the container can take it over, and the caller's."""
        return {
            **self.labels,
            GATEWAY_LABEL: self.gateway,
            WORKSPACE_LABEL: self.workspace,
            NETWORK_LABEL: self.network.value,
            HOSTS_LABEL: ",".join(self.hosts),
            DISK_LABEL: str(self.limits.disk_bytes),
            VOLUME_LABEL: self.volume,
        }


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine sees it.

    Args:
        exit_code: of its last run; `None` if it has not ended one.
        out_of_memory: the engine killed something in it for want of memory, in this run or the last.
        error: the engine's own words on why it did not start; empty else.
    """

    id: str
    name: str
    image: str
    state: State
    labels: Mapping[str, str]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    error: str = ""

    @property
    def workspace(self) -> str:
        return self.labels.get(WORKSPACE_LABEL, "")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs the containers.

    Args:
        version: as the engine names itself.
        isolates: whether a container is kept from the machine; `False` for processes.
        volume_quotas: whether the engine itself enforces `Limits.disk_bytes`; `None` until one was tried.
    """

    kind: str
    version: str
    isolates: bool
    volume_quotas: bool | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What a container uses, by the engine's account.

    Args:
        cpu_seconds: since it was started.
        memory_limit: 0 where there is none.
    """

    at: datetime
    cpu_seconds: float
    memory_bytes: int
    memory_limit: int
    pids: int


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime | None
    stream: str
    """`stdout` or `stderr`."""
    text: str


class EventKind(StrEnum):
    CREATED = "created"
    STARTED = "started"
    EXITED = "exited"
    OUT_OF_MEMORY = "out_of_memory"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container, whoever caused it.

    Args:
        container: its id.
        exit_code: of an `EXITED`.
    """

    kind: EventKind
    container: str
    labels: Mapping[str, str]
    at: datetime
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a command says.

    Args:
        stream: `stdout` or `stderr`.
    """

    stream: str
    data: bytes


class Execution(Protocol):
    """A command that runs in a container. Leaving its context ends the stream, and the command with it."""

    def __aiter__(self) -> AsyncIterator[Output]:
        """What it says, until it has ended.

        Raises:
            EngineUnavailable: the engine broke the stream off.
        """
        ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Wait until the command has read enough of what was written."""
        ...

    def write_eof(self) -> None:
        """Close its standard input."""
        ...

    async def exit_code(self) -> int:
        """How it ended. Known once the output has come to its end."""
        ...


class Runtime(Protocol):
    """Every method may raise `EngineUnavailable`, those that take an id `ContainerMissing`, beside what they name."""

    @property
    def kind(self) -> str:
        """`docker` or `process`."""
        ...

    @property
    def isolates(self) -> bool:
        """Whether a container is kept from the machine and its network."""
        ...

    async def ping(self) -> EngineInfo:
        """Ask the engine how it is; within 5 s."""
        ...

    async def has_image(self, tag: str) -> bool: ...

    async def build_image(self, tag: str, base: str, say: Callable[[str], None] | None = None) -> str:
        """Build our image and give its id.

        Args:
            base: the image to build on: Debian or a relative of it, with Python 3.11 or newer or with apt to get it.
            say: is told each line that the build prints, on the event loop.

        Raises:
            BuildFailed, ImageMissing: the latter if the base can neither be found nor pulled.
        """
        ...

    async def create(self, spec: ContainerSpec) -> Container:
        """Make a container, and its volume where there is none yet. It does not run yet.

        Raises:
            ImageMissing, NameTaken, SpecRefused
        """
        ...

    async def start(self, id: str, timeout: float = 30.0) -> Container:
        """Let it run and wait until its server answers. A running one is waited for only.

        Args:
            timeout: in seconds, for both together. What has not answered by then is stopped.

        Raises:
            StartFailed
        """
        ...

    async def stop(self, id: str, grace: float = 5.0) -> None:
        """End what runs in it, by force after `grace` seconds. A stopped one is left alone."""
        ...

    async def remove(self, id: str) -> None:
        """Take it away, running or not. The volume stays. One that is gone is no error."""
        ...

    async def remove_volume(self, name: str) -> None:
        """Take a volume away, for good. One that is gone is no error."""
        ...

    async def inspect(self, id: str) -> Container:
        """By id or name."""
        ...

    async def list(self, labels: Mapping[str, str]) -> list[Container]:
        """All containers, running or not, that have all of these labels."""
        ...

    async def stats(self, id: str) -> Stats:
        """What it uses now; some engines take a second to say so.

        Raises:
            NotRunning
        """
        ...

    async def volume_bytes(self, id: str) -> int:
        """What its volume holds, as a new process inside measures it.

        Raises:
            NotRunning, NoAnswer
        """
        ...

    def logs(self, id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[LogLine]:
        """What its main process has said; `follow` goes on until it ends or the iterator is closed."""
        ...

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[Event]:
        """What happens from now on to containers with these labels.

        Raises:
            EngineUnavailable: the engine has gone. What happened before one asks again is lost: `list` tells.
        """
        ...

    def exec(
        self,
        id: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = ROOT,
        tied: bool = False,
    ) -> AbstractAsyncContextManager[Execution]:
        """Run a command as the container's user. One that a limit ended says so last, on its standard error; see
        `inside.ends`.

        Args:
            tied: it is asked to end, and then forced, once its input has ended; so it is when its caller dies.

        Raises:
            NotRunning
        """
        ...

    async def connect(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A byte stream to the container's MCP server, as `loop.create_connection` gives one: HTTP/1.1 with kept-alive
        connections and the path `/mcp`, one exchange at a time. `open_stream` makes reader and writer of it.

        Raises:
            NotRunning
        """
        ...

    async def connect_to_proxy(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A line for the container's way out. `workspace_runtime.tunnel` holds such lines and answers them.

        Raises:
            NotRunning: also where the container has no way out.
        """
        ...

    async def close(self) -> None:
        """Let go of the engine. Containers run on."""
        ...


async def open_stream(runtime: Runtime, id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """`Runtime.connect` as a reader and a writer, which the caller closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    transport, protocol = await runtime.connect(id, lambda: asyncio.StreamReaderProtocol(reader, loop=loop))
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
