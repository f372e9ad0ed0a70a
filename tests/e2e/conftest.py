"""What the end-to-end tests share: a furnished gateway, and the gateway's log in the report of a failure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.furnish import Furnished, furnished_gateway
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway
from tests.support.servers import everything


@pytest.fixture(scope="session")
def everything_package(npm_package: Callable[[str], NpmPackage]) -> NpmPackage:
    """The reference server's package."""
    return npm_package(everything.PACKAGE)


@pytest.fixture(scope="session")
def furnished(everything_package: NpmPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """One gateway for all tests that leave it as they find it. A test that kills or changes things makes its own."""
    with furnished_gateway(tmp_path_factory.mktemp("furnished"), everything_package) as made:
        yield made


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One file stays on one worker: its tests share children that are slow to start.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(f"e2e-{item.path.stem}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for gateway in RunningGateway.started:
            report.sections.append((f"gateway on port {gateway.port}", gateway.child.tail()))
    return report
