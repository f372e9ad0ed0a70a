"""The way out of a container without a network: lines that are held into it, and what may leave by them.

Inside, `workspace_runtime.inside.proxy` is a proxy on the loopback; each connection that it takes is handed to a line
that waits, with the name of the host. Here it is decided whether that host may be reached, and only here it is dialled:
the container never resolves a name and never sends a packet. Addresses are vetted by whoever dials, which is the
gateway's egress; private ones, the engine and metadata services are refused there, whatever the rules say.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from workspace_runtime.runtime import (
    HOSTS_LABEL,
    NETWORK_LABEL,
    Container,
    ContainerMissing,
    EngineUnavailable,
    Network,
    NotRunning,
    Runtime,
)

Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connect to a host by name, or raise an `OSError` or `DialRefused`."""

SPARE = 2
"""Lines that wait, so that a connection need not wait for one."""
LINES = 32
"""Connections that one container may have at the same time."""
DIAL_SECONDS = 20.0
AGAIN_SECONDS = 1.0
PORTS = (80, 443)
_PIECE = 65536
_HOST = re.compile(r"(?P<any>\*\.)?(?P<name>[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[?[0-9a-f:.]+\]?)(:(?P<port>\d{1,5}))?")


class DialRefused(Exception):
    """The address may not be reached; the message may be shown to the container."""


class InvalidHost(ValueError):
    """No name that a rule could hold for."""


@dataclass(frozen=True)
class _Rule:
    name: str
    below: bool
    port: int | None

    def allows(self, host: str, port: int) -> bool:
        fits = host.endswith(f".{self.name}") if self.below else host == self.name
        return fits and (port == self.port if self.port is not None else port in PORTS)


class HostRules:
    """Which hosts a container may reach.

    Args:
        hosts: `example.org`, `*.example.org` (what is below it, not itself), each with an optional `:port`, else the
            ports of http and https.

    Raises:
        InvalidHost: one of them is none of these.
    """

    def __init__(self, network: Network, hosts: Sequence[str] = ()) -> None:
        self._open = network is Network.OPEN
        self._rules = [self._rule(host) for host in hosts] if network is Network.ALLOWLIST else []

    @classmethod
    def of(cls, container: Container) -> HostRules:
        """By the labels that the container was made with."""
        hosts = container.labels.get(HOSTS_LABEL, "")
        return cls(
            Network(container.labels.get(NETWORK_LABEL, Network.NONE)), [host for host in hosts.split(",") if host]
        )

    @staticmethod
    def _rule(host: str) -> _Rule:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            raise InvalidHost(f"{host!r} is no host: example.org, *.example.org, each with an optional :port")
        return _Rule(found["name"].strip("[]"), bool(found["any"]), int(found["port"]) if found["port"] else None)

    def allows(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        return self._open or any(rule.allows(host, port) for rule in self._rules)


@dataclass(frozen=True)
class Attempt:
    """A connection that a container wanted.

    Args:
        refused: why it has none; empty if it has.
    """

    container: str
    host: str
    port: int
    refused: str = ""


def _unseen(attempt: Attempt) -> None:
    return


class Tunnel:
    """Args:
    seen: is told of each connection that a container wants.
    """

    def __init__(self, runtime: Runtime, dial: Dial, seen: Callable[[Attempt], None] = _unseen) -> None:
        self._runtime = runtime
        self._dial = dial
        self._seen = seen

    async def hold(self, id: str, rules: HostRules) -> None:
        """Hold lines into a container until it stops, or this is cancelled.

        Raises:
            EngineUnavailable
        """
        idle, room = asyncio.Semaphore(SPARE), asyncio.Semaphore(LINES)
        with contextlib.suppress(NotRunning, ContainerMissing):
            try:
                async with asyncio.TaskGroup() as group:
                    while True:
                        await room.acquire()
                        await idle.acquire()
                        group.create_task(self._line(id, rules, idle, room))
            except* (NotRunning, ContainerMissing, EngineUnavailable) as errors:
                raise errors.exceptions[0] from None

    async def _line(self, id: str, rules: HostRules, idle: asyncio.Semaphore, room: asyncio.Semaphore) -> None:
        """One line: wait until it is asked for something, and carry that."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        waiting = True
        try:
            transport, protocol = await self._runtime.connect_to_proxy(
                id, partial(asyncio.StreamReaderProtocol, reader, loop=loop)
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                asked = (await reader.readline()).decode("utf-8", "replace").split()
                if len(asked) != 2 or not asked[1].isdigit():
                    await asyncio.sleep(AGAIN_SECONDS)  # the server inside is not there yet, or not any more
                    return
                idle.release()
                waiting = False
                with contextlib.suppress(ConnectionError):
                    await self._carry(id, rules, asked[0], int(asked[1]), reader, writer)
            finally:
                transport.abort()
        finally:
            if waiting:
                idle.release()
            room.release()

    async def _carry(
        self,
        id: str,
        rules: HostRules,
        host: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            out_reader, out_writer = await self._reach(rules, host, port)
        except DialRefused as refusal:
            self._seen(Attempt(id, host, port, str(refusal)))
            writer.write(f"-{' '.join(str(refusal).split())}\n".encode())
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):  # let it be read before the line goes
                    await reader.read()
            return
        self._seen(Attempt(id, host, port))
        try:
            writer.write(b"+\n")
            await asyncio.gather(_pump(reader, out_writer), _pump(out_reader, writer))
        finally:
            out_writer.close()

    async def _reach(self, rules: HostRules, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not rules.allows(host, port):
            raise DialRefused(f"{host}:{port} is not among the hosts that this workspace may reach")
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await self._dial(host, port)
        except TimeoutError:
            raise DialRefused(f"{host}:{port} has not answered within {DIAL_SECONDS:.0f} s") from None
        except OSError as error:
            raise DialRefused(f"{host}:{port} cannot be reached: {error.strerror or error}") from error


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
