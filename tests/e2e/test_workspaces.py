"""Workspaces on a real container engine, as their users have them: over REST, over MCP, from the command line."""

from __future__ import annotations

import asyncio
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
from tests.e2e import git_remote
from tests.e2e.test_python_client import connected
from tests.support.components.base_image import base_image
from tests.support.components.engine import DockerEngine, kill_and_restart, own_engine
from tests.support.components.node import NpmPackage
from tests.support.cut_socket import CutSocket
from tests.support.gateway import COMMAND_SECONDS, RunningGateway
from tests.support.servers.process import plain_environment
from workspace_runtime.docker import IMAGE

START_SECONDS = 120.0
SMALL = {
    "GATEHOUSE_WORKSPACE_MEMORY_MB": "128",
    "GATEHOUSE_WORKSPACE_PIDS": "64",
    "GATEHOUSE_WORKSPACE_DISK_MB": "32",
}
"""So that little is enough to use a workspace up."""
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
    with RunningGateway(tmp_path_factory.mktemp("workspaces") / "data", env={**image, **SMALL}) as made:
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
    def look() -> dict[str, Any]:
        found: dict[str, Any] = gateway.rest("GET", f"/api/v1/workspaces/{workspace}").json()["data"]
        return found

    return until(look, lambda found: found["container_status"] == status)


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
        job = await serve_git(client)
        wanted = {"url": f"{REMOTE}/origin.git", "directory": "project"}
        refused = await client.call_tool("git_clone", wanted)
        assert refused.is_error, "the remote wants a credential, and none is kept yet"
        kept = gateway.rest(
            "PUT", "/v1/workspaces-credentials", {"url": REMOTE, "username": git_remote.USER, "password": TOKEN}
        )
        assert kept.status == 200, kept.text
        assert (await call(client, "git_clone", **wanted))["branch"] == "main"
        await call(client, "edit_file", path="project/sums.py", old_text="a - b", new_text="a + b")
        tested = await call(client, "shell_run", command="python3 -B -m unittest -q", cwd="project")
        assert (tested["exit_code"], "OK" in tested["stderr"]) == (0, True), tested
        await call(client, "git_add", repository="project", paths=["sums.py"])
        committed = await call(client, "git_commit", repository="project", message="Add instead")
        assert (await call(client, "git_push", repository="project"))["commit"] == committed["commit"]
        assert (await call(client, "git_status", repository="project"))["status"] == "clean"
        await call(client, "shell_kill", job=job)
        there = await call(client, "shell_run", command="git --git-dir .origin.git rev-parse main")
        assert there["stdout"].strip() == committed["commit"]
        await no_trace_of_the_token(client)
    stopped = gateway.rest("POST", f"/v1/workspaces/{made['id']}/stop").json()["data"]
    assert stopped["status"] == "inactive"
    wait_for(gateway, made["id"], "stopped")
    woken = invoke(gateway, made["id"], "git_log", {"repository": "project", "limit": 1})
    assert "Add instead" in str(woken)
    wait_for(gateway, made["id"], "running")
    # Under its slug it is among everything else.
    async with connected(f"{gateway.url}/mcp", gateway.agent_key, "legacy") as client:
        read = await call(client, "my-workspace__read_file", path="project/sums.py")
        assert "a + b" in read["content"]


REMOTE = f"http://127.0.0.1:{git_remote.PORT}"
TOKEN = "t0ken-of-the-agent-5d41402abc"
_ORIGIN = """
set -e
git init --quiet --bare --initial-branch=main .origin.git
git clone --quiet .origin.git seed && cd seed
printf 'def add(a, b):\\n    return a - b\\n' > sums.py
printf 'import unittest\\nfrom sums import add\\n\\n\\nclass T(unittest.TestCase):\\n' > test_sums.py
printf '    def test(self):\\n        self.assertEqual(add(2, 40), 42)\\n' >> test_sums.py
git add . && git -c user.name=a -c user.email=a@b.test commit --quiet -m one && git push --quiet origin HEAD:main
"""


async def serve_git(client: Client) -> str:
    """Let a remote that wants `TOKEN` serve inside the workspace; gives its job."""
    await call(client, "write_file", path=".git_remote.py", content=Path(git_remote.__file__).read_text())
    started = await call(
        client, "shell_run", command="exec python3 .git_remote.py", stdin=f"{TOKEN}\n", background=True
    )
    job: str = started["job"]
    while "ready" not in (await call(client, "shell_logs", job=job, wait=1))["output"]:
        pass
    return job


async def no_trace_of_the_token(client: Client) -> None:
    """No file has what was shown to the remote, and neither have the variables and arguments of what runs."""
    places = "/workspace /home /tmp /run /proc/[0-9]*/environ"
    command = f'read -r token; grep -rslaF -e "$token" {places}; grep -rslaF -e proof /workspace'
    looked = await client.call_tool("shell_run", {"command": f"echo proof >proof; {command}", "stdin": f"{TOKEN}\n"})
    assert looked.structured_content is not None
    assert looked.structured_content["stdout"] == "/workspace/proof\n", looked


async def test_what_is_killed_comes_back_with_its_workspaces(
    image: dict[str, str], breakable: DockerEngine, tmp_path: Path
) -> None:
    """A gateway, then the engine under it, then both: every workspace is looked after again, none is left over."""
    env = {**image, **breakable.env}
    with RunningGateway(tmp_path / "data", env=env) as first:
        made = [create(first, name, network="allowlist", allowed_hosts=["a.test"])["id"] for name in ("one", "two")]
        containers = {wait_for(first, one, "running")["container_id"] for one in made}
        for one in made:
            invoke(first, one, "write_file", {"path": "kept.txt", "content": "kept"})
        first.child.kill()
    orphan = an_orphan(breakable, gateway_of(first))
    began = time.monotonic()
    with RunningGateway(tmp_path / "data", port=first.port, env=env) as second:
        began_again = time.monotonic()
        # The way out is the gateway's to hold, so that it answers says that the container has been taken over.
        for one in made:
            asked = invoke(second, one, "shell_run", {"command": f"python3 -c '{_ASKS}'"})
            assert "403" in asked["stderr"], asked
        until(lambda: breakable.run("ps", "--all", "--quiet", "--filter", f"id={orphan}"), lambda ids: ids == "")
        print(told("a gateway that was killed looked after its workspaces", began, began_again))
        assert {wait_for(second, one, "running")["container_id"] for one in made} == containers

        kill_and_restart(breakable)
        began = time.monotonic()
        until(lambda: running(breakable, second), lambda ids: ids == containers)
        print(f"an engine that was killed had its workspaces back after {time.monotonic() - began:.1f} s")
        for one in made:
            assert invoke(second, one, "read_file", {"path": "kept.txt"})["content"] == "kept"
        second.child.kill()
    kill_and_restart(breakable)
    began = time.monotonic()
    with RunningGateway(tmp_path / "data", port=first.port, env=env) as third:
        began_again = time.monotonic()
        until(lambda: running(breakable, third), lambda ids: ids == containers)
        print(told("both together were back", began, began_again))
        for one in made:
            assert invoke(third, one, "git_status", {})["branch"] == "main"
            assert third.rest("DELETE", f"/api/v1/workspaces/{one}").status == 204
        until(lambda: breakable.run(*all_of(third)), lambda ids: ids == "")


def told(what: str, began: float, served: float) -> str:
    return f"{what} after {time.monotonic() - began:.1f} s, {served - began:.1f} s of which the gateway took to start"


_ASKS = 'import urllib.request; urllib.request.urlopen("http://b.test/")'


@pytest.fixture(scope="module")
def breakable(docker_engine: DockerEngine, gateway: RunningGateway) -> Iterator[DockerEngine]:
    """An engine that may be killed."""
    if docker_engine.ours:
        yield docker_engine
    else:
        with own_engine() as engine, base_image(engine):
            yield engine


def invoke(gateway: RunningGateway, workspace: int, tool: str, parameters: dict[str, Any]) -> dict[str, Any]:
    body = {"workspace_id": workspace, "tool": tool, "parameters": parameters}
    answer = gateway.rest("POST", "/api/v1/mcp/invoke", body)
    assert answer.status == 200, answer.text
    result: dict[str, Any] = answer.json()["data"]["result"]
    return result


def all_of(gateway: RunningGateway) -> list[str]:
    """The words that list all of its containers."""
    return ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=gatehouse.gateway={gateway_of(gateway)}"]


def running(engine: DockerEngine, gateway: RunningGateway) -> set[str]:
    return set(engine.run(*all_of(gateway), "--filter", "status=running").split())


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
            until(lambda: running(docker_engine, lonely), lambda ids: ids == {container})
            wait_for(lonely, made["id"], "running")


def an_orphan(engine: DockerEngine, gateway: str) -> str:
    """A container of the gateway's that it knows nothing of."""
    labels = ["--label", f"gatehouse.gateway={gateway}", "--label", "gatehouse.workspace=4711"]
    return engine.run("create", *labels, IMAGE).strip()


def test_without_an_engine_everything_else_works(tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "data", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"}) as lonely:
        answer = lonely.rest("GET", "/api/v1/health")
        health = answer.json()
        assert (answer.status, health["status"]) == (200, "degraded")
        assert health["components"]["database"]["status"] == "healthy"
        assert health["components"]["docker"]["status"] == "unavailable"
        refused = lonely.rest("POST", "/api/v1/workspaces", {"name": "one"})
        assert refused.status == 503
        for told in (health["components"]["docker"]["message"], refused.json()["detail"]):
            assert "start Docker on this machine, or point DOCKER_HOST at an engine" in told
        assert lonely.rest("GET", "/api/v1/workspaces").json()["meta"]["total"] == 0
        assert lonely.rest("GET", "/readyz").status == 200
        assert lonely.cli("call", "gatehouse__workspaces_list").code == 0


@pytest.mark.parametrize(("network", "said"), [("none", "unreachable"), ("allowlist", "403"), ("open", "403")])
def test_no_policy_leads_to_the_gateways_own(
    gateway: RunningGateway, docker_engine: DockerEngine, network: str, said: str
) -> None:
    """Neither the gateway, nor what is beside it, nor metadata, nor the engine; through the proxy or past it."""
    hosts = {"allowed_hosts": [f"127.0.0.1:{gateway.port}", "169.254.169.254"]} if network == "allowlist" else {}
    made = create(gateway, f"reach-{network}", network=network, **hosts)
    wait_for(gateway, made["id"], "running")
    targets = [f"127.0.0.1:{gateway.port}", f"localhost:{gateway.port}", f"{docker_engine.address}:{gateway.port}"]
    targets += ["169.254.169.254:80", "172.17.0.1:2375", "host.docker.internal:80"]
    command = f"python3 - {' '.join(targets)}"
    asked = {"command": command, "stdin": _REACH, "env": {"no_proxy": "", "NO_PROXY": ""}}
    done = invoke(gateway, made["id"], "shell_run", asked)
    assert done["stdout"].splitlines() == [f"{target} {said}" for target in targets], done
    assert gateway.rest("DELETE", f"/api/v1/workspaces/{made['id']}").status == 204


_REACH = """
import socket, sys, urllib.error, urllib.request
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        print(target, "is reached past the proxy")
        continue
    except OSError:
        pass
    try:
        print(target, "answers", urllib.request.urlopen(f"http://{target}/", timeout=30).status)
    except urllib.error.HTTPError as error:
        print(target, error.code)
    except OSError:
        print(target, "unreachable")
"""


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
    assert gateway.cli("workspaces", "start", "shelf").out == "Starting workspace shelf.\n"
    first = wait_for(gateway, found["id"], "running")["started_at"]
    # Its one call, which is on record within a moment.
    report = until(
        lambda: json.loads(gateway.cli("workspaces", "usage", "shelf", "--json").out), lambda used: used["calls"] > 0
    )
    assert report["calls"] == sum(hour["calls"] for hour in report["hours"]) == 1
    told = [line.split("\t") for line in gateway.cli("workspaces", "usage", "shelf").out.splitlines()]
    assert [line[0] for line in told][: len(report["hours"])] == [hour["hour"] for hour in report["hours"]]
    assert {len(line) for line in told} == {5}
    assert gateway.cli("workspaces", "restart", "shelf").out == "Restarting workspace shelf.\n"
    until(lambda: wait_for(gateway, found["id"], "running")["started_at"], lambda at: at > first)
    assert "shell_run" in gateway.cli("workspaces", "show", "shelf").out
    assert gateway.cli("workspaces", "delete", "shelf").out == "Deleted workspace shelf.\n"
    assert gateway.cli("workspaces", "show", "shelf").code != 0


def test_the_command_line_for_credentials(gateway: RunningGateway) -> None:
    words = ("workspaces", "credentials")
    kept = {"url": "https://git.test/some/where", "username": "me", "password": "s3cret-of-mine"}
    assert gateway.rest("PUT", "/v1/workspaces-credentials", kept).status == 200
    listed = gateway.cli(*words, "list")
    assert ("https://git.test\tme\t" in listed.out, "s3cret" in listed.both) == (True, False), listed.both
    assert gateway.cli(*words, "forget", "https://git.test").out == "Removed the credential for https://git.test.\n"
    assert "git.test" not in gateway.cli(*words, "list").out
    assert gateway.cli(*words, "forget", "https://git.test").code != 0


GREED = {
    "memory limit": ("python3 -c 'x = b\"x\" * 300_000_000'", "Out of memory"),
    "process limit": ("f() { f | f & }; f; sleep 1000", "Too many processes"),
    "disk quota": (
        "i=0; while :; do i=$((i+1)); head -c 4000000 /dev/zero >fill$i; sleep 0.1; done",
        "Disk full",
    ),
}
_ESCAPES = """
for way in 'touch /opt/gatehouse/x' 'unshare --user true' 'nsenter --target 1 --mount true' 'mknod /tmp/sda b 8 0' \\
    'ls /var/run/docker.sock' 'chroot / true' 'echo max >/sys/fs/cgroup/memory.max' 'mount -t tmpfs x /mnt' 'su -c true'
do sh -c "$way" >/dev/null 2>&1 && echo "$way"; done; id -u
"""


async def test_greed_and_attempts_to_leave_are_told_of_and_cost_the_neighbour_nothing(gateway: RunningGateway) -> None:
    greedy, neighbour = create(gateway, "greedy"), create(gateway, "neighbour")
    containers = {one["id"]: wait_for(gateway, one["id"], "running")["container_id"] for one in (greedy, neighbour)}
    async with (
        connected(greedy["endpoint_url"], gateway.agent_key, "auto") as client,
        connected(neighbour["endpoint_url"], gateway.agent_key, "auto") as other,
    ):
        for reason, (command, words) in GREED.items():
            by_tool = client.call_tool("shell_run", {"command": command})
            done = await beside(other, asyncio.create_task(by_tool))
            assert done.is_error
            assert done.structured_content is not None, (done.content, gateway.cli("workspaces", "logs", "greedy").both)
            assert done.structured_content["reason"] == reason
            assert f"[ended: {reason}] {words}" in str(done.content)
            # Past its tools, by the engine: what is told is the same.
            by_engine = asyncio.to_thread(
                gateway.cli, "workspaces", "exec", "greedy", "--json", "--", "bash", "-c", command
            )
            ran = await beside(other, asyncio.create_task(by_engine))
            told = json.loads(ran.out)
            assert (ran.code, told["exit_code"], told["reason"]) == (137, 137, reason), ran.both
            assert words in told["stderr"]
            assert (await call(client, "shell_run", command="rm -f fill*; echo well"))["stdout"] == "well\n"
        escaped = await call(client, "shell_run", command=_ESCAPES)
        assert escaped["stdout"] == "10001\n", "as what the ways out led to says"
    for one, container in containers.items():
        assert wait_for(gateway, one, "running")["container_id"] == container
        happened = gateway.rest("GET", f"/v1/workspaces/{one}/events").json()["data"]["events"]
        assert {event["kind"] for event in happened} == {"create", "started"}, happened
        assert gateway.rest("DELETE", f"/api/v1/workspaces/{one}").status == 204


async def beside(neighbour: Client, greed: asyncio.Task[T]) -> T:
    """What comes of it, while the neighbour is asked again and again, and answers."""
    answered = 0
    while not greed.done() or answered == 0:
        assert (await call(neighbour, "shell_run", command="echo well"))["stdout"] == "well\n"
        answered += 1
    return await greed


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
    with ThreadPoolExecutor(10) as threads:
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
    until(lambda: docker_engine.run(*all_of(gateway)), lambda ids: ids == "")


def gateway_of(gateway: RunningGateway) -> str:
    """What its containers are labelled with."""
    return derive_key((gateway.data_dir / "secret.key").read_bytes(), "workspaces").hex()[:12]


def until(look: Callable[[], T], is_it: Callable[[T], bool]) -> T:
    """What is found, once it is as it should be: of what no event is told to whoever is outside."""
    deadline = time.monotonic() + START_SECONDS
    while not is_it(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found
