"""The command line against the gateway itself: both are processes, as a person at a terminal has them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.support.components.machine import free_port

ROOT = Path(__file__).parents[2]

UPSTREAM = """
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("upstream")


@server.tool()
async def echo(text: str) -> str:
    return text


@server.tool()
async def count(to: int, ctx: Context) -> str:
    for step in range(1, to + 1):
        await ctx.report_progress(step, to)
    return f"counted to {to}"


server.run("stdio")
"""


@dataclass
class Terminal:
    """A shell on the gateway's machine."""

    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *arguments]
        ran = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran

    def json(self, *arguments: str) -> Any:
        # What follows -- is another program's.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        return json.loads(self.run(*arguments[:end], "--json", *arguments[end:]).stdout)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A gateway on its first run, and a terminal that knows only where it listens."""
    directory, port = tmp_path_factory.mktemp("gateway"), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    environment |= {"PYTHONPATH": str(ROOT), "GATEHOUSE_DATA_DIR": str(directory / "data")}
    # Where the tests run as root, their interpreter and folders may be closed to the user that children run as.
    environment["GATEHOUSE_STDIO_USER"] = "same"
    url = f"http://127.0.0.1:{port}"
    with (directory / "log").open("wb") as log:
        command = [sys.executable, "-m", "gateway", "serve", "--port", str(port)]
        gateway = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        for _ in range(600):
            if gateway.poll() is not None or _ready(url):
                break
            try:
                gateway.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert gateway.poll() is None, (directory / "log").read_text()
        yield Terminal(environment | {"GATEHOUSE_URL": url})
    finally:
        gateway.terminate()
        gateway.wait(30)


@pytest.fixture(scope="module")
def upstream(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The slug of a server that was registered by its command."""
    program = tmp_path_factory.mktemp("upstream") / "server.py"
    program.write_text(UPSTREAM)
    return terminal.json("servers", "add", "up", "--env", "PYTHONUNBUFFERED=1", "--", sys.executable, str(program))[
        "slug"
    ]


def test_a_server_from_registering_to_removal(terminal: Terminal, upstream: str) -> None:
    assert upstream in terminal.run("servers", "list").stdout
    assert terminal.json("servers", "show", upstream)["name"] == "up"
    assert terminal.run("servers", "refresh", "up").stdout.startswith("2 tools")
    added = terminal.run("servers", "add", "gone", "http://127.0.0.1:1/mcp")
    assert "does not answer well yet: gone was not reached" in added.stderr
    assert "does not answer well: gone was not reached" in terminal.run("servers", "show", "gone").stderr
    changed = terminal.json("servers", "update", "gone", "--description", "soon", "--environment", "staging")
    assert (changed["description"], changed["environment"], changed["name"]) == ("soon", "staging", "gone")
    assert "Say what to change" in terminal.run("servers", "update", "gone", code=2).stderr
    assert "no login" in terminal.run("accounts", "connect", "gone", code=1).stderr
    removed = terminal.run("servers", "remove", "gone")
    job = removed.stderr.partition("job ")[2].partition(":")[0]
    assert "servers.cleanup" in terminal.run("jobs", "show", job).stdout
    assert [server["name"] for server in terminal.json("servers", "list")] == ["up"]


def test_tools_are_listed_and_called(terminal: Terminal, upstream: str) -> None:
    assert f"{upstream}__echo" in terminal.run("tools", "list").stdout
    assert terminal.run("call", f"{upstream}__echo", "text=hello").stdout == "hello\n"
    counted = terminal.run("call", f"{upstream}__count", "to=2")
    assert counted.stdout == "counted to 2\n"
    assert len(counted.stderr.splitlines()) == 2
    assert f"gatehouse why {upstream}__nothing" in terminal.run("call", f"{upstream}__nothing", code=1).stderr


def test_a_key_opens_what_it_was_made_for_until_it_is_revoked(terminal: Terminal, upstream: str) -> None:
    made = terminal.json("keys", "create", "narrow", "--tool", f"{upstream}__echo")
    holder = Terminal(terminal.environment | {"GATEHOUSE_API_KEY": made["api_key"]})
    assert [tool["name"] for tool in holder.json("tools", "list")] == [f"{upstream}__echo"]
    assert "narrow" in terminal.run("keys", "list").stdout
    terminal.run("keys", "revoke", str(made["id"]))
    assert "GATEHOUSE_API_KEY" in holder.run("tools", "list", code=3).stderr


def test_doctor_finds_nothing_to_do(terminal: Terminal, upstream: str) -> None:
    assert {finding["state"] for finding in terminal.json("doctor")} == {"ok"}


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_the_sdks_client_through_the_bridge(terminal: Terminal, upstream: str, mode: Any) -> None:
    arguments = ["-m", "gateway", "stdio"]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=terminal.environment, cwd=ROOT)
    steps: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append(done)

    async with asyncio.timeout(60), Client(parameters, mode=mode) as client:
        assert f"{upstream}__echo" in {tool.name for tool in (await client.list_tools()).tools}
        many = await asyncio.gather(*(client.call_tool(f"{upstream}__echo", {"text": f"n{n}"}) for n in range(20)))
        assert [result.content[0].text for result in many] == [f"n{n}" for n in range(20)]
        await client.call_tool(f"{upstream}__count", {"to": 2}, progress_callback=progress)
        assert steps == [1, 2]
