"""A workspace's root in a temporary folder, and its tools, called as the server calls them."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from workspace_runtime.inside.beneath import Beneath
from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.git import Git
from workspace_runtime.inside.main import all_tools
from workspace_runtime.inside.shell import Shell
from workspace_runtime.inside.tool import Call, Result, check

ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}


class Tools:
    """Every tool of one workspace."""

    def __init__(self, root: Beneath, git: Git, shell: Shell) -> None:
        self.path = Path(root.path)
        self.git = git
        self.shell = shell
        self._tools = {tool.name: tool for tool in all_tools(root, git, shell)}

    async def __call__(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """The structured result, which must be as the tool's output schema says."""
        return (await self.result(name, Call(arguments))).structured

    async def result(self, name: str, call: Call) -> Result:
        tool = self._tools[name]
        check(dict(call.arguments), tool.schema)
        made = (
            await tool.run(call) if inspect.iscoroutinefunction(tool.run) else await asyncio.to_thread(tool.run, call)
        )
        check(made.structured, _strict(tool.output))
        return made

    async def refused(self, name: str, /, **arguments: Any) -> str:
        """What the tool says when it refuses."""
        with pytest.raises(ToolFailure) as caught:
            await self(name, **arguments)
        return str(caught.value)


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without room for what it does not name; numbers are left out, which `check` does not know."""
    if schema["type"] == "array":
        return {**schema, "items": _strict(schema["items"])}
    if schema["type"] != "object":
        return schema
    properties = {
        name: _strict(kind) if kind["type"] != "number" else {"type": "any"}
        for name, kind in schema["properties"].items()
    }
    known = {name: kind for name, kind in properties.items() if kind["type"] != "any"}
    return {**schema, "properties": known, "additionalProperties": len(known) < len(properties)}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Beneath]:
    (tmp_path / "workspace").mkdir()
    made = Beneath(str(tmp_path / "workspace"))
    yield made
    made.close()


@pytest.fixture
async def tools(root: Beneath) -> AsyncIterator[Tools]:
    shell = Shell(root, ENV)
    yield Tools(root, Git(root, ENV), shell)
    await shell.close()
