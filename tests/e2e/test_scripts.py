"""`scripts/serve` and `scripts/test` from a fresh checkout, of a project small enough to be installed in seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.components.machine import CHECKOUT

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "gatehouse"
version = "0"
dependencies = []
[project.optional-dependencies]
all = []
dev = ["pytest", "pytest-xdist"]
[project.scripts]
gatehouse = "sample:main"
[tool.setuptools]
py-modules = ["sample"]
[tool.pytest.ini_options]
testpaths = ["tests"]
markers = ["long: long"]
"""
TESTS = """
import pytest
def test_quick(): ...
@pytest.mark.long
def test_long(): assert False, "the long one ran"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(CHECKOUT / "scripts", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "sample.py").write_text("import sys\ndef main(): print(sys.argv[1:]); return 3\n")
    return tmp_path


def _run(checkout: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
    return subprocess.run(
        command, cwd="/", env=environment | env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def test_serve_installs_once_and_again_when_the_project_file_changes(checkout: Path) -> None:
    serve = str(checkout / "scripts" / "serve")
    first = _run(checkout, serve, "--port", "1 2")
    assert (first.returncode, first.stdout) == (3, "['serve', '--port', '1 2']\n"), first.stderr
    assert [line.split()[0] for line in first.stderr.splitlines()] == ["Making", "Installing"]

    assert _run(checkout, serve).stderr == ""

    (checkout / "pyproject.toml").write_text(PROJECT.replace('version = "0"', 'version = "1"'))
    assert [line.split()[0] for line in _run(checkout, serve).stderr.splitlines()] == ["Installing"]

    # A virtual environment does not survive being moved, so the scripts make a new one.
    moved = checkout.rename(checkout.with_name("moved"))
    again = _run(moved, str(moved / "scripts" / "serve"))
    assert (again.returncode, again.stdout) == (3, "['serve']\n"), again.stderr


def test_a_python_that_is_too_old_is_refused_in_words(checkout: Path) -> None:
    run = _run(checkout, str(checkout / "scripts" / "serve"), PYTHON="false")
    assert run.returncode == 1
    assert "Python 3.11 or newer is needed" in run.stderr
    assert not (checkout / ".venv").exists()


def test_the_fastest_python_of_those_that_can_is_taken(checkout: Path) -> None:
    """Each tells its probe a figure of its own: whichever is really the fastest differs from machine to machine."""
    known = {"python3": "900 3.11.9 /slow/python3", "python3.11": "", "python3.12": "80 3.12.1 /a fast/python3.12"}
    for name, told in known.items():
        program = checkout / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n[ -n '{told}' ] && echo '{told}'\n")
        program.chmod(0o755)
    pythons = " ".join(str(checkout / "bin" / name) for name in known)
    found = _run(checkout, "bash", "-c", f". {checkout}/scripts/lib.sh; find_python", PYTHON=pythons)
    assert found.stdout == "/a fast/python3.12\n", found.stderr


def test_test_runs_the_suite_and_the_long_tests_only_when_asked(checkout: Path) -> None:
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_sample.py").write_text(TESTS)
    conftest = (CHECKOUT / "tests" / "conftest.py").read_text()
    (checkout / "tests" / "conftest.py").write_text(
        re.sub(r"pytest_plugins = .*", "pytest_plugins = ['pytester']", conftest)
    )
    script = str(checkout / "scripts" / "test")

    short = _run(checkout, script)
    assert short.returncode == 0, short.stdout + short.stderr
    assert "1 passed" in short.stdout

    long = _run(checkout, script, "--long")
    assert long.returncode == 1
    assert "the long one ran" in long.stdout
    assert _run(checkout, script, "-k", "nothing_of_this_name").returncode == 5
