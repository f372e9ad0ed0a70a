from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.running import Running, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway on its first run, serving in the test's own loop."""
    async with running_gateway(tmp_path / "data") as running:
        yield running
