from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.cli.conftest import Gatehouse, Ran
from tests.gateway.cli.fake_gateway import FakeGateway


def findings(ran: Ran) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(ran.out)}


def failing(ran: Ran) -> list[str]:
    return [name for name, finding in findings(ran).items() if finding["state"] == "fail"]


def test_a_sound_installation(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    gatehouse("servers", "add", "files", "http://10.0.0.1")
    ran = gatehouse("doctor", "--json")
    assert ran.code == 0
    assert {name: finding["state"] for name, finding in findings(ran).items()} == {
        "data dir": "ok",
        "first-run.txt": "ok",
        "settings": "ok",
        "gateway": "ok",
        "database": "ok",
        "key": "ok",
        "server slug-1": "ok",
    }
    assert "admin@example.com (admin)" in findings(ran)["key"]["found"]
    assert gatehouse("doctor").out.splitlines()[0].startswith("ok    data dir:")


def test_every_failing_line_says_what_to_do(fake: FakeGateway, gatehouse: Gatehouse, data_dir: Path) -> None:
    gatehouse("servers", "add", "files", "http://10.0.0.1")
    fake.servers["id-1"]["health_status"] = "unhealthy"
    fake.ready = False
    (data_dir / "first-run.txt").chmod(0o644)
    data_dir.chmod(0o777)
    ran = gatehouse("doctor", "--json")
    assert ran.code == 1
    assert failing(ran) == ["data dir", "first-run.txt", "database", "server slug-1"]
    assert "connection refused" in findings(ran)["server slug-1"]["found"]
    assert f"chmod 600 {data_dir / 'first-run.txt'}" == findings(ran)["first-run.txt"]["advice"]
    assert all(findings(ran)[name]["advice"] for name in failing(ran))


def test_an_unknown_setting(fake: FakeGateway, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PROT", "1")
    ran = gatehouse("doctor", "--json")
    assert (ran.code, failing(ran)) == (2, ["settings"])
    assert "GATEHOUSE_PROT" in findings(ran)["settings"]["found"]


def test_a_key_that_is_not_valid(fake: FakeGateway, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_API_KEY", "mcp_wrong_key")
    ran = gatehouse("doctor", "--json")
    assert (ran.code, failing(ran)) == (3, ["key"])
    assert findings(ran)["servers"]["state"] == "skip"
    assert "mcp_wrong_key" not in ran.out


def test_no_gateway(data_dir: Path, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("GATEHOUSE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
    ran = gatehouse("doctor", "--json")
    assert (ran.code, failing(ran)) == (4, ["gateway"])
    assert "gatehouse serve" in findings(ran)["gateway"]["found"]


def test_a_machine_that_never_ran_it(data_dir: Path, gatehouse: Gatehouse, fake: FakeGateway) -> None:
    for file in data_dir.iterdir():
        file.unlink()
    data_dir.rmdir()
    ran = gatehouse("doctor", "--json")
    assert (ran.code, failing(ran)) == (1, ["data dir", "first-run.txt", "key"])
