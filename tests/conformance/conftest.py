"""What the conformance tests share: the suite, one gateway, and one server for each era."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.suite import PACKAGE, Suite
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway
from tests.support.servers.conformance.process import ConformanceServer


@pytest.fixture(scope="session")
def suite(npm_package: Callable[[str], NpmPackage], tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(npm_package(PACKAGE), tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("gateway") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ConformanceServer]]:
    """Call it with an era to have the server of that era."""
    running: dict[str, ConformanceServer] = {}
    with ExitStack() as stack:

        def start(era: str) -> ConformanceServer:
            if era not in running:
                running[era] = stack.enter_context(ConformanceServer(tmp_path_factory.mktemp(era), era))
            return running[era]

        yield start


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Its tests share children that are slow to start.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("conformance"))
