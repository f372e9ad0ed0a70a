"""The stage that all tests of this folder share: a gateway, with the servers `old` and `new` behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.gateway.mcp.spec.server import Spoken, spoken

ERAS = ("modern", "legacy")
SLUGS = {"modern": "new", "legacy": "old"}
DEADLINES = {"connect": 5.0, "first_byte": 60.0, "idle": 60.0, "total": 120.0}


@dataclass
class Stage:
    door: Door
    old: Spoken
    new: Spoken

    def server(self, era: str) -> Spoken:
        return self.new if era == "modern" else self.old

    async def client(self, era: str, path: str = "/mcp", **capabilities: Any) -> Caller:
        speaker = await Speaker.of(self.door, era, path, capabilities=capabilities)
        return Caller(self, speaker, era, capabilities)


@dataclass
class Caller:
    """A client of one era with its capabilities, at `/mcp` unless said otherwise."""

    stage: Stage
    speaker: Speaker
    era: str
    capabilities: dict[str, Any]

    def begin(self, method: str, params: dict[str, Any] | None = None, identifier: Any = 1) -> Exchange:
        given = dict(params or {})
        if self.era == "modern" and self.capabilities:
            declared = {"io.modelcontextprotocol/clientCapabilities": self.capabilities}
            given["_meta"] = {**declared, **given.get("_meta", {})}
        return self.speaker.request(method, given, identifier)

    async def ask(self, method: str, params: dict[str, Any] | None = None, identifier: Any = 1) -> dict[str, Any]:
        """The answer's message."""
        return answer_of(await self.begin(method, params, identifier).done())

    async def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.ask(method, params)
        assert "result" in answer, answer
        return dict(answer["result"])

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        return await self.result("tools/call", {"name": name, "arguments": arguments or {}, **params})


def answer_of(exchange: Exchange) -> dict[str, Any]:
    """The one answer among its messages."""
    answers = [message for message in exchange.messages() if "method" not in message]
    assert len(answers) == 1, (exchange.status, exchange.body)
    return answers[0]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("stage")
    async with spoken(modern=False) as old, spoken(modern=True) as new, opened(directory / "data") as door:
        await door.register("old", old.url, deadlines=DEADLINES)
        await door.register("new", new.url, deadlines=DEADLINES)
        yield Stage(door, old, new)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They share a gateway, which lives in one loop.
    for item in items:
        if Path(__file__).parent in item.path.parents and "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
