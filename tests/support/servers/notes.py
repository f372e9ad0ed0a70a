"""Our own small MCP server on the Python SDK, started as a child process; `notes_program` is what runs in it.

Its tool `era` answers with the protocol revision that the call came in with, so that a test can tell how the gateway
spoke to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, Self

from tests.support.components.machine import CHECKOUT, free_port
from tests.support.servers.process import Child, listening, plain_environment

TOOLS = ("add", "shout", "era", "fail")
README_URI = "notes://readme"
README_TEXT = "Notes are short."
ABOUT_TEMPLATE = "notes://about/{topic}"
PROMPT = "review"


class NotesServer:
    """The server on a free loopback port.

    Args:
        directory: where its log goes.
        era: what it serves: revision 2026-07-28 alone, or all that the SDK knows.
        port: given when a test wants it back at the same address.
    """

    def __init__(self, directory: Path, *, era: Literal["modern", "both"] = "modern", port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        program = ["-m", "tests.support.servers.notes_program", "--port", str(self.port), "--era", era]
        env = plain_environment(directory, PYTHONPATH=str(CHECKOUT))
        log = directory / f"notes-{self.port}.log"
        self.child = Child(f"notes ({era})", [sys.executable, *program], log=log, env=env, cwd=directory)
        self.child.wait_until(lambda: listening(self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()
