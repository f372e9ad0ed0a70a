"""The requirements of the protocol as data, and which tests say that they show them.

`requirements.toml` is the list. The tests are found as pytest finds them, by collecting the files that have a marker
`requirement`: this module is the plugin that writes down what was collected.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.components.machine import CHECKOUT

FILE = Path(__file__).with_name("requirements.toml")
LEVELS = ("must", "must not", "should", "should not", "may", "bridge")
PAGE = re.compile(r"(20\d\d-\d\d-\d\d|sep)/[a-z0-9/_-]+(#[a-z0-9-]+)?")
SECONDS = 300
_OUT = "REQUIREMENTS_SHOWN"


@dataclass(frozen=True)
class Requirement:
    """One entry of the list."""

    id: str
    page: str
    level: str
    statement: str


def requirements() -> list[Requirement]:
    listed = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return [Requirement(identifier, **entry) for identifier, entry in listed.items()]


def marked_files() -> list[Path]:
    return sorted(
        path
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        if path.name != "test_requirements.py" and re.search(r"\brequirement\(", path.read_text(encoding="utf-8"))
    )


def shown(files: list[Path], out: Path) -> dict[str, list[str]]:
    """The tests that show each requirement, by its id, as a run would collect them.

    Args:
        out: a file to use.
    """
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", __name__, "-p", "no:cacheprovider"]
    env = {**os.environ, _OUT: str(out), "PYTHONPATH": str(CHECKOUT)}
    # Neither another run's options nor its workers are this one's.
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *map(str, files)], cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found: dict[str, list[str]] = json.loads(out.read_text())
    return found


def pytest_collection_finish(session: pytest.Session) -> None:
    out = os.environ.get(_OUT)
    if out is None:
        return
    found: dict[str, list[str]] = {}
    for item in session.items:
        for mark in item.iter_markers("requirement"):
            for identifier in mark.args:
                found.setdefault(identifier, []).append(item.nodeid)
    Path(out).write_text(json.dumps(found))
