"""The components as pytest fixtures, and the closing lines of a run. Loaded by `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.components import base_image, engine, tools
from tests.support.components import node as node_programs
from tests.support.components.engine import DockerEngine
from tests.support.components.missing import closing_lines, skip_if_missing
from tests.support.components.node import Node, NpmPackage
from tests.support.components.postgres import Postgres
from tests.support.components.redis import Redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """This worker's server. A test that stops it must start it again; one that crashes things makes its own."""
    with skip_if_missing():
        server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database, gone after the test."""
    database = postgres.create_database()
    yield postgres.url(database)
    postgres.drop_database(database)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """This worker's server."""
    with skip_if_missing():
        server = Redis()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def redis_url(redis: Redis) -> str:
    """The server, emptied before the test."""
    redis.empty()
    return redis.url


@pytest.fixture(scope="session")
def node() -> Node:
    """Node 22.19 or newer, with npm."""
    with skip_if_missing():
        return node_programs.find_node()


@pytest.fixture(scope="session")
def npm_package() -> Callable[[str], NpmPackage]:
    """Call it with a name from `node.VERSIONS` to have that package."""

    def install(name: str) -> NpmPackage:
        with skip_if_missing():
            return node_programs.npm_package(name)

    return install


@pytest.fixture(scope="session")
def nginx() -> Path:
    """The nginx program."""
    with skip_if_missing():
        return tools.nginx_program()


@pytest.fixture(scope="session")
def gcc() -> Path:
    """A C compiler."""
    with skip_if_missing():
        return tools.c_compiler()


@pytest.fixture(scope="session")
def docker_compose() -> list[str]:
    """The words that run compose."""
    with skip_if_missing():
        return tools.docker_compose()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """The machine's engine, else one of this worker's own."""
    with skip_if_missing(), engine.docker_engine() as found:
        yield found


@pytest.fixture(scope="session")
def docker_base_image(docker_engine: DockerEngine) -> Iterator[str]:
    """The tag that our Dockerfile builds on, there in the engine."""
    with skip_if_missing(), base_image.base_image(docker_engine) as tag:
        yield tag


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the closing lines, after everything that pytest itself prints."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.collectonly:
        return
    skipped = [(report.nodeid, str(report.longrepr[2])) for report in reporter.stats.get("skipped", ())]
    lines = closing_lines(skipped)
    if len(lines) > 1 or config.option.verbose >= 0:
        for line in lines:
            reporter.write_line(line)
