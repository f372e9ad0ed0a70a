"""The machine under the components: Debian packages, locks between workers, loopback ports, server processes.

Knows no component; `postgres`, `redis`, `node` and `tools` stand on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.components.missing import ComponentMissing

CHECKOUT = Path(__file__).resolve().parents[3]
STORE = CHECKOUT / ".components"  # ignored by git

_TRIES = 3
_INSTALL_SECONDS = 600
_START_SECONDS = 60
_STOP_SECONDS = 20
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` against every other process that uses this checkout."""
    STORE.mkdir(exist_ok=True)
    with (STORE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def attempt(component: str, commands: list[list[str]], env: dict[str, str]) -> None:
    """Run these commands in turn, all over again when one fails, three times at most.

    Raises:
        ComponentMissing: it failed each time; with the last words of the command that did.
    """
    words = ""
    for _ in range(_TRIES):
        for command in commands:
            try:
                done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
            except subprocess.TimeoutExpired:
                words = f"no end after {_INSTALL_SECONDS} s"
                break
            if done.returncode != 0:
                words = (done.stderr.strip() or done.stdout.strip())[-300:]
                break
        else:
            return
    raise ComponentMissing(component, f"`{' '.join(command)}` failed {_TRIES} times: {words}")


def have(component: str, find: Callable[[], Path | None], *packages: str) -> Path:
    """What `find` finds, after installing Debian packages where it finds nothing at first.

    Raises:
        ComponentMissing: not there, and this is not root on Debian, or the installation failed.
    """
    with locked("apt"):
        found = find()
        if found is None:
            _install_debian_packages(component, *packages)
            found = find()
    if found is None:
        raise ComponentMissing(component, f"the Debian packages {' '.join(packages)} do not contain it")
    return found


def _install_debian_packages(component: str, *packages: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ComponentMissing(component, f"it is not installed, and only root on Debian can do that ({packages[0]})")
    install = ["apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *packages]
    # At runlevel 1 a package does not start its own server.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    attempt(component, [["apt-get", "update"], install], env)


def on_path(*names: str) -> Callable[[], Path | None]:
    """For `have`: looks for the first of these programs, in the administrator's folders too."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    return lambda: next((Path(found) for name in names if (found := shutil.which(name, path=path))), None)


def _ports() -> Iterator[int]:
    """Ports below those that the system gives away, of which each worker of the tests has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _FIRST_PORT + worker * _PORTS
    # Programs that the tests start may want ports as well: they begin elsewhere.
    for number in itertools.count(os.getpid() * 101):
        yield first + number % _PORTS


_WORKERS, _FIRST_PORT, _PORTS = 5, 12_000, 4_000
_PORT = _ports()


def free_port() -> int:
    """A loopback port that nobody listens on now, and that nobody is given before it is listened on."""
    for port in itertools.islice(_PORT, _PORTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("every port of this worker is in use")


def ask(port: int, words: bytes) -> bytes:
    """Send a line to a loopback port and return the first bytes of the answer; nothing when nobody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(words)
        return connection.recv(1024)
    return b""


class Daemon:
    """A server process with a data folder and a loopback port, which it keeps when it is started again.

    Args:
        name: for the folder and for messages.
        user: who runs it, and owns the folder; None for whoever runs the tests.
        stop_signal: asks it to end in good order.
        crash_signal: ends it at once, as a crash would.
    """

    def __init__(
        self,
        name: str,
        *,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        crash_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.user = user
        self.port = free_port()
        # Directly in the system's temporary folder: pytest's own is closed to other users.
        self.directory = Path(tempfile.mkdtemp(prefix=f"gatehouse-{name}-"))
        if user is not None:
            shutil.chown(self.directory, user)
        self._stop_signal = stop_signal
        self._crash_signal = crash_signal
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line that serves `self.port` from `self.directory` in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process, while it has not been ended."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended or stayed silent; with the end of its log.
        """
        log = self.directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=self._end_with_parent,  # noqa: PLW1509 - it makes one system call, prepared before the fork
                **self.as_user(),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.crash()
                raise RuntimeError(f"{self.name} does not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order; nothing happens when it does not run."""
        self._end(self._stop_signal)

    def crash(self) -> None:
        """End it at once."""
        self._end(self._crash_signal)

    def remove(self) -> None:
        """End it and delete its folder."""
        self.stop()
        shutil.rmtree(self.directory)

    def as_user(self) -> dict[str, object]:
        """Arguments for `subprocess` that run a program as this server's user."""
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}

    def _end_with_parent(self) -> None:
        # So that a test run that is killed leaves no server behind.
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, self._crash_signal)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
