"""Workspaces on a real container engine, as their users have them: over REST, over MCP, from the command line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mcp import Client

from registry.core.security import derive_key
from tests.e2e.test_python_client import connected
from tests.support.components.engine import DockerEngine
from tests.support.components.node import NpmPackage
from tests.support.cut_socket import CutSocket
from tests.support.gateway import COMMAND_SECONDS, RunningGateway
from tests.support.servers.process import plain_environment
from workspace_runtime.docker import IMAGE

START_SECONDS = 120.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine, docker_base_image: str) -> dict[str, str]:
    """What a gateway is told, so that its workspaces run on this engine."""
    return {**docker_engine.env, "GATEHOUSE_WORKSPACE_BASE_IMAGE": docker_base_image, "GATEHOUSE_RATE_LIMITS": "off"}


@pytest.fixture(scope="module")
def gateway(
    image: dict[str, str], docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """One for all tests that make workspaces of their own; the image is built by the command for it."""
    with RunningGateway(tmp_path_factory.mktemp("workspaces") / "data", env=image) as made:
        built = made.cli("workspaces", "build-image")
        assert built.out == f"Built {IMAGE}.\n", built.both
        yield made
    _remove_all(docker_engine)


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
    gateway: RunningGateway, image: dict[str, str], tmp_path: Path
) -> None:
    with RunningGateway(tmp_path / "data", env=image) as first:
        made = create(first, "one")
        running = wait_for(first, made["id"], "running")
        first.child.kill()
    with RunningGateway(tmp_path / "data", env=image) as second:
        asked = second.rest("POST", "/api/v1/mcp/invoke", {"workspace_id": made["id"], "tool": "git_status"})
        assert asked.status == 200, asked.text
        assert asked.json()["data"]["result"]["branch"] == "main"
        assert wait_for(second, made["id"], "running")["container_id"] == running["container_id"]


async def test_a_lost_engine_is_told_of_and_its_workspaces_come_back(
    gateway: RunningGateway, image: dict[str, str], docker_engine: DockerEngine, tmp_path: Path
) -> None:
    with CutSocket(tmp_path / "engine", docker_engine.host.removeprefix("unix://")) as line:
        env = {**image, "DOCKER_HOST": f"unix://{line.path}"}
        with RunningGateway(tmp_path / "data", env=env) as lonely:
            made = create(lonely, "one")
            container = wait_for(lonely, made["id"], "running")["container_id"]
            line.cut()
            # What an engine's death does to its containers.
            docker_engine.run("kill", container)
            health = until(
                lambda: lonely.rest("GET", "/api/v1/health").json(), lambda found: found["status"] == "degraded"
            )
            assert "start Docker on this machine" in health["components"]["docker"]["message"]
            refused = lonely.rest("POST", "/api/v1/workspaces", {"name": "two"})
            assert (refused.status, "DOCKER_HOST" in refused.json()["detail"]) == (503, True)
            assert lonely.rest("GET", "/readyz").status == 200
            line.mend()
            state = ["inspect", "--format", "{{.State.Running}}", container]
            until(lambda: docker_engine.run(*state), lambda running: running == "true\n")
            wait_for(lonely, made["id"], "running")
            _an_orphan_is_removed(docker_engine, gateway_of(lonely))


def _an_orphan_is_removed(engine: DockerEngine, gateway: str) -> None:
    labels = ["--label", f"gatehouse.gateway={gateway}", "--label", "gatehouse.workspace=4711"]
    orphan = engine.run("create", *labels, IMAGE).strip()
    until(lambda: engine.run("ps", "--all", "--quiet", "--filter", f"id={orphan}"), lambda ids: ids == "")


def test_the_command_line(gateway: RunningGateway) -> None:
    created = gateway.cli("workspaces", "create", "shelf", "--description", "for tests")
    assert created.out == f"Created workspace shelf at {gateway.url}/ws/shelf/mcp.\n", created.both
    assert "shelf" in gateway.cli("workspaces", "list").out
    called = gateway.cli("call", "shelf__shell_run", "command=echo hello", "--json")
    assert "hello" in called.out, called.both
    ran = gateway.cli("workspaces", "exec", "shelf", "--", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (ran.code, ran.out, ran.err) == (4, "out\n", "err\n")
    assert "cpu_seconds" in gateway.cli("workspaces", "stats", "shelf").out
    assert "serving" in gateway.cli("workspaces", "logs", "shelf").out
    assert gateway.cli("workspaces", "stop", "shelf").out == "Stopping workspace shelf.\n"
    (found,) = [one for one in json.loads(gateway.cli("workspaces", "list", "--json").out) if one["name"] == "shelf"]
    wait_for(gateway, found["id"], "stopped")
    kinds = [line.split("\t")[1] for line in gateway.cli("workspaces", "events", "shelf").out.splitlines()]
    assert kinds[::-1][:3] == ["create", "started", "stop"]
    assert gateway.cli("workspaces", "restart", "shelf").code == 0
    assert "shell_run" in gateway.cli("workspaces", "show", "shelf").out
    assert gateway.cli("workspaces", "delete", "shelf").out == "Deleted workspace shelf.\n"
    assert gateway.cli("workspaces", "show", "shelf").code != 0


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector(
    gateway: RunningGateway, npm_package: Callable[[str], NpmPackage], tmp_path: Path, era: str
) -> None:
    made = create(gateway, f"inspected-{era}")
    done = subprocess.run(
        [
            *npm_package("@modelcontextprotocol/inspector").command("mcp-inspector"),
            *("--cli", made["endpoint_url"], "--transport", "http", "--protocol-era", era, "--stored-auth-only"),
            *("--header", f"Authorization: Bearer {gateway.agent_key}", "--format", "json"),
            *("--method", "tools/call", "--tool-name", "git_status"),
        ],
        env=plain_environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["result"]["structuredContent"]["branch"] == "main"


def test_twenty_at_once_and_no_more(gateway: RunningGateway, docker_engine: DockerEngine) -> None:
    for workspace in gateway.rest("GET", "/api/v1/workspaces").json()["data"]["workspaces"]:
        assert gateway.rest("DELETE", f"/api/v1/workspaces/{workspace['id']}").status == 204
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: gateway.rest("POST", "/api/v1/workspaces", {"name": f"w{n}"}), range(25)))
    made = [answer.json()["data"]["id"] for answer in answers if answer.status == 201]
    refused = [answer for answer in answers if answer.status == 429]
    assert (len(made), len(refused)) == (20, 5), [answer.text for answer in answers if answer.status != 201]
    assert {answer.json()["error"] for answer in refused} == {"Rate limit exceeded"}
    for workspace in made:
        wait_for(gateway, workspace, "running")
    print(f"20 workspaces were up after {time.monotonic() - began:.1f} s")
    for workspace in made:
        assert gateway.rest("DELETE", f"/api/v1/workspaces/{workspace}").status == 204
    ours = ["ps", "--all", "--quiet", "--filter", f"label=gatehouse.gateway={gateway_of(gateway)}"]
    until(lambda: docker_engine.run(*ours), lambda ids: ids == "")


def gateway_of(gateway: RunningGateway) -> str:
    """What its containers are labelled with."""
    return derive_key((gateway.data_dir / "secret.key").read_bytes(), "workspaces").hex()[:12]


def until(look: Callable[[], T], is_it: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + START_SECONDS
    while not is_it(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found
