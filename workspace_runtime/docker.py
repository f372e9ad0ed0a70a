"""Containers on a Docker engine, on this machine or wherever DOCKER_HOST says.

Short calls go through the SDK in a few threads, since it blocks; whatever streams goes through `engine_line`. How a
container is held is `containment`. Where the engine has no quotas for volumes, the server inside and the keeper enforce
them. Images that do not hold our server get it by a volume, filled from our image once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from workspace_runtime import containment
from workspace_runtime.engine_line import Address, EngineLine, Frames
from workspace_runtime.execution import CarriedExecution
from workspace_runtime.image import context
from workspace_runtime.inside.processes import MARK
from workspace_runtime.readiness import wait_until_ready
from workspace_runtime.runtime import (
    GATEWAY_LABEL,
    LABEL,
    ROOT,
    BuildFailed,
    Container,
    ContainerMissing,
    ContainerSpec,
    EngineInfo,
    EngineUnavailable,
    Event,
    EventKind,
    Execution,
    ImageMissing,
    LogLine,
    NameTaken,
    NoAnswer,
    NotRunning,
    P,
    SpecRefused,
    StartFailed,
    State,
    Stats,
)

T = TypeVar("T")

IMAGE = f"gatehouse-workspace:{context.version()}"
"""Our image's tag unless said otherwise: another build has another."""
THREADS = 8
CALL_SECONDS = 60
RELAY_SECONDS = 5
_EVENTS = {
    "create": EventKind.CREATED,
    "start": EventKind.STARTED,
    "die": EventKind.EXITED,
    "oom": EventKind.OUT_OF_MEMORY,
    "destroy": EventKind.REMOVED,
}
_STATES = {"restarting": State.RUNNING, "removing": State.DEAD}
_LAST_WORDS = 20


class DockerRuntime:
    """Args:
    address: of the engine.
    image: the tag of our image; containers of other images get our server by a volume.
    engine_runtime: one that the engine knows, as `runsc`; its default if `None`.
    server: the words that run our server; tests have others.
    """

    kind = "docker"
    isolates = True

    def __init__(
        self,
        address: Address | None = None,
        *,
        image: str = IMAGE,
        engine_runtime: str | None = None,
        server: Sequence[str] = containment.SERVER,
    ) -> None:
        self._address = address or Address.of(os.environ)
        self._image = image
        self._engine_runtime = engine_runtime
        self._server = list(server)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._line = EngineLine(self._address)
        self._making = threading.Lock()
        self._client: Any = None
        self._quotas: bool | None = None
        self._code_volume: str | None = None
        self._seeding = asyncio.Lock()

    # -- the engine

    async def ping(self) -> EngineInfo:
        try:
            async with asyncio.timeout(5):
                found = await self._line.json("GET", "/version")
        except TimeoutError:
            raise EngineUnavailable(f"the engine at {self._address.url} has not answered within 5 s") from None
        return EngineInfo(self.kind, f"Docker {found['Version']}", isolates=self.isolates, volume_quotas=self._quotas)

    async def has_image(self, tag: str) -> bool:
        try:
            await self._call(lambda api: api.inspect_image(tag))
        except ContainerMissing:
            return False
        return True

    async def build_image(self, tag: str, base: str, say: Callable[[str], None] | None = None) -> str:
        loop = asyncio.get_running_loop()
        said: list[str] = []

        def tell(line: str) -> None:
            said.append(line)
            if say is not None:
                loop.call_soon_threadsafe(say, line)

        def build(api: Any) -> str:
            api.timeout = None  # a build is quiet while it installs
            failed = ""
            stream = api.build(
                fileobj=io.BytesIO(context.context()), custom_context=True, tag=tag, buildargs={"BASE": base}, rm=True,
                forcerm=True, decode=True, labels={f"{LABEL}.image": context.version()},
            )  # fmt: skip
            for record in stream:
                if words := record.get("stream", "").strip():
                    tell(words)
                failed = record.get("error", failed)
            if failed:
                raise _build_failure(failed, base, said)
            return str(api.inspect_image(tag)["Id"])

        return await self._call(build, fresh=True)

    # -- life

    async def create(self, spec: ContainerSpec) -> Container:
        if not await self.has_image(spec.image):
            raise ImageMissing(f"the engine has no image {spec.image}: build or pull it first")
        quota = await self._make_volume(spec)
        code = None if spec.image == self._image else await self._seed(spec.volume)
        config = {
            "Image": spec.image,
            "Entrypoint": [],
            "Cmd": self._server,
            "User": containment.USER,
            "WorkingDir": ROOT,
            "Hostname": "workspace",
            "Env": [f"{name}={value}" for name, value in containment.environment(spec, engine_quota=quota).items()],
            "Labels": spec.all_labels(),
            "StopSignal": "SIGTERM",
            "HostConfig": containment.host_config(spec, engine_runtime=self._engine_runtime, code_volume=code),
        }
        try:
            made = await self._call(lambda api: api.create_container_from_config(config, name=spec.name))
        except NotRunning as error:  # the engine says "conflict" for both
            raise NameTaken(f"the engine has a container {spec.name} already") from error
        return await self.inspect(made["Id"])

    async def start(self, id: str, timeout: float = 30.0) -> Container:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        try:
            async with asyncio.timeout_at(until):
                await self._call(lambda api: api.start(id))
        except TimeoutError:
            raise StartFailed(f"the engine has not started the container within {timeout:.0f} s") from None
        except (SpecRefused, EngineUnavailable) as error:
            await self.ping()  # an engine that answers refuses this container
            raise StartFailed(f"the container does not start: {error.message}") from error
        try:
            await wait_until_ready(functools.partial(self._connect, id, until - loop.time()), until)
        except (TimeoutError, ConnectionError, NotRunning) as error:
            await self._give_up(id, timeout, error)
        return await self.inspect(id)

    async def _give_up(self, id: str, timeout: float, error: Exception) -> None:
        found = await self.inspect(id)
        words = "\n".join([line.text async for line in self.logs(id, tail=_LAST_WORDS)])
        if found.state is State.RUNNING:
            await self.stop(id, grace=1)
            why = f"its server has not answered within {timeout:.0f} s"
        else:
            why = f"it ended with exit code {found.exit_code}" + (", out of memory" if found.out_of_memory else "")
        raise StartFailed(f"the container did not start: {why}. Its last words: {words or 'none'}") from error

    async def stop(self, id: str, grace: float = 5.0) -> None:
        await self._call(lambda api: api.stop(id, timeout=max(0, round(grace))))

    async def remove(self, id: str) -> None:
        with contextlib.suppress(ContainerMissing):
            await self._call(lambda api: api.remove_container(id, force=True, v=False))

    async def remove_volume(self, name: str) -> None:
        with contextlib.suppress(ContainerMissing):
            await self._call(lambda api: api.remove_volume(name))

    # -- looking

    async def inspect(self, id: str) -> Container:
        return _container(await self._call(lambda api: api.inspect_container(id)))

    async def list(self, labels: Mapping[str, str]) -> list[Container]:
        wanted = [f"{name}={value}" for name, value in labels.items()]
        listed = await self._call(lambda api: api.containers(all=True, filters={"label": wanted}))
        found: list[Container] = []
        for entry in listed:
            with contextlib.suppress(ContainerMissing):  # gone in between
                found.append(await self.inspect(entry["Id"]))
        return found

    async def stats(self, id: str) -> Stats:
        said = await self._call(lambda api: api.stats(id, stream=False))
        memory = said.get("memory_stats", {})
        if "usage" not in memory:
            raise NotRunning(f"the container {id} does not run")
        details = memory.get("stats", {})
        cache = details.get("inactive_file", details.get("total_inactive_file", 0))
        return Stats(
            at=_time(said["read"]) or datetime.now(UTC),
            cpu_seconds=said["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
            memory_bytes=max(0, memory["usage"] - cache),
            memory_limit=memory.get("limit", 0),
            pids=said.get("pids_stats", {}).get("current", 0),
        )

    async def volume_bytes(self, id: str) -> int:
        said = b""
        async with self._exec(id, containment.program("limits", f"report({ROOT!r})"), {}, "/") as execution:
            async for output in execution:
                said += output.data
        if not said.strip().isdigit():
            raise NoAnswer(f"the container's volume cannot be measured: {said[-200:].decode('utf-8', 'replace')}")
        return int(said)

    async def logs(self, id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[LogLine]:
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
        query["tail"] = "all" if tail is None else str(tail)
        left = {"stdout": b"", "stderr": b""}
        async for output in self._line.frames(f"/containers/{id}/logs", query):
            *whole, left[output.stream] = (left[output.stream] + output.data).split(b"\n")
            for line in whole:
                yield _log_line(output.stream, line)
        for stream, line in left.items():
            if line:
                yield _log_line(stream, line)

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[Event]:
        filters = {
            "type": ["container"],
            "event": list(_EVENTS),
            "label": [f"{name}={value}" for name, value in labels.items()],
        }
        async for line in self._line.lines("/events", {"filters": json.dumps(filters)}):
            said = json.loads(line)
            attributes = said["Actor"]["Attributes"]
            code = attributes.get("exitCode", "")
            yield Event(
                _EVENTS[said["Action"]],
                said["Actor"]["ID"],
                {name: value for name, value in attributes.items() if name.startswith(f"{LABEL}.")},
                datetime.fromtimestamp(said["timeNano"] / 1e9, UTC),
                int(code) if code.lstrip("-").isdigit() else None,
            )
        raise EngineUnavailable("the engine has ended its events")

    # -- reaching in

    def exec(
        self,
        id: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = ROOT,
        tied: bool = False,
    ) -> AbstractAsyncContextManager[Execution]:
        return self._exec(id, [*containment.ATTEND, "tied" if tied else "free", *command], env or {}, cwd)

    @asynccontextmanager
    async def _exec(
        self, id: str, command: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> AsyncGenerator[Execution]:
        execution = CarriedExecution()
        made = await self._make_exec(id, command, {**env, MARK: execution.mark}, cwd)
        transport = await self._line.attach(id, made, Frames(None, execution.said, execution.writable))
        execution.carry(transport, functools.partial(self._exit_code, made), functools.partial(_hold_back, transport))
        try:
            yield execution
        finally:
            if not execution.ended:
                await self._end_exec(id, execution.mark)
            transport.abort()

    async def connect(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        return await self._connect(id, RELAY_SECONDS, factory)

    async def connect_to_proxy(self, id: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A line for the container's way out, as `tunnel` holds some."""
        return await self._connect(id, RELAY_SECONDS, factory, containment.PROXY_SOCKET)

    async def _connect(
        self, id: str, seconds: float, factory: Callable[[], P], socket: str = containment.SOCKET
    ) -> tuple[asyncio.Transport, P]:
        made = await self._make_exec(id, [*containment.RELAY, socket, str(seconds)], {}, "/")
        protocol = factory()
        return await self._line.attach(id, made, Frames(protocol)), protocol

    async def _make_exec(self, id: str, command: Sequence[str], env: Mapping[str, str], cwd: str) -> str:
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": list(command),
            "Env": [f"{name}={value}" for name, value in env.items()],
            "User": containment.USER,  # else the engine takes the image's, and root's rights with it
            "WorkingDir": cwd,
        }
        return (await self._line.json("POST", f"/containers/{id}/exec", body))["Id"]

    async def _exit_code(self, exec_id: str) -> int:
        code = (await self._line.json("GET", f"/exec/{exec_id}/json"))["ExitCode"]
        return -1 if code is None else int(code)

    async def _end_exec(self, id: str, mark: str) -> None:
        """The engine lets a command go on when its stream is closed, so it is ended from inside."""
        with contextlib.suppress(ContainerMissing, NotRunning, EngineUnavailable):
            made = await self._make_exec(id, containment.program("processes", f"end_marked({mark!r})"), {}, "/")
            ended = asyncio.get_running_loop().create_future()
            ender = Frames(None, lambda output: None if output or ended.done() else ended.set_result(None))
            transport = await self._line.attach(id, made, ender)
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await ended
            finally:
                transport.abort()

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    # -- volumes

    async def _make_volume(self, spec: ContainerSpec) -> bool:
        """Make the volume where there is none. Whether the engine itself keeps it within its size."""
        labels = {GATEWAY_LABEL: spec.gateway, f"{LABEL}.workspace": spec.workspace}
        try:
            there = await self._call(lambda api: api.inspect_volume(spec.volume))
            return "size" in (there.get("Options") or {})
        except ContainerMissing:
            pass
        if self._quotas is not False:
            size = {"size": str(spec.limits.disk_bytes)}
            try:
                await self._call(lambda api: api.create_volume(spec.volume, "local", size, labels))
                self._quotas = True
            except (SpecRefused, EngineUnavailable):
                await self.ping()  # only an engine that answers has refused the size
                self._quotas = False
        if not self._quotas:
            await self._call(lambda api: api.create_volume(spec.volume, "local", None, labels))
        return bool(self._quotas)

    async def _seed(self, volume: str) -> str:
        """Give a volume its owner, and make the one with our server. An engine fills empty volumes from the image."""
        if not await self.has_image(self._image):
            raise ImageMissing(f"other images need ours for the server inside, and the engine has no {self._image}")
        name = self._code_volume or f"gatehouse-inside-{context.version()}"
        mounts = [
            {"Type": "volume", "Source": name, "Target": containment.CODE},
            {"Type": "volume", "Source": volume, "Target": ROOT},
        ]
        config = {"Image": self._image, "Cmd": ["true"], "HostConfig": {"Mounts": mounts, "NetworkMode": "none"}}
        async with self._seeding:
            made = await self._call(lambda api: api.create_container_from_config(config))
            await self.remove(made["Id"])
        self._code_volume = name
        return name

    # -- the SDK

    async def _call(self, work: Callable[[Any], T], *, fresh: bool = False) -> T:
        """Run a short call of the SDK in a thread.

        Args:
            fresh: with a client of its own, for what changes it.

        Raises:
            EngineUnavailable, ContainerMissing, NotRunning (also for conflicts), SpecRefused
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, work, fresh)

    def _run(self, work: Callable[[Any], T], fresh: bool) -> T:
        from docker import errors

        client: Any = None
        try:
            self._address.check()
            client = self._made() if fresh else self._shared()
            return work(client)
        except errors.APIError as error:
            raise _typed(error.status_code, str(error.explanation or error)) from error
        except errors.DockerException as error:
            raise EngineUnavailable(f"no engine answers at {self._address.url}: {error}") from error
        except OSError as error:  # what the SDK's HTTP library raises
            raise EngineUnavailable(f"the engine at {self._address.url} has not answered: {error}") from error
        finally:
            if fresh and client is not None:
                client.close()

    def _shared(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        from docker import APIClient
        from docker.tls import TLSConfig

        folder = self._address.certificates
        tls = (
            TLSConfig(client_cert=(f"{folder}/cert.pem", f"{folder}/key.pem"), ca_cert=f"{folder}/ca.pem", verify=True)
            if folder
            else False
        )
        return APIClient(self._address.url, version="1.41", timeout=CALL_SECONDS, tls=tls, num_pools=THREADS)


def _hold_back(transport: asyncio.Transport, held: bool) -> None:
    if transport.is_closing():
        return
    if held:
        transport.pause_reading()
    else:
        transport.resume_reading()


def _build_failure(words: str, base: str, said: list[str]) -> Exception:
    if not said or " : FROM " in said[-1]:
        return ImageMissing(f"the base image {base} is not there and cannot be pulled: {words}")
    tail = "\n".join(said[-_LAST_WORDS:])
    return BuildFailed(f"the image was not built: {words}\n{tail}")


def _typed(status: int | None, words: str) -> Exception:
    if status == 404:
        return ContainerMissing(f"the engine says: {words}")
    if status == 409:
        return NotRunning(f"the engine says: {words}")
    if status is not None and status < 500:
        return SpecRefused(f"the engine refuses: {words}")
    return EngineUnavailable(f"the engine failed: {words}")


def _container(found: Any) -> Container:
    state = found["State"]
    status = state["Status"]
    ended = _time(state["FinishedAt"])
    return Container(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        image=found["Config"]["Image"],
        state=_STATES.get(status) or State(status),
        labels=found["Config"]["Labels"] or {},
        created_at=_time(found["Created"]) or datetime.now(UTC),
        started_at=_time(state["StartedAt"]),
        finished_at=ended,
        exit_code=state["ExitCode"] if ended and status in {"exited", "dead"} else None,
        out_of_memory=state["OOMKilled"],
        error=state["Error"],
    )


def _time(words: str) -> datetime | None:
    """The engine's time; its zero, of the year 1, is none. Nanoseconds are cut."""
    if words.startswith("0001"):
        return None
    head, dot, rest = words.partition(".")
    if not dot:
        return datetime.fromisoformat(words)
    digits = rest.rstrip("Z+-:0123456789") or rest
    fraction = digits.rstrip("Z").split("+")[0].split("-")[0][:6]
    return datetime.fromisoformat(f"{head}.{fraction.ljust(6, '0')}+00:00")


def _log_line(stream: str, line: bytes) -> LogLine:
    at, _, text = line.decode("utf-8", "replace").partition(" ")
    try:
        return LogLine(_time(at), stream, text.rstrip("\r"))
    except ValueError:
        return LogLine(None, stream, f"{at} {text}")
