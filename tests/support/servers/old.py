"""Servers over HTTP+SSE, the transport of revision 2024-11-05: the notes on the Python SDK, and the reference server.

Run as a program, this module serves the notes: `python -m tests.support.servers.old PORT`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

from tests.support.components.machine import CHECKOUT, free_port
from tests.support.components.node import NpmPackage
from tests.support.servers.process import Child, listening, plain_environment


class OldServer:
    """A server on a free loopback port. `url` is that of its event stream."""

    def __init__(self, name: str, argv: list[str], port: int, directory: Path) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/sse"
        env = plain_environment(directory, PYTHONPATH=str(CHECKOUT), PORT=str(port))
        self.child = Child(name, argv, log=directory / f"{name}-{port}.log", env=env, cwd=directory)
        self.child.wait_until(lambda: listening(port))

    @classmethod
    def notes(cls, directory: Path) -> Self:
        port = free_port()
        return cls("old-notes", [sys.executable, "-m", "tests.support.servers.old", str(port)], port, directory)

    @classmethod
    def everything(cls, package: NpmPackage, directory: Path) -> Self:
        port = free_port()
        return cls("old-everything", [*package.command(), "sse"], port, directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()


def _serve(port: int) -> None:
    import uvicorn  # only in the child

    from tests.support.servers.notes_program import build

    uvicorn.run(build().sse_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
