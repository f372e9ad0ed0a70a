"""`gatehouse stdio`: this process's pipes, at the ends of the bridge. What is carried, and how, is in `bridge`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import typer

from gateway.cli.bridge import Bridge
from gateway.cli.client import connected
from gateway.cli.local import ADMIN_KEY, AGENT_KEY, find_gateway
from gateway.cli.output import note
from registry.core.clock import SystemClock

_CHUNK = 65_536


def stdio(
    path: Annotated[
        str, typer.Option(help="The MCP endpoint: /mcp, /servers/SLUG/mcp, /sets/SLUG/mcp, /ws/NAME/mcp.")
    ] = "/mcp",
) -> None:
    """Connect an MCP client that only speaks stdio to the gateway."""
    asyncio.run(_main(path))


async def _main(path: str) -> None:
    # What comes through here is an agent's doing, so of the two local keys the agent's is taken first. Without any,
    # the bridge runs all the same: the client shows a refused request, but hides why a process ended.
    address = find_gateway(AGENT_KEY, ADMIN_KEY)
    stdout = _Stdout()
    async with connected(address) as client:
        bridge = Bridge(client, stdout.write, complain=_complain, clock=SystemClock(), path=path)
        carrying = asyncio.create_task(bridge.run(_stdin_lines()))
        stdout.when_closed = carrying.cancel
        _end_on_signals(carrying)
        with contextlib.suppress(asyncio.CancelledError):
            await carrying


def _complain(text: str) -> None:
    note(f"gatehouse: {text}")


def _end_on_signals(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers; there the process just ends
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


class _Stdout:
    """Writes whole lines from a thread, so that a client that reads slowly does not stop the bridge.

    Attributes:
        when_closed: called once a line finds no reader.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.when_closed: Callable[[], object] = lambda: None

    async def write(self, line: bytes) -> None:
        async with self._lock:
            try:
                await asyncio.to_thread(_write_all, line + b"\n")
            except BrokenPipeError:
                self.when_closed()


def _write_all(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]


async def _stdin_lines() -> AsyncIterator[bytes]:
    """The lines of stdin, whatever it is: a thread can read pipes, files and terminals alike."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        # Not through sys.stdin: its lock would still be held by this thread when the interpreter ends.
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants it any more
            while chunk := os.read(sys.stdin.fileno(), _CHUNK):
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            loop.call_soon_threadsafe(arrived.put_nowait, b"")

    threading.Thread(target=read, daemon=True, name="stdin").start()
    pending: list[bytes] = []
    while chunk := await arrived.get():
        first, *others = chunk.split(b"\n")
        pending.append(first)
        for part in others:
            yield b"".join(pending)
            pending = [part]
    if last := b"".join(pending):
        yield last
