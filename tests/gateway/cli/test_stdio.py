"""`gatehouse stdio` as the process that a client starts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import ElicitRequestParams, ElicitResult

from tests.gateway.cli.fake_gateway import KEY, FakeGateway
from tests.gateway.cli.test_bridge import INITIALIZE, INITIALIZED, legacy, modern

COMMAND = [sys.executable, "-m", "gateway", "stdio"]
ROOT = Path(__file__).parents[3]


def started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def _name(context: Any, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Ann"})


@pytest.mark.requirement("stdio.nothing-else")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_the_sdks_client_in_each_era(fake: FakeGateway, data_dir: Path, mode: Any) -> None:
    environment = {"GATEHOUSE_URL": fake.url, "GATEHOUSE_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}
    parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment, cwd=ROOT)
    steps: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append(done)

    async with asyncio.timeout(60):
        async with Client(parameters, mode=mode, elicitation_callback=_name) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["echo", "count", "fail", "greet"]
            many = await asyncio.gather(*(client.call_tool("echo", {"text": f"n{n}\nü"}) for n in range(30)))
            assert [result.content[0].text for result in many] == [f"n{n}\nü" for n in range(30)]
            counted = await client.call_tool("count", {"to": 3}, progress_callback=progress)
            assert counted.content[0].text == "counted to 3"
            assert steps == [1, 2, 3]
            if mode == "legacy":  # the newer revision has no requests from a server
                assert (await client.call_tool("greet", {})).content[0].text == "hello Ann"
    assert len(fake.requests("DELETE")) == (1 if mode == "legacy" else 0)


@pytest.mark.requirement("stdio.exit")
def test_input_that_ends_is_answered_first(fake: FakeGateway) -> None:
    process = started()
    asked = line(modern(1, "tools/call", name="count", arguments={"to": 1})) + line(modern(2, "tools/list")).rstrip()
    out, err = process.communicate(asked, timeout=30)
    assert {json.loads(part)["id"] for part in out.splitlines()} == {1, 2}
    assert (process.returncode, err) == (0, b"")


def test_a_signal_ends_the_session_and_the_process(fake: FakeGateway) -> None:
    with started() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(line(INITIALIZE) + line(INITIALIZED))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 0
        fake.wait_for("GET")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr
        assert process.stderr.read() == b""
    assert len(fake.requests("DELETE")) == 1


def test_a_client_that_stops_reading_ends_it_too(fake: FakeGateway) -> None:
    with started() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(line(INITIALIZE))
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(line(legacy(1, "tools/list")))
        process.stdin.flush()
        assert process.wait(20) == 0
    assert len(fake.requests("DELETE")) == 1


def test_of_the_local_keys_the_agents_is_taken(fake: FakeGateway, data_dir: Path) -> None:
    (data_dir / "first-run.txt").write_text(f"admin_api_key=mcp_admin_key\nagent_api_key={KEY}\n")
    out, _ = started().communicate(line(modern(1, "tools/list")), timeout=30)
    assert "result" in json.loads(out)


def test_without_a_key_the_client_is_told(fake: FakeGateway, data_dir: Path) -> None:
    (data_dir / "first-run.txt").unlink()
    out, _ = started().communicate(line(modern(1, "tools/list")), timeout=30)
    assert "GATEHOUSE_API_KEY" in json.loads(out)["error"]["message"]
