"""The compose file brings up a gateway, built from this checkout on a real engine, that serves and is shut in.

What differs from what a user runs: the published port, so that nothing else on the machine is in the way, the names of
project and image, and that health is asked for more often. `test_compose` has what can be said without an engine.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.e2e.wire import Legacy, Modern
from tests.support.components.base_image import TAG
from tests.support.components.engine import DockerEngine, DockerFailed
from tests.support.components.machine import CHECKOUT
from tests.support.components.missing import ComponentMissing, skip_if_missing
from tests.support.gateway import exchange

UP_SECONDS = 240
HEALTHY_SECONDS = 120
DOWN_SECONDS = 60
PROBE_SECONDS = 90
PIP = "python -m venv /tmp/venv && cd /tmp && venv/bin/pip download --retries 1 --timeout 10 --no-deps setuptools"


@dataclass(frozen=True)
class Project:
    """A compose project of this checkout.

    Args:
        compose: the words that run compose on it, in
        folder: where its file is.
        engine: where it runs.
        name: of the project, its image and whatever belongs to it.
    """

    compose: Sequence[str]
    folder: Path
    engine: DockerEngine
    name: str

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.compose, *arguments],
            cwd=self.folder,
            env=self.engine.env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    @cached_property
    def container(self) -> str:
        return self.run("ps", "--quiet", "gateway").stdout.strip()

    @property
    def url(self) -> str:
        port = self.engine.run("port", self.container, "8000/tcp").strip().rpartition(":")[2]
        return f"http://{self.engine.address}:{port}"

    def inside(self, *command: str) -> str:
        """What a command prints in the container, as its own user. Raises `DockerFailed`."""
        return self.engine.run("exec", self.container, *command)

    def state(self, form: str) -> str:
        return self.engine.run("inspect", "--format", form, self.container).strip()

    def first_run(self) -> dict[str, str]:
        lines = self.inside("cat", "/data/first-run.txt").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def up(self) -> None:
        try:
            done = self.run("up", "--detach", "--build", timeout=UP_SECONDS)
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        except (AssertionError, subprocess.TimeoutExpired):
            with skip_if_missing():
                need_package_index(self.engine)
            raise
        self.wait()

    def wait(self) -> None:
        """Until the engine has told that it is healthy: in this run, now or before."""
        filters = ["--since", self.state("{{.State.StartedAt}}"), "--filter", f"container={self.container}"]
        told = subprocess.Popen(
            [*self.engine.cli, "events", *filters, "--format", "{{.Action}}"], stdout=subprocess.PIPE, text=True
        )
        late = threading.Timer(HEALTHY_SECONDS, told.kill)
        late.start()
        with told:
            assert told.stdout
            # Asked every second it may be called unhealthy before a busy machine has started it.
            healthy = any(line.strip() == "health_status: healthy" for line in told.stdout)
            told.kill()
        late.cancel()
        assert healthy, self.run("logs").stdout[-4000:]

    def down(self) -> None:
        done = self.run("down", "--volumes", timeout=DOWN_SECONDS)
        assert done.returncode == 0, done.stderr

    def left(self) -> list[str]:
        """What the engine still has of it, but for the image."""
        label = f"label=com.docker.compose.project={self.name}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [line for kind in kinds for line in self.engine.run(*kind, "--quiet", "--filter", label).split()]


def need_package_index(engine: DockerEngine) -> None:
    """Tell a build that failed from one that could not work here. Raises `ComponentMissing`."""
    try:
        engine.run("run", "--rm", TAG, "sh", "-c", PIP, timeout=PROBE_SECONDS)
    except (DockerFailed, subprocess.TimeoutExpired) as error:
        words = str(error).splitlines()[-1]
        raise ComponentMissing("package-index", f"pip in a container does not reach it: {words}") from error


@pytest.fixture(scope="module")
def project(
    docker_engine: DockerEngine,
    docker_base_image: str,
    docker_compose: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Project]:
    name = f"gatehouse-test-{uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("compose")  # where no `.env` plays a part
    (folder / "docker-compose.yml").write_text(adapted(docker_engine.address, name))
    made = Project([*docker_compose, "--project-name", name], folder, docker_engine, name)
    try:
        made.up()
        yield made
    finally:
        made.down()
        left = made.left()
        docker_engine.run("rmi", "--force", name)
    assert left == []


def adapted(address: str, image: str) -> str:
    """The compose file with a port that the engine chooses and another name for the image, to lie anywhere."""
    file = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    gateway = file["services"]["gateway"]
    assert gateway["build"] == "."
    gateway.update(build=str(CHECKOUT), ports=[f"{address}::8000"], image=image)
    gateway["healthcheck"]["interval"] = "1s"
    return yaml.safe_dump(file)


def test_it_is_healthy_and_says_so(project: Project) -> None:
    answer = exchange(f"{project.url}/health")
    assert answer.status == 200
    assert answer.json()["status"] == "healthy"


def test_the_first_run_is_read_as_the_readme_says(project: Project) -> None:
    said = project.run("exec", "-T", "gateway", "cat", "/data/first-run.txt")
    assert said.returncode == 0, said.stderr
    kept = project.first_run()
    assert {"admin_email", "admin_password", "admin_api_key", "agent_api_key"} <= set(kept)
    assert all(f"{name}={value}" in said.stdout for name, value in kept.items())
    assert project.run("logs", "--no-color").stdout.count(kept["admin_api_key"]) == 1


@pytest.mark.parametrize("era", [Modern, Legacy])
def test_an_agent_lists_the_tools(project: Project, era: type[Modern | Legacy]) -> None:
    agent = era(f"{project.url}/mcp", project.first_run()["agent_api_key"])
    assert "gatehouse__servers_list" in agent.listed("tools")


def test_the_command_line_works_inside(project: Project) -> None:
    project.inside("gatehouse", "doctor")


def test_no_process_has_root_or_a_capability(project: Project) -> None:
    script = "for f in /proc/[0-9]*/status; do grep -E '^(Uid|Gid|CapEff|CapPrm|CapBnd|NoNewPrivs):' $f; done"
    lines = {tuple(line.split()) for line in project.inside("sh", "-c", script).splitlines()}
    user, nothing = ("10001",) * 4, "0" * 16
    assert lines == {
        ("Uid:", *user),
        ("Gid:", *user),
        ("CapEff:", nothing),
        ("CapPrm:", nothing),
        ("CapBnd:", nothing),
        ("NoNewPrivs:", "1"),
    }


def test_it_can_write_its_data_and_nothing_else(project: Project) -> None:
    assert project.state("{{.HostConfig.ReadonlyRootfs}}") == "true"
    for place in ("/data", "/tmp"):
        project.inside("touch", f"{place}/probe")
    for place in ("/opt/gatehouse", "/etc", "/var/tmp", "/"):
        with pytest.raises(DockerFailed, match=r"Read-only file system|Permission denied"):
            project.inside("touch", f"{place}/probe")
    with pytest.raises(DockerFailed, match="Read-only file system"):  # which only the mount forbids
        project.inside("touch", "/var/tmp/probe")


def test_it_stops_in_time_and_comes_back_as_it_was(project: Project) -> None:
    kept = project.first_run()
    project.run("stop")
    assert project.state("{{.State.ExitCode}}") in {"0", str(128 + signal.SIGTERM)}
    project.run("start")
    project.wait()
    assert project.first_run() == kept
    agent = Modern(f"{project.url}/mcp", kept["agent_api_key"])
    assert "gatehouse__servers_list" in agent.listed("tools")
