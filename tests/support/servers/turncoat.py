"""A server whose definitions a test changes behind everybody's back, as a child process; see `turncoat_program`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.components.machine import CHECKOUT, free_port
from tests.support.servers.process import Child, listening, plain_environment


class Turncoat:
    """The server on a free loopback port.

    Args:
        directory: where its files go, in one of its own.
        tools: their definitions.
    """

    def __init__(self, directory: Path, name: str, tools: list[dict[str, Any]]) -> None:
        self._files = directory / name
        self._files.mkdir()
        self.offer(tools)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        program = ["-m", "tests.support.servers.turncoat_program", "--port", str(self.port), "--files", self._files]
        env = plain_environment(directory, PYTHONPATH=str(CHECKOUT))
        self.child = Child(name, [sys.executable, *program], log=self._files / "log", env=env, cwd=directory)
        self.child.wait_until(lambda: listening(self.port))

    def offer(self, tools: list[dict[str, Any]]) -> None:
        """Offer these from now on."""
        fresh = self._files / "fresh.json"
        fresh.write_text(json.dumps(tools))
        fresh.replace(self._files / "tools.json")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call that has reached it."""
        file = self._files / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()
