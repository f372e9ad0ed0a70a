"""`docker-compose.yml` is read by compose itself, old and new, and says what it must about safety."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.components.machine import CHECKOUT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the compose file alone, so that a `.env` of the checkout plays no part."""
    shutil.copy(CHECKOUT / "docker-compose.yml", tmp_path)
    return tmp_path


def _gateway(compose: list[str], project: Path) -> dict[str, Any]:
    run = subprocess.run(
        [*compose, "config"], cwd=project, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return yaml.safe_load(run.stdout)["services"]["gateway"]


def test_compose_accepts_the_file_without_any_setting(docker_compose: list[str], project: Path) -> None:
    gateway = _gateway(docker_compose, project)
    assert [value for value in (gateway.get("environment") or {}).values() if value] == []
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert "/livez" in str(gateway["healthcheck"]["test"])


def test_settings_come_from_a_file_beside_it(docker_compose: list[str], project: Path) -> None:
    (project / ".env").write_text("GATEHOUSE_PUBLIC_URL=https://gate.example\nUNRELATED=1\n")
    environment = _gateway(docker_compose, project)["environment"]
    assert {name: value for name, value in environment.items() if value} == {
        "GATEHOUSE_PUBLIC_URL": "https://gate.example"
    }


def test_the_file_holds_no_secret_and_publishes_on_loopback_only() -> None:
    file = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    gateway = file["services"]["gateway"]
    assert [entry for entry in gateway["environment"] if "=" in entry] == []
    assert all(port.startswith("127.0.0.1:") for port in gateway["ports"])
    assert gateway["security_opt"] == ["no-new-privileges:true"]
    assert "name" not in file, "old compose refuses a project name in the file"
