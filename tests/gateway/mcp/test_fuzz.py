"""Whatever comes to any of the doors, in either era: an answer in time, never a server error, and nothing left over.

Bodies are those of `test_envelope` and messages with a part replaced; headers are good ones, missing ones, and ones
that make no sense, at every address and by every method. `test_legacy_machine` does the same with sequences of good
requests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mcp import batch
from tests.gateway.mcp.door import LEGACY, MODERN, Answer, Door, opened
from tests.gateway.mcp.exchange import META, Exchange, Speaker
from tests.gateway.mcp.spec.server import Spoken, spoken
from tests.gateway.mcp.test_envelope import CORPUS, json_values
from tests.gateway.mcp.test_faults import tasks

ANSWER_SECONDS = 60
INTERNAL_ERROR = -32603
PATHS = ("/mcp", "/mcp/", "/servers/old/mcp", "/servers/new/mcp", "/servers/nobody/mcp", "/sets/nothing/mcp")
SSE_PATHS = (
    "/sse",
    "/servers/old/sse",
    "/messages/",
    "/messages/?session_id=nobody",
    "/messages/?session_id=a&session_id=b",
)
METHODS = (
    *("initialize", "ping", "tools/list", "tools/call", "resources/read", "resources/subscribe", "prompts/get"),
    *("completion/complete", "logging/setLevel", "server/discover", "tasks/get", "tasks/cancel", "nonsense", ""),
    *("notifications/cancelled", "notifications/initialized", "notifications/roots/list_changed"),
)
NAMES = ("old__echo", "new__echo", "old__refuse", "new__mirrored", "gatehouse__servers_list", "nobody__x", "", "__")
odd = st.sampled_from(["", " ", "é", "null", "-1", "=?base64?!?=", "=?base64?w6k=?=", "a" * 9000, "x, y", "0-0", "1-1"])


class Doors:
    """A gateway with both servers in a loop of its own, which examples run in one after the other."""

    def __init__(self, directory: Path) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.runner.run(self._start(directory))

    async def _start(self, directory: Path) -> None:
        self.old: Spoken = await self.stack.enter_async_context(spoken(modern=False))
        self.new: Spoken = await self.stack.enter_async_context(spoken(modern=True))
        self.door: Door = await self.stack.enter_async_context(opened(directory / "data"))
        await self.door.register("old", self.old.url)
        await self.door.register("new", self.new.url)
        speaker = await Speaker.of(self.door, "legacy", "/mcp", capabilities={"roots": {}})
        about = {"protocolVersion": batch.VERSION, "capabilities": {}, "clientInfo": {"name": "f", "version": "1"}}
        opening = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}).encode()
        headers = {"Authorization": f"Bearer {self.door.admin}", "Content-Type": "application/json"}
        batching = await self.door.send("POST", "/mcp", headers, opening)
        self.sessions = {LEGACY: speaker.session or "", batch.VERSION: batching.headers["mcp-session-id"]}
        self.messages = "/messages/"

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """One exchange; of a stream that does not end, its beginning."""

        async def exchange() -> Answer:
            return await asyncio.wait_for(self.door.send(method, path, headers, body), ANSWER_SECONDS)

        return self.runner.run(exchange())


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("doors"))
    yield made
    made.close()


def check(answer: Answer) -> None:
    """It is an answer that a client's mistake may get."""
    assert 200 <= answer.status < 500, (answer.status, answer.body)
    if answer.headers.get("content-type", "").startswith("application/json") and answer.body:
        message = answer.json()
        assert message["jsonrpc"] == "2.0"
        assert ("result" in message) is not ("error" in message)
        assert message.get("error", {}).get("code") != INTERNAL_ERROR, message


def params() -> st.SearchStrategy[Any]:
    made = st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(NAMES) | json_values,
            "uri": st.sampled_from(["old+note://one", "x", ""]) | json_values,
            "arguments": json_values,
            "_meta": st.just(META) | json_values,
            "cursor": st.text(max_size=5) | json_values,
            "requestState": st.text(max_size=20) | json_values,
            "inputResponses": json_values,
            "protocolVersion": st.sampled_from([LEGACY, MODERN, "x"]) | json_values,
            "capabilities": json_values,
            "notifications": json_values,
            "ref": json_values,
            "argument": json_values,
            "requestId": json_values,
            "taskId": st.text(max_size=20) | json_values,
            "level": json_values,
        },
    )
    return made | json_values


messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | json_values},
    optional={
        "id": st.integers(0, 9) | st.text(max_size=4) | json_values,
        "method": st.sampled_from(METHODS) | json_values,
        "params": params(),
        "result": json_values,
        "error": json_values,
    },
)
written = (messages | st.lists(messages | json_values, max_size=5)).map(lambda value: json.dumps(value).encode())
bodies = st.sampled_from(CORPUS) | written | st.binary(max_size=60)


@st.composite
def requests(
    draw: Any, sessions: dict[str, str], key: str, paths: tuple[str, ...]
) -> tuple[str, str, dict[str, str], bytes]:
    """A request that is mostly good, with a few things wrong: else nothing would come far."""
    method = draw(st.sampled_from(["POST", "POST", "POST", "GET", "DELETE", "PUT", "OPTIONS", "HEAD"]))
    body = draw(bodies)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if draw(st.booleans()):
        headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": draw(st.sampled_from(METHODS))}
        headers["Mcp-Name"] = draw(st.sampled_from(NAMES))
    else:
        # The session itself is never ended by an example: the others need it.
        version = draw(st.sampled_from([*sessions]))
        session = sessions[version] if method != "DELETE" else "nobody"
        headers |= {"MCP-Protocol-Version": version, "Mcp-Session-Id": session}
    for name in draw(st.lists(st.sampled_from([*headers, "Last-Event-ID", "Accept", "Origin", "Mcp-Param-Region"]))):
        if draw(st.booleans()):
            headers.pop(name, None)
        else:
            headers[name] = draw(odd)
    encodable = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    return method, draw(st.sampled_from(paths)), encodable, body


limits = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@given(st.data())
@limits
def test_any_request_at_the_doors_of_streamable_http(doors: Doors, data: st.DataObject) -> None:
    check(doors.send(*data.draw(requests(doors.sessions, doors.door.admin, PATHS))))


@given(st.data())
@limits
def test_any_request_at_the_doors_of_http_sse(doors: Doors, data: st.DataObject) -> None:
    check(doors.send(*data.draw(requests(doors.sessions, doors.door.admin, SSE_PATHS))))


@given(st.lists(bodies, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_message_to_an_open_event_stream(doors: Doors, posted: list[bytes]) -> None:
    """Its stream outlives every message, and still answers a good one."""

    async def talk() -> None:
        door = doors.door
        headers = {"Authorization": f"Bearer {door.admin}", "Content-Type": "application/json"}
        stream = Exchange(door, "GET", "/sse", headers, b"")
        await stream.until(b"session_id=")
        address = stream.body.split(b"data: ")[1].split(b"\n")[0].decode()
        about = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "f", "version": "1"}}
        opening = {"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": about}
        last = {"jsonrpc": "2.0", "id": "the last one", "method": "ping"}
        for body in (json.dumps(opening).encode(), *posted, json.dumps(last).encode()):
            answer = await asyncio.wait_for(door.send("POST", address, headers, body), ANSWER_SECONDS)
            assert answer.status in (202, 400), (answer.status, answer.body)
        await stream.until(b"the last one")
        stream.go()
        await asyncio.wait_for(stream.done(), ANSWER_SECONDS)

    doors.runner.run(talk())


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [*PATHS, *SSE_PATHS])
@pytest.mark.parametrize("version", [MODERN, LEGACY, None, "nonsense"])
def test_other_methods_in_either_era(doors: Doors, method: str, path: str, version: str | None) -> None:
    headers = {"Authorization": f"Bearer {doors.door.admin}"}
    headers |= {"MCP-Protocol-Version": version} if version else {}
    check(doors.send(method, path, headers, b""))


def test_nothing_is_left_of_all_that(doors: Doors) -> None:
    """The last of this file: what the others have begun is over, and the gateway still works."""

    async def look() -> None:
        door = doors.door
        async with asyncio.timeout(ANSWER_SECONDS):
            while len(door.app.path.flights) or len(door.app.path.sse_clients):
                await asyncio.sleep(0.01)
        for era in ("modern", "legacy"):
            speaker = await Speaker.of(door, era, "/mcp")
            for slug in ("old", "new"):
                answer = await speaker.call(f"{slug}__echo").done()
                assert b'"result"' in answer.body
        left = {name for name in tasks() if "Sessions" not in name and "Watches" not in name}
        assert not any("CallUnderWay" in name or "SseClients" in name for name in left)

    doors.runner.run(look())
