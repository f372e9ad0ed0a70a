"""A scene, and the scene furnished with one of each thing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.safety.operations import APPROVALS
from tests.gateway.safety.scene import Scene, Upstream
from tests.support.gateway import RunningGateway

SETTINGS = {"GATEHOUSE_RATE_LIMITS": "off", "GATEHOUSE_SIZE_LIMITS": "echo=2000/100000"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("safety")
    with Upstream() as upstream, RunningGateway(directory / "data", env=SETTINGS) as gateway:
        server = gateway.rest("POST", "/v1/mcp/servers", {"name": "echo", "base_url": upstream.url})
        assert server.status == 201, server.text
        made = Scene(gateway, upstream, server.json()["id"])
        made.made(f"{APPROVALS}/rules", {"name": "pay", "tool": "echo__pay"})
        yield made


@pytest.fixture
def at(scene: Scene) -> Scene:
    return scene.furnished("{user} {pin} {approval} {rule} {limit} {team} {access}")
