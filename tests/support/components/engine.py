"""A Docker engine for tests: the machine's, where one answers, else one of our own that is gone afterwards.

Ours needs root on Debian and the kernel's namespaces. It shares nothing with the machine or with other engines, so that
each xdist worker may have one, and one may be broken on purpose; `engine.sh` beside this file is its life. It starts
without any image and there may be no registry to pull from: `base_image` makes one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.components.machine import have, on_path
from tests.support.components.missing import ComponentMissing, tried_once

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_SCRIPT = Path(__file__).with_name("engine.sh")
_START_SECONDS = 60
_END_SECONDS = 60
_NETWORKS = 1 << 14  # the /30 networks in 198.18.0.0/16


class DockerFailed(AssertionError):
    """A docker command ended with an error."""


@dataclass(frozen=True)
class DockerEngine:
    """An engine that answers.

    Args:
        host: its address, as in DOCKER_HOST.
        address: the one to publish ports on, and to reach them at.
        ours: whether it is gone after the run, with everything in it.
    """

    host: str
    address: str
    ours: bool

    @property
    def cli(self) -> list[str]:
        """The words that run the client against it."""
        return [str(_client()), "--host", self.host]

    @property
    def env(self) -> dict[str, str]:
        """The environment for other programs that talk to it, without the machine's other variables."""
        kept = ("PATH", "HOME", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
        return {**{name: os.environ[name] for name in kept if name in os.environ}, "DOCKER_HOST": self.host}

    def run(self, *arguments: str, timeout: float = 60) -> str:
        """What a docker command prints.

        Raises:
            DockerFailed: with its last words.
        """
        done = subprocess.run([*self.cli, *arguments], capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            raise DockerFailed(f"docker {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout


@contextlib.contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """The machine's engine, else one of our own.

    Raises:
        ComponentMissing: DOCKER_HOST is set and nobody answers there, or none answers and none can be started.
    """
    found = _machines_engine()
    if found is not None:
        yield found
        return
    with own_engine() as made:
        yield made


def _machines_engine() -> DockerEngine | None:
    host = os.environ.get("DOCKER_HOST")
    if answers(host or _DEFAULT_HOST):
        address = urlsplit(host or _DEFAULT_HOST).hostname or "127.0.0.1"
        return DockerEngine(host or _DEFAULT_HOST, address, ours=False)
    if host:  # it was asked for by name; another would be a surprise
        raise ComponentMissing("docker-engine", f"no engine answers at {host}")
    return None


@contextlib.contextmanager
def own_engine() -> Iterator[DockerEngine]:
    """A fresh engine without images, whose containers reach the outside as this machine does.

    Raises:
        ComponentMissing: it cannot be installed, or does not start on this machine.
    """
    _programs()
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-engine-"))
    name = f"gh-{folder.name[-8:]}"
    network = (198 << 24) + (18 << 16) + 4 * random.randrange(_NETWORKS)
    outer, inner = (socket.inet_ntoa((network + number).to_bytes(4)) for number in (1, 2))
    engine = DockerEngine(f"unix://{folder}/sock", inner, ours=True)
    with (folder / "log").open("wb") as log:
        # It lives until its standard input is closed, by us or by the end of this process.
        process = subprocess.Popen(
            ["sh", str(_SCRIPT), str(folder), name, outer, inner],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt at the terminal is ours; it goes when we do
        )
    try:
        _wait_for(engine, process, folder / "log")
        yield engine
    finally:
        _end(process, folder)


def _wait_for(engine: DockerEngine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with log.open("rb") as words:
        while not answers(engine.host):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ComponentMissing("docker-engine", f"it does not start: {words.read()[-1000:].decode()}")
            time.sleep(0.02)


def kill_and_restart(engine: DockerEngine) -> None:
    """Kill one of our own engines with SIGKILL, and wait until its successor answers, with the same containers.

    Its containerd dies with it; what holds the containers is left behind, as after a crash.
    """
    folder = Path(urlsplit(engine.host).path).parent
    (folder / "again").touch()
    # containerd first, as a new engine would take an old one that still runs for its own.
    for pid in [*_running(f"{folder}/run/containerd/containerd.toml"), *_running(f"unix://{folder}/sock")]:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _START_SECONDS
    while (folder / "again").exists() or not answers(engine.host):
        if time.monotonic() > deadline:
            raise DockerFailed(f"the engine has not come back: {(folder / 'log').read_text()[-1000:]}")
        time.sleep(0.02)


def _running(argument: str) -> list[int]:
    """The processes that were given this argument."""
    found: list[int] = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and f"\0{argument}\0" in (path / "cmdline").read_text():
                found.append(int(path.name))
    return found


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def answers(host: str) -> bool:
    """Whether an engine serves at this address."""
    url = urlsplit(host)
    with contextlib.suppress(OSError), _connect(url.scheme, url.path, url.hostname, url.port) as connection:
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(1024)
    return False


def _connect(scheme: str, path: str, host: str | None, port: int | None) -> socket.socket:
    if scheme != "unix":
        return socket.create_connection((host or "127.0.0.1", port or 2375), timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


@tried_once
def _client() -> Path:
    return have("docker", on_path("docker"), "docker.io")


@tried_once
def _programs() -> None:
    if os.geteuid() != 0:
        raise ComponentMissing("docker-engine", f"no engine answers at {_DEFAULT_HOST}, and only root can start one")
    for program, package in (
        ("dockerd", "docker.io"),
        ("tini", "tini"),
        ("iptables", "iptables"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
    ):
        have("docker-engine", on_path(program), package)
