"""A house with two organisations, which the tests of a module share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.tenancy.house import House, two_organizations


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with two_organizations(tmp_path_factory.mktemp("house")) as made:
        yield made
