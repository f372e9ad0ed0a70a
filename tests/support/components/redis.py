"""Redis for tests: a server of our own on a loopback port, in memory only. Each xdist worker starts its own."""

from __future__ import annotations

from pathlib import Path

from tests.support.components.machine import Daemon, ask, have, on_path
from tests.support.components.missing import tried_once


@tried_once
def redis_program() -> Path:
    """The server's program; Valkey's serves as well."""
    return have("redis", on_path("redis-server", "valkey-server"), "redis-server")


class Redis(Daemon):
    """A server without persistence: what it holds is gone when it ends."""

    def __init__(self) -> None:
        self._program = redis_program()
        super().__init__("redis")

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [str(self._program), *where, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        return ask(self.port, b"PING\r\n") == b"+PONG\r\n"

    def empty(self) -> None:
        """Delete everything in it."""
        if ask(self.port, b"FLUSHALL\r\n") != b"+OK\r\n":
            raise RuntimeError("redis does not empty itself")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
