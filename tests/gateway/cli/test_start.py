"""What the command loads, and what `serve` refuses before it loads anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gateway.cli.rpc import own_version
from tests.gateway.cli.conftest import Gatehouse

HEAVY = ("aiohttp", "fastapi", "mcp", "pydantic", "rich", "sqlalchemy", "starlette", "structlog")


def test_the_command_line_loads_nothing_heavy() -> None:
    code = f"import gateway.cli, json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout) == []


def test_serve_refuses_settings_in_one_sentence(gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PROT", "8001")
    ran = gatehouse("serve")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "gatehouse: Unknown setting GATEHOUSE_PROT: check the spelling against the README.\n"
    monkeypatch.delenv("GATEHOUSE_PROT")
    monkeypatch.setenv("GATEHOUSE_SECRET_KEY", "short")
    ran = gatehouse("serve")
    assert ran.code == 2
    assert "GATEHOUSE_SECRET_KEY" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "gateway", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, own_version())
    command = [sys.executable, "-m", "gateway", "call", "x", "y"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (2, "gatehouse: 'y' is not an argument: write NAME=VALUE.\n")
