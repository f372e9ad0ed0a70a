"""One list of operations, walked through every door: the same permission, the same effect, the same audit entry."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dripping import ROOT, GatewayProcess

TOOLS = ["mcp:tools:list", "mcp:tools:call"]


@dataclass(frozen=True)
class Operation:
    """What can be done, and how at each door.

    Args:
        audited: the action of the entry that it leaves; reading leaves none.
    """

    tool: str
    permission: str
    rest: tuple[str, str]
    command: tuple[str, ...]
    audited: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


OPERATIONS = [
    Operation(
        "emergency_pause",
        "emergency:manage",
        ("POST", "/api/v1/emergency/pause-all"),
        ("emergency", "pause", "A test."),
        audited="emergency.pause",
    ),
    Operation(
        "emergency_resume",
        "emergency:manage",
        ("POST", "/api/v1/emergency/resume-all"),
        ("emergency", "resume"),
        audited="emergency.resume",
    ),
    Operation("emergency_status", "mcp:health:read", ("GET", "/api/v1/emergency/status"), ("emergency", "status")),
    Operation("audit_search", "audit:read", ("GET", "/v1/audit"), ("audit", "search")),
    Operation("audit_verify", "audit:read", ("POST", "/v1/audit/verify"), ("audit", "verify")),
    Operation("usage_summary", "usage:read", ("GET", "/v1/usage/summary"), ("call", "gatehouse__usage_summary")),
    Operation("usage_calls", "usage:read", ("GET", "/v1/usage/calls"), ("call", "gatehouse__usage_calls")),
    Operation("metrics_query", "usage:read", ("GET", "/v1/usage/groups?by=tool"), ("call", "gatehouse__metrics_query")),
]


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


async def _entries(gateway: GatewayProcess, action: str) -> int:
    status, found = await gateway.rest("GET", f"/v1/audit?kind=changes&action={action}", key=gateway.admin_key)
    assert status == 200
    return len(found["entries"])


async def test_every_door_asks_for_the_same_and_leaves_the_same(gateway: GatewayProcess) -> None:
    able = {name: await _key(gateway, name, *TOOLS) for name in {one.permission for one in OPERATIONS}}
    unable = await _key(gateway, "mcp:servers:read", *TOOLS)
    for operation in OPERATIONS:
        key = able[operation.permission]
        status, answer = await gateway.rest(*operation.rest, key=key)
        assert status == 200, (operation, answer)
        result = await gateway.call(key, f"gatehouse__{operation.tool}", operation.arguments)
        assert result.get("result", {}).get("isError") is False, (operation, result)
        code, said = await _command(gateway, key, *operation.command)
        assert code == 0, (operation, said)
        if operation.audited:
            assert await _entries(gateway, operation.audited) == 3

        status, answer = await gateway.rest(*operation.rest, key=unable)
        assert (status, answer["error"]["details"]) == (403, {"permission": operation.permission}), operation
        # Over MCP what one may not use is not even there.
        result = await gateway.call(unable, f"gatehouse__{operation.tool}", operation.arguments)
        assert "Unknown tool" in result["error"]["message"], (operation, result)
        code, said = await _command(gateway, unable, *operation.command)
        assert code != 0, (operation, said)
        if operation.audited:
            assert await _entries(gateway, operation.audited) == 3


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
    with sqlite3.connect(gateway.data_dir / "gatehouse.db") as database:
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
