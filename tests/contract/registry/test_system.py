"""Registry API, System Health."""

from __future__ import annotations

import time

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door


@covers("GET /health")
async def test_the_gateway_is_healthy(door: Door) -> None:
    found = await Client(door).ask("GET /health")
    assert found["status"] == "healthy"
    assert abs(found["timestamp"] - time.time()) < 60
