"""Operations of people, from the command line on: who may stop the system, what shows tampering, what limits say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.dripping import ROOT, GatewayProcess
from tests.support.tampering import unguard_file

TOOLS = ["mcp:tools:list", "mcp:tools:call"]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(tmp_path / "data") as running:
        yield running


async def _key(gateway: GatewayProcess, *permissions: str) -> str:
    body = {"name": "test", "permissions": list(permissions)}
    status, made = await gateway.rest("POST", "/v1/api-keys", body, key=gateway.admin_key)
    assert status == 201, made
    return str(made["api_key"])


async def _command(gateway: GatewayProcess, key: str, *words: str) -> tuple[int, str]:
    environment = gateway.env | {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_API_KEY": key}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *words,
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_system_is_stopped_by_operators_alone(gateway: GatewayProcess) -> None:
    manager = await _key(gateway, "emergency:manage", *TOOLS)
    status, answer = await gateway.rest("POST", "/api/v1/emergency/pause-all", {"scope": "system"}, key=manager)
    assert (status, answer["error"]["details"]) == (403, {"permission": "gateway:operate"})
    refused = await gateway.call(manager, "gatehouse__emergency_pause", {"scope": "system"})
    assert refused["result"]["structuredContent"]["error"]["code"] == "INSUFFICIENT_PERMISSIONS"
    assert (await _command(gateway, manager, "emergency", "pause", "--system"))[0] != 0
    code, said = await _command(gateway, gateway.admin_key, "emergency", "pause", "All of it.", "--system", "--json")
    assert code == 0
    assert json.loads(said)["stop"]["scope"] == "system"
    status, answer = await gateway.rest("POST", "/api/v1/emergency/pause-all", {"scope": "planet"}, key=manager)
    assert status == 400


async def test_the_command_names_the_record_that_was_tampered_with(gateway: GatewayProcess, tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    for _ in range(3):
        await gateway.call(gateway.admin_key, "gatehouse__health_get")
    code, said = await _command(gateway, gateway.admin_key, "audit", "verify", "--heads", str(heads))
    assert (code, json.loads(heads.read_text()) != []) == (0, True), said
    for place, why in ((tmp_path, "cannot be read"), (tmp_path / "no" / "folder.json", "cannot be kept")):
        code, said = await _command(gateway, gateway.admin_key, "audit", "verify", "--heads", str(place))
        assert code != 0
        assert why in said
        assert "Traceback" not in said
    with sqlite3.connect(gateway.data_dir / "gatehouse.db") as database:
        unguard_file(database)
        database.execute("UPDATE calls SET outcome = 'denied' WHERE chain_seq = 2")
    code, said = await _command(gateway, gateway.admin_key, "audit", "verify", "--heads", str(heads))
    assert code == 1
    assert "Row 2 of calls is not what was written" in said
    code, said = await _command(gateway, gateway.admin_key, "audit", "export", "--kind", "calls")
    assert [json.loads(line)["outcome"] for line in said.splitlines()] == ["ok", "denied", "ok"]


async def test_calls_are_limited(tmp_path: Path) -> None:
    limits = {"GATEHOUSE_CALLS_PER_MINUTE": "3", "GATEHOUSE_CALL_LIMITS": "gatehouse__health_get=1"}
    async with GatewayProcess(tmp_path / "data", **limits) as gateway:
        key = gateway.admin_key
        assert "result" in await gateway.call(key, "gatehouse__health_get")
        refused = await gateway.call(key, "gatehouse__health_get")
        assert (refused["error"]["code"], refused["error"]["data"]["limit"]) == (-31002, "tool")
        status, answer = await gateway.rest("POST", "/v1/tools/gatehouse__servers_list", {}, key=key)
        assert status == 200, answer
        status, answer = await gateway.rest("POST", "/v1/tools/gatehouse__servers_list", {}, key=key)
        assert status == 429, answer
        assert "result" in await gateway.call(key, "gatehouse__emergency_pause")
