"""A stdio server's process: however it is ended, nothing of it is left."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.mcp.upstream.child import Child
from registry.servers.connection import Connection
from tests.support.servers.process import alive

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(own.pid, flush=True)
time.sleep(600)
"""
"""It heeds neither the end of its input nor SIGTERM, and has a child of its own."""


async def started(program: str) -> tuple[Child, int]:
    """The child, and the pid that it says."""
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connection = Connection("id", "org", "stubborn", "stdio", command=sys.executable, args=("-c", program))
    child = await Child.start(connection, "same", said.set_result, lambda _why: None)
    return child, int(await said)


async def all_ended(*pids: int) -> None:
    async with asyncio.timeout(30):
        while any(map(alive, pids)):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("patient", [True, False], ids=["waited for", "cancelled"])
async def test_it_ends_with_all_it_started(patient: bool) -> None:
    child, own = await started(STUBBORN)
    stopping = asyncio.create_task(child.stop())
    if not patient:
        # As far as waiting for it to see the end of its input.
        await asyncio.sleep(0)
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await all_ended(child.pid, own)
