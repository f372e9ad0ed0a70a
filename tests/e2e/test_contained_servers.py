"""Stdio servers of the registry in containers: registered by the command line, held like workspaces, supervised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import plain_server
from tests.e2e.test_workspaces import gateway_of, image, until  # noqa: F401 - a fixture
from tests.support.components.engine import DockerEngine
from tests.support.gateway import RunningGateway

PROGRAM = ["python3", "-B", "-c", Path(plain_server.__file__).read_text()]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contained") / "data"


@pytest.fixture(scope="module")
def gateway(image: dict[str, str], docker_engine: DockerEngine, data_dir: Path) -> Iterator[RunningGateway]:  # noqa: F811
    env = {**image, "GATEHOUSE_WORKSPACE_MEMORY_MB": "128", "GATEHOUSE_WORKSPACE_PIDS": "64"}
    with RunningGateway(data_dir, env=env) as made:
        assert made.cli("workspaces", "build-image").code == 0
        yield made
        ours = docker_engine.run("ps", "--all", "--quiet", "--filter", f"label=gatehouse.gateway={gateway_of(made)}")
        if ours:
            docker_engine.run("rm", "--force", "--volumes", *ours.split())


def add(gateway: RunningGateway, name: str, *options: str) -> None:
    added = gateway.cli("servers", "add", name, "--container", *options, "--", *PROGRAM)
    assert added.code == 0, added.both
    (server,) = [one["id"] for one in gateway.rest("GET", "/v1/mcp/servers").json()["servers"] if one["slug"] == name]
    looked = f"/v1/mcp/servers/{server}/capabilities/discover"
    # Registering waits for a few seconds only, which a busy machine may take to make the container.
    until(lambda: gateway.rest("POST", looked).json(), lambda found: len(found["capabilities"]["tools"]) == 4)


def call(gateway: RunningGateway, tool: str) -> tuple[bool, str]:
    """Whether it went well, and what it said."""
    answer = gateway.rest("POST", f"/v1/tools/{tool}", {})
    if answer.status != 200 or answer.json().get("isError"):
        return False, answer.text
    return True, answer.json()["content"][0]["text"]


def where(gateway: RunningGateway, server: str) -> dict[str, Any]:
    good, said = call(gateway, f"{server}__where")
    assert good, said
    found: dict[str, Any] = json.loads(said)
    return found


def programs(engine: DockerEngine, gateway: RunningGateway) -> dict[str, list[str]]:
    """The processes of our program, by the container that they run in."""
    filters = ["--filter", f"label=gatehouse.gateway={gateway_of(gateway)}", "--format", "{{.Names}}"]
    found: dict[str, list[str]] = {}
    for name in engine.run("ps", *filters).split():
        lines = engine.run("top", name, "-eo", "pid,args").splitlines()
        found[name] = [line for line in lines if line.split()[1:4] == PROGRAM[:3]]
    return found


def test_a_server_runs_in_a_container_and_is_started_again(gateway: RunningGateway) -> None:
    add(gateway, "boxed", "--env", "SECRET=s3cret")
    first = where(gateway, "boxed")
    assert first.pop("pid") > 1
    assert first == {"uid": 10001, "rights": "0" * 16, "interfaces": ["lo"], "kept": False, "secret": "s3cret"}
    shown = json.loads(gateway.cli("servers", "show", "boxed", "--json").out)
    assert shown["container"] == {"image": None, "network": "none", "allowed_hosts": []}
    good, said = call(gateway, "boxed__leave")
    assert (good, "code 3" in said, "had enough" in said) == (False, True, True), said
    # It starts again in the same container, where its files are.
    _, again = until(lambda: call(gateway, "boxed__where"), lambda told: told[0])
    assert json.loads(again)["kept"] is True


def test_what_it_takes_too_much_of_is_told_and_costs_others_nothing(gateway: RunningGateway) -> None:
    for name in ("hungry", "neighbour"):
        add(gateway, name)
    good, said = call(gateway, "hungry__hog")
    assert (good, "Out of memory" in said) == (False, True), said
    _, said = call(gateway, "neighbour__fork")
    # It may still say that there are no more, before it is ended for it.
    assert "stopped" in said or "Too many processes" in said, said
    assert where(gateway, "boxed")["uid"] == 10001


def test_what_a_killed_gateway_ran_ends_with_it(
    image: dict[str, str],  # noqa: F811
    docker_engine: DockerEngine,
    tmp_path: Path,
) -> None:
    with RunningGateway(tmp_path / "data", env=image) as first:
        add(first, "boxed")
        where(first, "boxed")
        assert [len(running) for running in programs(docker_engine, first).values()] == [1]
        first.child.kill()
        until(lambda: programs(docker_engine, first), lambda found: all(not left for left in found.values()))
    with RunningGateway(tmp_path / "data", port=first.port, env=image) as second:
        assert where(second, "boxed")["kept"] is True
        (container,) = programs(docker_engine, second)
    until(lambda: programs(docker_engine, second), lambda found: found == {container: []})
    docker_engine.run("rm", "--force", "--volumes", container)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"command": "x", "container": {"image": "unheard/of"}}, "GATEHOUSE_WORKSPACE_IMAGES"),
        ({"command": "x", "container": {"network": "allowlist"}}, "comes with allowed_hosts"),
        ({"base_url": "http://127.0.0.1:1", "container": {}}, "Only a command"),
    ],
)
def test_what_cannot_be_is_refused(gateway: RunningGateway, body: dict[str, Any], why: str) -> None:
    headers = {"X-Gatehouse-Operator": gateway.operator_token}
    answer = gateway.rest("POST", "/v1/mcp/servers", {"name": "x", **body}, headers=headers)
    assert (answer.status, why in answer.text) == (422, True), answer.text


def test_without_an_engine_it_is_said(tmp_path: Path) -> None:
    env = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    with RunningGateway(tmp_path / "data", env=env) as lonely:
        added = lonely.cli("servers", "add", "boxed", "--container", "--", *PROGRAM)
        assert (added.code, "does not answer" in added.both) == (0, True), added.both
        (server,) = lonely.rest("GET", "/v1/mcp/servers").json()["servers"]
        looked = lonely.rest("POST", f"/v1/mcp/servers/{server['id']}/capabilities/discover")
        assert "start Docker on this machine" in str(looked.json()["errors"]), looked.text
