"""What the end-to-end tests share: a furnished gateway, and the gateway's log in the report of a failure."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.furnish import Furnished, furnished_gateway
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway
from tests.support.servers import everything


@pytest.fixture(scope="session")
def everything_package(npm_package: Callable[[str], NpmPackage]) -> Iterator[NpmPackage]:
    """The reference server's package, where any user can run it: a gateway of root gives its children another."""
    package = npm_package(everything.PACKAGE)
    if open_to_all(package.directory) and open_to_all(package.node.program):
        yield package
        return
    with TemporaryDirectory(prefix="gatehouse-e2e-") as place:
        Path(place).chmod(0o755)
        yield moved(package, Path(place))


def open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def moved(package: NpmPackage, place: Path) -> NpmPackage:
    modules = next(parent for parent in package.directory.parents if parent.name == "node_modules")
    shutil.copytree(modules, place / "node_modules", symlinks=True)
    program = shutil.copy2(package.node.program, place / "node")
    node = replace(package.node, program=Path(program))
    return replace(package, node=node, directory=place / "node_modules" / package.directory.relative_to(modules))


@pytest.fixture(scope="session")
def furnished(everything_package: NpmPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """One gateway for all tests that leave it as they find it. A test that kills or changes things makes its own."""
    with furnished_gateway(tmp_path_factory.mktemp("furnished"), everything_package) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for gateway in (*RunningGateway.running, *RunningGateway.ended):
            report.sections.append((f"gateway on port {gateway.port}", gateway.child.tail()))
    RunningGateway.ended.clear()
    return report
