"""A started application with one server that answers, and a client that checks answers against the document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.echo import Echo, echo, tool


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[Echo]:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = [tool("read_file", schema)]
    resources = [{"uri": "file:///notes", "name": "notes"}]
    templates = [{"uriTemplate": "file:///{path}", "name": "files"}]
    async with echo(tools=tools, resources=resources, templates=templates) as server:
        yield server


@pytest.fixture
async def client(door: Door, upstream: Echo) -> Client:
    """With a server that is registered and healthy."""
    server = await door.register("Files", upstream.url)
    return Client(door, server["id"])
