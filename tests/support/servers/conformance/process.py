"""The server as a child process of a test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

from tests.support.components.machine import CHECKOUT, free_port
from tests.support.servers.process import Child, listening, plain_environment


class ConformanceServer:
    """Running, over streamable HTTP.

    Args:
        directory: where its log goes.
        era: what it speaks: "both", "legacy" or "modern".
    """

    def __init__(self, directory: Path, era: str = "both") -> None:
        self.era = era
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        program = "tests.support.servers.conformance"
        argv = [sys.executable, "-m", program, "--port", str(self.port), "--era", era]
        env = plain_environment(directory, PYTHONPATH=str(CHECKOUT))
        log = directory / f"conformance-{era}.log"
        self.child = Child(f"the conformance server ({era})", argv, log=log, env=env, cwd=CHECKOUT)
        self.child.wait_until(lambda: listening(self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()
