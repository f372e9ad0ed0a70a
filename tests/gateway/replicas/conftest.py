"""A server that keeps sessions, and gateways as processes of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.components.postgres import Postgres
from tests.support.faulty import Faulty, faulty, good
from tests.support.gateway import RunningGateway

SECRET = "0123456789abcdef-fedcba9876543210-replicas"


@pytest.fixture
async def server() -> AsyncIterator[Faulty]:
    async with faulty({"good": good}) as made:
        yield made


@pytest.fixture
def postgres_env(postgres: Postgres, postgres_template: str) -> Iterator[dict[str, str]]:
    """The settings of gateways that share a database, and nothing else."""
    name = postgres.create_database(template=postgres_template)
    yield {"GATEHOUSE_DATABASE_URL": postgres.url(name), "GATEHOUSE_SECRET_KEY": SECRET}
    postgres.drop_database(name)


@pytest.fixture
def pair(tmp_path: Path, postgres_env: dict[str, str]) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    with (
        RunningGateway(tmp_path / "first", env=postgres_env) as first,
        RunningGateway(tmp_path / "second", env=postgres_env) as second,
    ):
        yield first, second
