"""Real clients against a catalog of ten servers: each lists them all, calls a tool of each, reads, and gets prompts."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.fleet import CALLED, CALLS, PROMPTED, READ, Fleet, fleet
from tests.e2e.test_claude_code import at_home
from tests.e2e.wire import LEGACY, MODERN
from tests.support.components.node import NpmPackage
from tests.support.gateway import COMMAND_SECONDS, Ran
from tests.support.servers.process import plain_environment

PROGRAM = Path(__file__).with_name("typescript.mjs")
AT_ONCE = 2
"""Programs for Node: most of each run is its start."""


@pytest.fixture(scope="module")
def ten(everything_package: NpmPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), everything_package) as made:
        yield made


def test_every_server_is_healthy_over_its_transport(ten: Fleet) -> None:
    answer = ten.gateway.rest("GET", "/v1/mcp/servers?limit=100")
    servers = {server["slug"]: server for server in answer.json()["servers"]}
    assert set(servers) == set(CALLS) - {"gatehouse"}
    assert {slug for slug, server in servers.items() if server["health_status"] != "healthy"} == set()
    transports: dict[str, int] = {}
    for server in servers.values():
        transports[server["transport"]] = transports.get(server["transport"], 0) + 1
    assert transports == {"stdio": 2, "streamable-http": 5, "sse": 2, "openapi": 1}


def test_claude_code_connects(ten: Fleet, npm_package: Callable[[str], NpmPackage], tmp_path: Path) -> None:
    claude = at_home(npm_package("@anthropic-ai/claude-code"), tmp_path)
    claude.add("fleet", ten.mcp, ten.key)
    assert "Connected" in claude.status(ten.mcp)


@pytest.mark.parametrize(("mode", "version"), [("legacy", LEGACY), (MODERN, MODERN)])
async def test_the_python_sdks_client(ten: Fleet, mode: str, version: str) -> None:
    headers = {"Authorization": f"Bearer {ten.key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client(ten.mcp, http_client=http), mode=mode) as client:
            assert client.protocol_version == version
            assert {tool.name for tool in (await client.list_tools()).tools} >= set(CALLED)
            for name, (arguments, part) in CALLED.items():
                called = await client.call_tool(name, arguments)
                assert part in "".join(each.text for each in called.content), name
            listed = {resource.uri for resource in (await client.list_resources()).resources}
            for uri, text in READ.items():
                assert uri in listed
                contents = (await client.read_resource(uri)).contents
                assert "".join(each.text for each in contents).startswith(text), uri
            assert {prompt.name for prompt in (await client.list_prompts()).prompts} >= set(PROMPTED)
            for name, text in PROMPTED.items():
                got = await client.get_prompt(name, {"language": "C"})
                assert got.messages[0].content.text == text


@pytest.mark.parametrize(
    ("release", "package", "era", "version"),
    [
        ("1", "@modelcontextprotocol/sdk", "legacy", LEGACY),
        ("2", "@modelcontextprotocol/client", "legacy", LEGACY),
        ("2", "@modelcontextprotocol/client", MODERN, MODERN),
    ],
)
async def test_the_typescript_sdks_client(
    ten: Fleet, npm_package: Callable[[str], NpmPackage], release: str, package: str, era: str, version: str
) -> None:
    installed = npm_package(package)
    # Beside the package, because that is where Node looks for what a program imports.
    program = installed.directory.parents[1].parent / f"fleet-{ten.gateway.port}-{release}-{era}.mjs"
    shutil.copyfile(PROGRAM, program)
    asked = {
        "tools": {name: arguments for name, (arguments, _) in CALLED.items()},
        "resources": list(READ),
        "prompts": {name: {"language": "C"} for name in PROMPTED},
    }
    command = [str(installed.node.program), str(program), release, era, ten.mcp, ten.key, json.dumps(asked)]
    try:
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    finally:
        program.unlink()
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["version"] == version
    assert set(seen["tools"]) >= set(CALLED)
    assert set(seen["resources"]) >= set(READ)
    assert set(seen["prompts"]) >= set(PROMPTED)
    assert {name for name, (_, part) in CALLED.items() if part not in seen["called"][name]} == set()
    assert {uri for uri, text in READ.items() if not seen["read"][uri].startswith(text)} == set()
    assert seen["prompted"] == PROMPTED


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector(ten: Fleet, npm_package: Callable[[str], NpmPackage], tmp_path: Path, era: str) -> None:
    command = npm_package("@modelcontextprotocol/inspector").command("mcp-inspector")
    where = ["--cli", ten.mcp, "--transport", "http", "--protocol-era", era]
    who = ["--header", f"Authorization: Bearer {ten.key}", "--stored-auth-only", "--format", "json"]

    def run(method: str, *options: str) -> Any:
        done = subprocess.run(
            [*command, *where, *who, "--method", method, *options],
            env=plain_environment(tmp_path),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, Ran(done.returncode, done.stdout, done.stderr).both
        return json.loads(done.stdout)["result"]

    def called(name: str) -> str:
        arguments = [f"{key}={value}" for key, value in CALLED[name][0].items()]
        given = ["--tool-arg", *arguments] if arguments else []
        return "".join(part.get("text", "") for part in run("tools/call", "--tool-name", name, *given)["content"])

    assert {tool["name"] for tool in run("tools/list")["tools"]} >= set(CALLED)
    with ThreadPoolExecutor(AT_ONCE) as few:
        answers = dict(zip(CALLED, few.map(called, CALLED), strict=True))
    assert {name for name, (_, part) in CALLED.items() if part not in answers[name]} == set()
    uri, text = next(iter(READ.items()))
    assert run("resources/read", "--uri", uri)["contents"][0]["text"].startswith(text)
    name, text = next(iter(PROMPTED.items()))
    got = run("prompts/get", "--prompt-name", name, "--prompt-args", "language=C")
    assert got["messages"][0]["content"]["text"] == text
