"""An engine of our own shares nothing with the machine, and nothing stays of it, however its user ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.components.base_image import TAG, base_image
from tests.support.components.engine import DockerEngine, DockerFailed, answers, own_engine
from tests.support.components.machine import CHECKOUT
from tests.support.components.missing import skip_if_missing
from tests.support.gateway import exchange

SECONDS = 30
IDLE = ("run", "--detach", "--name", "idle", "--init", "--memory", "64m")
SERVE = ("python", "-m", "http.server", "--directory", "/usr/share/base-files", "8000")
USER = f"""
import signal
from tests.support.components.base_image import base_image
from tests.support.components.engine import own_engine
with own_engine() as engine, base_image(engine) as image:
    engine.run(*{IDLE}, "--publish", f"{{engine.address}}::8000", image, *{SERVE})
    print(engine.host, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with skip_if_missing(), own_engine() as made:
        yield made


@pytest.fixture(scope="module")
def image(engine: DockerEngine) -> Iterator[str]:
    with skip_if_missing(), base_image(engine) as tag:
        yield tag


def folder_of(host: str) -> Path:
    return Path(host.removeprefix("unix://")).parent


def traces(folder: Path) -> list[str]:
    """What the machine shows of an engine: processes, mounts, links, rules, control groups, files."""
    name = folder.name[-8:]
    commands = (["ps", "-eo", "args"], ["ip", "-o", "link"], ["iptables-save"])
    words = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    words.append(Path("/proc/mounts").read_text())
    found = [line for text in words for line in text.splitlines() if name in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/*{name}*")]
    return found + [str(path) for path in Path(tempfile.gettempdir()).glob(f"*{name}*")]


def serves(engine: DockerEngine, container: str) -> bool:
    port = engine.run("port", container, "8000/tcp").strip().rpartition(":")[2]
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            return exchange(f"http://{engine.address}:{port}/").status == 200
        time.sleep(0.05)
    return False


def test_the_image_holds_what_ours_is_built_with(engine: DockerEngine, image: str) -> None:
    script = "python --version && git --version && tini --version && useradd someone && python -m venv /tmp/venv"
    said = engine.run("run", "--rm", image, "sh", "-c", script)
    assert said.startswith("Python 3.")
    trusted = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    assert int(engine.run("run", "--rm", image, "python", "-c", trusted)) > 0


def test_the_image_holds_nothing_of_this_machine(engine: DockerEngine, image: str) -> None:
    users = engine.run("run", "--rm", image, "cat", "/etc/passwd")
    assert users == Path("/usr/share/base-passwd/passwd.master").read_text()
    for path in ("/etc/shadow", "/root/.bashrc", "/etc/pip.conf", "/usr/local/bin/python"):
        with pytest.raises(DockerFailed, match="No such file"):
            engine.run("run", "--rm", image, "cat", path)


def test_two_engines_do_not_know_each_other(engine: DockerEngine, image: str) -> None:
    serve = (*IDLE, "--publish", "8000:8000", image, *SERVE)
    engine.run(*serve)
    with own_engine() as other:
        assert other.run("images", "--quiet", TAG) == ""
        with base_image(other):
            other.run(*serve)
            assert serves(engine, "idle")
            assert serves(other, "idle")
    assert traces(folder_of(other.host)) == []
    assert serves(engine, "idle"), "the end of the one has taken something from the other"
    engine.run("rm", "--force", "idle")


def test_nothing_stays_when_its_user_is_killed(engine: DockerEngine) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", USER], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ) as user:
        assert user.stdout is not None
        host = user.stdout.readline().strip()
        folder = folder_of(host)
        assert answers(host)
        assert {line.split()[0] for line in traces(folder)} > {"dockerd"}
        user.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces(folder) == []
