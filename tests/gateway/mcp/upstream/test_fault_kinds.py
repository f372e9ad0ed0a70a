"""The same contract for every kind of server: a call ends within its deadline as done, not sent or unknown; five
failures in a row open the breaker; what is back is used again.

Each kind is a real server that is told to fail, behind a whole gateway whose breakers stand on a clock that is moved.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.test_faults import NOT_SENT, UNKNOWN, end_of
from tests.gateway.mcp.upstream.legacy_sse import SseServer
from tests.gateway.mcp.upstream.pets import Pets, description
from tests.support import faulty as faults
from tests.support.clock import SettableClock
from tests.support.faulty import Call, faulty

DEADLINES = {"connect": 5.0, "first_byte": 1.5, "idle": 1.5, "total": 3.0}
KINDS = ["modern", "legacy", "sse", "stdio", "openapi"]
PROGRAM = """
import json, pathlib, sys, time

mode = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
    elif message["method"] == "tools/list":
        result = {"tools": [{"name": "tool", "inputSchema": {"type": "object"}}]}
    elif message["method"] == "tools/call":
        if mode.read_text() == "fail":
            sys.exit(3)
        if mode.read_text() == "hang":
            continue
        result = {"content": [{"type": "text", "text": "done"}]}
    else:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@dataclass
class Broken:
    """A server that fails when told to.

    Args:
        fail: from now on; `hang` and `work` likewise.
        failure: how its calls end while it fails.
        seen: how many calls it has got.
    """

    tool: str
    fail: Callable[[], None]
    hang: Callable[[], None]
    work: Callable[[], None]
    failure: int | str
    seen: Callable[[], int | None]
    done: str = "done"


@asynccontextmanager
async def http(door: Door, *, modern: bool) -> AsyncIterator[Broken]:
    now: list[Any] = [faults.good]

    async def tool(call: Call) -> None:
        await now[0](call)

    def turn(fault: Any) -> Callable[[], None]:
        return lambda: now.__setitem__(0, fault)

    async with faulty({"tool": tool}, modern=modern) as server:
        await door.register("it", server.url, deadlines=DEADLINES)
        yield Broken(
            "tool", turn(faults.reset_before), turn(faults.hang), turn(faults.good), UNKNOWN, lambda: server.calls
        )


@asynccontextmanager
async def sse(door: Door) -> AsyncIterator[Broken]:
    server = SseServer()
    mode = ["work"]

    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        if request["method"] == "tools/list":
            result: dict[str, Any] = {"tools": [{"name": "tool", "inputSchema": {"type": "object"}}]}
        elif request["method"] != "tools/call":
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no"}}
        elif mode[0] == "work":
            result = {"content": [{"type": "text", "text": "done"}]}
        else:
            if mode[0] == "fail":
                server.end_streams()
            return None
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    server.answer = answer
    await server.start()
    try:
        await door.register("it", server.url, transport="sse", deadlines=DEADLINES)

        def turn(to: str) -> Callable[[], None]:
            return lambda: mode.__setitem__(0, to)

        yield Broken(
            "tool", turn("fail"), turn("hang"), turn("work"), UNKNOWN, lambda: server.methods().count("tools/call")
        )
    finally:
        await server.stop()


@asynccontextmanager
async def stdio(door: Door, directory: Path) -> AsyncIterator[Broken]:
    program, mode = directory / "program.py", directory / "mode"
    program.write_text(PROGRAM)
    mode.write_text("work")
    token = (directory / "data" / "operator.token").read_text().strip()
    headers = {"Authorization": f"Bearer {door.admin}", "X-Gatehouse-Operator": token}
    body = {
        "name": "it",
        "transport": "stdio",
        "command": sys.executable,
        "args": [str(program), str(mode)],
        "deadlines": DEADLINES,
    }
    answer = await door.send(
        "POST", "/v1/mcp/servers", {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
    )
    assert answer.status == 201, answer.body

    def turn(to: str) -> Callable[[], None]:
        return lambda: void(mode.write_text(to))

    yield Broken("tool", turn("fail"), turn("hang"), turn("work"), UNKNOWN, lambda: None)


def void(_: object) -> None:
    """A lambda is to give nothing."""


@asynccontextmanager
async def openapi(door: Door) -> AsyncIterator[Broken]:
    service = Pets()
    released = asyncio.Event()
    serve, hanging = service._serve, [False]

    async def maybe(request: Any) -> Any:
        if hanging[0] and request.method == "GET":
            await released.wait()
        return await serve(request)

    service._serve = maybe  # type: ignore[method-assign]
    await service.start()

    def turn(status: int, *, hang: bool = False) -> Callable[[], None]:
        def do() -> None:
            hanging[0] = hang
            service.answers(status=status, text='{"name":"Rex"}', content_type="application/json")

        return do

    try:
        service.answers(status=200, text='{"name":"Rex"}', content_type="application/json")
        document = json.dumps(description(servers=[{"url": service.url}]))
        body = {"name": "it", "document": document, "base_url": service.url}
        answer = await door.rest("POST", "/v1/mcp/servers/openapi", body)
        assert answer.status == 201, answer.body
        changed = await door.rest("PUT", f"/v1/mcp/servers/{answer.json()['id']}", {"deadlines": DEADLINES})
        assert changed.status == 200, changed.body
        yield Broken(
            "getPet",
            turn(503),
            turn(200, hang=True),
            turn(200),
            "HTTP 503 Service Unavailable",
            lambda: len(service.requests),
            "Rex",
        )
    finally:
        released.set()
        await service.stop()


@asynccontextmanager
async def kind_of(kind: str, door: Door, directory: Path) -> AsyncIterator[Broken]:
    made = {
        "modern": lambda: http(door, modern=True),
        "legacy": lambda: http(door, modern=False),
        "sse": lambda: sse(door),
        "stdio": lambda: stdio(door, directory),
        "openapi": lambda: openapi(door),
    }[kind]()
    async with made as broken:
        yield broken


@dataclass
class Stage:
    door: Door
    clock: SettableClock
    speaker: Speaker
    broken: Broken

    async def call(self) -> str | int:
        arguments = {"petId": "1"} if self.broken.tool == "getPet" else {}
        # Real time enough for whatever a loaded machine does; deadlines are the gateway's own.
        async with asyncio.timeout(60):
            return (await end_of(self.speaker.call(f"it__{self.broken.tool}", arguments))).outcome


@pytest.fixture
async def stage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with opened(tmp_path / "data", stdio_user="same") as door:
        clock = door.app.path.upstreams._clock = SettableClock()
        async with kind_of(request.param, door, tmp_path) as broken:
            yield Stage(door, clock, await Speaker.of(door, "modern", "/mcp"), broken)


def is_failure(outcome: str | int, broken: Broken) -> bool:
    return outcome == broken.failure or str(outcome).startswith(f"{broken.failure}: ")


@pytest.mark.parametrize("stage", KINDS, indirect=True)
async def test_five_failures_open_the_breaker_and_a_success_closes_it(stage: Stage) -> None:
    broken = stage.broken
    assert broken.done in str(await stage.call())
    broken.fail()
    for _ in range(5):
        # What keeps ending is started again after a pause of its own.
        stage.clock.advance(30)
        assert is_failure(outcome := await stage.call(), broken), outcome
    seen = broken.seen()
    assert [await stage.call() for _ in range(3)] == [NOT_SENT] * 3
    assert broken.seen() == seen
    (guard,) = stage.door.app.path.upstreams.guards()
    assert guard.breaker.state == "open"
    broken.work()
    stage.clock.advance(9)
    assert broken.done in str(await stage.call())
    assert broken.done in str(await stage.call())


@pytest.mark.parametrize("stage", KINDS, indirect=True)
async def test_silence_ends_at_the_first_bytes_deadline(stage: Stage) -> None:
    assert stage.broken.done in str(await stage.call())
    stage.broken.hang()
    assert await stage.call() == UNKNOWN
    stage.broken.work()
    assert stage.broken.done in str(await stage.call())


@pytest.mark.parametrize("stage", ["legacy", "stdio"], indirect=True)
async def test_a_call_whose_session_never_opens_has_not_been_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server hangs at the handshake, before it could have seen the call."""
    upstream: Any = stage.door.app.path.upstreams.get(
        next(connection for connection in await connections(stage.door) if connection.slug == "it")
    )
    never = asyncio.Event()

    async def hang(*_: object) -> Any:
        await never.wait()

    monkeypatch.setattr(upstream, "_open_session" if hasattr(upstream, "_open_session") else "_open", hang)
    assert await stage.call() == NOT_SENT


async def connections(door: Door) -> list[Any]:
    return list(door.app.path.catalog.connections().values())
