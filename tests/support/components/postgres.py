"""PostgreSQL for tests: a server of our own on a loopback port, and a database per test.

Each xdist worker that needs one starts its own server; that takes a second and needs no agreement between workers.
"""

from __future__ import annotations

import itertools
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

from tests.support.components.machine import Daemon, have, on_path
from tests.support.components.missing import ComponentMissing, tried_once

_UNPRIVILEGED = ("postgres", "nobody")  # the server refuses to run as root


@tried_once
def postgres_programs() -> Path:
    """The folder with initdb, postgres, createdb and dropdb."""
    return have("postgres", _find_programs, "postgresql")


def _find_programs() -> Path | None:
    # Debian keeps each major version in a folder of its own, outside PATH; the newest comes last.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", str(path)) or 0))
    initdb = on_path("initdb")()
    candidates = [*reversed(folders), *([initdb.resolve().parent] if initdb else [])]
    needed = ("initdb", "postgres", "createdb", "dropdb")
    return next((folder for folder in candidates if all((folder / name).exists() for name in needed)), None)


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in known:
            return name
    raise ComponentMissing("postgres", f"it must not run as root, and there is none of the users {_UNPRIVILEGED}")


class Postgres(Daemon):
    """A server with an empty cluster, trusting every local connection. It gives up safety on power loss for speed."""

    def __init__(self) -> None:
        self._programs = postgres_programs()
        # SIGINT is a fast shutdown; SIGQUIT leaves everything as a crash would, and takes the backends along.
        super().__init__("postgres", user=_unprivileged_user(), stop_signal=signal.SIGINT, crash_signal=signal.SIGQUIT)
        self._numbers = itertools.count(1)
        self._run(
            "initdb",
            "-D",
            str(self._data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]

    def answers(self) -> bool:
        # Its own status file, where the last line is the state; the first tells it from one that a crash left behind.
        status = self._data / "postmaster.pid"
        lines = status.read_text().split("\n") if status.exists() else [""]
        return lines[0] == str(self.pid) and lines[-2].strip() == "ready"

    def create_database(self, template: str = "template1") -> str:
        """Make a database that is a copy of `template`, which nobody may be connected to, and return its name."""
        name = f"test_{next(self._numbers)}"
        self._run("createdb", *self._address, "-T", template, name)
        return name

    def drop_database(self, name: str) -> None:
        """Delete a database, ending the connections to it."""
        self._run("dropdb", *self._address, "--force", "--if-exists", name)

    def url(self, database: str) -> str:
        """The database's address for SQLAlchemy with asyncpg."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def _address(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, **self.as_user())
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")
