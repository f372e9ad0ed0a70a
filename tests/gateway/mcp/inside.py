"""Workspaces of an application in process: their containers are in memory, and an echo server answers in each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.wiring import workspaces as wiring
from tests.gateway.mcp.echo import Echo, echo
from tests.support.containers import MemoryRuntime
from workspace_runtime.docker import IMAGE


def in_memory(patch: pytest.MonkeyPatch) -> MemoryRuntime:
    """What every application that is made from now on runs its workspaces on."""
    made = MemoryRuntime(images={IMAGE})
    patch.setattr(wiring, "_runtime", lambda *_: made)
    return made


@asynccontextmanager
async def answering(runtime: MemoryRuntime) -> AsyncIterator[Echo]:
    """The server inside, whichever workspace it is."""
    async with echo(modern=True) as server:
        assert server.listener is not None
        runtime.server = ("127.0.0.1", server.listener.port)
        yield server
