"""The MCP inspector's command line, in both eras, with the agent's key."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.furnish import ALL_TOOLS, EVERYTHING, NOTES, WEB, Furnished
from tests.support.components.node import NpmPackage
from tests.support.gateway import COMMAND_SECONDS, Ran
from tests.support.servers import notes
from tests.support.servers.process import plain_environment

AUTHENTICATION_REQUIRED, TOOL_MISSING = 3, 5
"""Its exit codes."""

Inspect = Callable[..., Ran]


@pytest.fixture(params=["modern", "legacy"])
def inspect(
    request: pytest.FixtureRequest,
    npm_package: Callable[[str], NpmPackage],
    furnished: Furnished,
    tmp_path: Path,
) -> Inspect:
    command = npm_package("@modelcontextprotocol/inspector").command("mcp-inspector")

    def run(method: str, *options: str, key: str | None = None, url: str | None = None) -> Ran:
        where = ["--cli", url or furnished.mcp, "--transport", "http", "--protocol-era", request.param]
        who = ["--header", f"Authorization: Bearer {key or furnished.gateway.agent_key}", "--stored-auth-only"]
        done = subprocess.run(
            [*command, *where, *who, "--format", "json", "--method", method, *options],
            env=plain_environment(tmp_path),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def result(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.both
    return json.loads(ran.out)["result"]


def test_it_lists_tools(inspect: Inspect) -> None:
    assert {tool["name"] for tool in result(inspect("tools/list"))["tools"]} >= ALL_TOOLS


@pytest.mark.parametrize("server", [EVERYTHING, WEB])
def test_it_calls_the_reference_server(inspect: Inspect, server: str) -> None:
    told = result(inspect("tools/call", "--tool-name", f"{server}__get-sum", "--tool-arg", "a=2", "b=40"))
    assert told["content"] == [{"type": "text", "text": "The sum of 2 and 40 is 42."}]


def test_it_calls_the_modern_server(inspect: Inspect) -> None:
    told = result(inspect("tools/call", "--tool-name", f"{NOTES}__add", "--tool-arg", "a=2", "b=40"))
    assert told["structuredContent"] == {"result": 42}


def test_it_reads_a_resource(inspect: Inspect) -> None:
    (content,) = result(inspect("resources/read", "--uri", notes.README_URI))["contents"]
    assert content["text"] == notes.README_TEXT


def test_it_gets_a_prompt(inspect: Inspect) -> None:
    got = result(inspect("prompts/get", "--prompt-name", f"{NOTES}__{notes.PROMPT}", "--prompt-args", "language=C"))
    assert got["messages"][0]["content"]["text"] == "Review this C code."


def test_it_calls_at_one_servers_own_endpoint(inspect: Inspect, furnished: Furnished) -> None:
    url = furnished.server_mcp(NOTES)
    assert result(inspect("tools/call", "--tool-name", "shout", "--tool-arg", "text=hi", url=url))["content"] == [
        {"type": "text", "text": "HI"}
    ]


def test_it_reports_a_missing_tool(inspect: Inspect) -> None:
    assert inspect("tools/call", "--tool-name", f"{NOTES}__nothing").code == TOOL_MISSING


def test_it_reports_a_wrong_key(inspect: Inspect) -> None:
    assert inspect("tools/list", key="mcp_wrong_" + "x" * 40).code == AUTHENTICATION_REQUIRED
