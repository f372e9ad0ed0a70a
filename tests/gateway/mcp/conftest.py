"""A started application, and who can speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.gateway.mcp.door import Door, opened

# How long one example takes is the machine's affair, and it may be busy.
settings.register_profile("data path", deadline=None, max_examples=60)
settings.load_profile("data path")


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path / "data") as made:
        yield made
