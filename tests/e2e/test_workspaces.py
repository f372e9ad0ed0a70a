"""Workspaces on a real container engine, as their users have them: over REST, over MCP, from the command line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.e2e.test_python_client import connected
from tests.support.components.engine import DockerEngine
from tests.support.gateway import RunningGateway
from workspace_runtime.docker import IMAGE

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine, docker_base_image: str) -> dict[str, str]:
    """What a gateway is told, so that its workspaces run on this engine."""
    return {**docker_engine.env, "GATEHOUSE_WORKSPACE_BASE_IMAGE": docker_base_image, "GATEHOUSE_RATE_LIMITS": "off"}


@pytest.fixture
def gateway(image: dict[str, str], tmp_path: Path, docker_engine: DockerEngine) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path / "data", env=image) as made:
        yield made
    _remove_all(docker_engine)


@pytest.fixture(scope="module", autouse=True)
def _image_built(image: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the command that operators have for it, once for all tests here."""
    with RunningGateway(tmp_path_factory.mktemp("build") / "data", env=image) as made:
        built = made.cli("workspaces", "build-image")
    assert built.out == f"Built {IMAGE}.\n", built.both


def _remove_all(engine: DockerEngine) -> None:
    ids = engine.run("ps", "--all", "--quiet", "--filter", "label=gatehouse.gateway").split()
    if ids:
        engine.run("rm", "--force", "--volumes", *ids)


def create(gateway: RunningGateway, name: str, **more: Any) -> dict[str, Any]:
    answer = gateway.rest("POST", "/api/v1/workspaces", {"name": name, **more})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    assert made["container_status"] == "starting"
    return made


def wait_for(gateway: RunningGateway, workspace: int, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found: dict[str, Any] = gateway.rest("GET", f"/api/v1/workspaces/{workspace}").json()["data"]
        if found["container_status"] == status:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    done = await client.call_tool(tool, arguments)
    assert not done.is_error, done.content
    assert done.structured_content is not None
    return done.structured_content


async def test_an_agent_gets_work_done(gateway: RunningGateway) -> None:
    made = create(gateway, "my-workspace", metadata={"description": "first"})
    assert made["endpoint_url"] == f"{gateway.url}/ws/my-workspace/mcp"
    async with connected(made["endpoint_url"], gateway.agent_key, "auto") as client:
        # It is still starting: the first call waits for it.
        await call(client, "shell_run", command=_ORIGIN)
        cloned = await call(client, "git_clone", url="file:///workspace/.origin.git", directory="project")
        assert cloned["branch"] == "main"
        await call(client, "edit_file", path="project/sums.py", old_text="a - b", new_text="a + b")
        tested = await call(client, "shell_run", command="python3 -B -m unittest -q", cwd="project")
        assert (tested["exit_code"], "OK" in tested["stderr"]) == (0, True), tested
        await call(client, "git_add", repository="project", paths=["sums.py"])
        committed = await call(client, "git_commit", repository="project", message="Add instead")
        assert (await call(client, "git_push", repository="project"))["commit"] == committed["commit"]
        assert (await call(client, "git_status", repository="project"))["status"] == "clean"
    stopped = gateway.rest("POST", f"/v1/workspaces/{made['id']}/stop").json()["data"]
    assert stopped["status"] == "inactive"
    wait_for(gateway, made["id"], "stopped")
    body = {"workspace_id": made["id"], "tool": "git_log", "parameters": {"repository": "project", "limit": 1}}
    woken = gateway.rest("POST", "/api/v1/mcp/invoke", body)
    assert woken.status == 200, woken.text
    assert "Add instead" in woken.text
    wait_for(gateway, made["id"], "running")
    # Under its slug it is among everything else.
    async with connected(f"{gateway.url}/mcp", gateway.agent_key, "legacy") as client:
        read = await call(client, "my-workspace__read_file", path="project/sums.py")
        assert "a + b" in read["content"]


_ORIGIN = """
set -e
git init --quiet --bare --initial-branch=main .origin.git
git clone --quiet .origin.git seed && cd seed
printf 'def add(a, b):\\n    return a - b\\n' > sums.py
printf 'import unittest\\nfrom sums import add\\n\\n\\nclass T(unittest.TestCase):\\n' > test_sums.py
printf '    def test(self):\\n        self.assertEqual(add(2, 40), 42)\\n' >> test_sums.py
git add . && git -c user.name=a -c user.email=a@b.test commit --quiet -m one && git push --quiet origin HEAD:main
"""


async def test_a_killed_gateway_finds_its_workspaces_again(
    image: dict[str, str], tmp_path: Path, docker_engine: DockerEngine
) -> None:
    first = RunningGateway(tmp_path / "data", env=image)
    try:
        made = create(first, "one")
        running = wait_for(first, made["id"], "running")
        os.kill(first.pid, signal.SIGKILL)
        first.child.process.wait(30)
    finally:
        first.stop()
    with RunningGateway(tmp_path / "data", env=image) as second:
        body = {"workspace_id": made["id"], "tool": "git_status", "parameters": {}}
        asked = second.rest("POST", "/api/v1/mcp/invoke", body)
        assert asked.status == 200, asked.text
        assert asked.json()["data"]["result"]["branch"] == "main"
        assert wait_for(second, made["id"], "running")["container_id"] == running["container_id"]
    _remove_all(docker_engine)
