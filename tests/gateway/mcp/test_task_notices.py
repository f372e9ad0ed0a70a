"""`notifications/tasks`: a client hears of its own tasks, by the ids it knows, and of nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.gateway.mcp.door import Door
from tests.gateway.mcp.exchange import META, Exchange, Speaker
from tests.gateway.mcp.test_faults import nothing_left, tasks
from tests.support.attacks import attack
from tests.support.faulty import EVENTS, Call, Faulty, http_head

EXTENSION = "io.modelcontextprotocol/tasks"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
DECLARED = {"_meta": {"io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}}
MISSING_CAPABILITY, INVALID_PARAMS = -32021, -32602


@dataclass(eq=False)
class Tasker(Faulty):
    """A modern server whose calls become tasks. It tells what `push` is given, to whoever listens."""

    listening: list[Call] = field(default_factory=list)
    made: int = 0

    async def _deal_with(self, head: bytes, body: bytes, reader: Any, writer: Any) -> None:
        message = json.loads(body) if head.startswith(b"POST") else {}
        call = Call(self, message, reader, writer)
        match message.get("method"):
            case "tools/call":
                self.made += 1
                task = {"resultType": "task", "taskId": f"task-{self.made}", "status": "working", "ttlMs": 60000}
                await call.whole(call.answer(result=task))
            case "tasks/get":
                told = {"taskId": message["params"]["taskId"], "status": "working"}
                notice = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": told}
                answer = call.answer(result={"resultType": "complete", **told})
                await call.at_once(json.dumps(notice).encode(), answer)
            case "tasks/cancel" | "tasks/update":
                told = {"taskId": message["params"]["taskId"], "status": "working"}
                await call.whole(call.answer(result={"resultType": "complete", **told}))
            case "subscriptions/listen" if "taskIds" in message["params"]["notifications"]:
                wanted = message["params"]["notifications"]
                self.listening.append(call)
                await call.send(http_head(200, EVENTS, None))
                await self._tell_one(call, "notifications/subscriptions/acknowledged", {"notifications": wanted})
                await self._tell()
                await call.gone()
                self.listening.remove(call)
            case _:
                await super()._deal_with(head, body, reader, writer)

    def _introduction(self, method: str) -> dict[str, Any] | None:
        made = super()._introduction(method)
        if made is not None and "capabilities" in made:
            made["capabilities"] = {"tools": {}, "extensions": {EXTENSION: {}}}
        return made

    async def _tell_one(self, call: Call, method: str, params: dict[str, Any]) -> None:
        params = {"_meta": {SUBSCRIPTION: call.id}, **params}
        await call.chunk(call.event(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()))

    async def push(self, task: str, **more: Any) -> None:
        for call in self.listening:
            await self._tell_one(call, "notifications/tasks", {"taskId": task, "status": "completed", **more})


@asynccontextmanager
async def tasker() -> AsyncIterator[Tasker]:
    server = Tasker({"job": None}, modern=True)  # type: ignore[dict-item]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def server(door: Door) -> AsyncIterator[Tasker]:
    async with tasker() as made:
        await door.register("jobs", made.url)
        yield made


async def begin(speaker: Speaker) -> str:
    call = {"name": "jobs__job", "arguments": {}, **DECLARED}
    (answer,) = (await speaker.request("tools/call", call).done()).messages()
    assert answer["result"]["resultType"] == "task"
    return str(answer["result"]["taskId"])


def listen(speaker: Speaker, ids: Any, identifier: Any = "l1", **more: Any) -> Exchange:
    filters = {"notifications": {"taskIds": ids}, **(more or DECLARED)}
    return speaker.request("subscriptions/listen", filters, identifier)


async def acknowledged(stream: Exchange) -> dict[str, Any]:
    await stream.until(b"acknowledged")
    first = stream.messages()[0]
    assert first["method"] == "notifications/subscriptions/acknowledged"
    assert first["params"]["_meta"] == {SUBSCRIPTION: "l1"}
    return dict(first["params"]["notifications"])


async def left(stream: Exchange) -> None:
    stream.go()
    await asyncio.wait_for(stream.done(), 30)


@pytest.mark.requirement("tasks.notifications", "tasks.agreed-ids")
async def test_a_change_is_heard_by_the_id_that_the_client_knows(door: Door, server: Tasker) -> None:
    speaker = await Speaker.of(door, "modern", "/mcp")
    before = tasks()
    first, second = await begin(speaker), await begin(speaker)
    assert "task-1" not in first
    stream = listen(speaker, [first, "no-such-task", first[:-1]])
    assert await acknowledged(stream) == {"taskIds": [first]}
    assert [call.message["params"]["notifications"] for call in server.listening] == [{"taskIds": ["task-1"]}]
    result = {"content": [{"type": "text", "text": "ready"}], "isError": False}
    await server.push("task-2")
    await server.push("task-1", result=result, **{"x-unknown": 1})
    await stream.until(b"ready")
    (told,) = [message for message in stream.messages() if message["method"] == "notifications/tasks"]
    assert told["params"] == {
        "taskId": first,
        "status": "completed",
        "result": result,
        "x-unknown": 1,
        "_meta": {SUBSCRIPTION: "l1"},
    }
    assert second not in stream.body.decode()
    await left(stream)
    await server.until(lambda: not server.listening)
    await nothing_left(door, server)
    assert tasks() <= before


@attack(19)
@pytest.mark.requirement("tasks.of-their-caller", "tasks.unknown")
async def test_nobody_elses_task_can_be_followed(door: Door, server: Tasker) -> None:
    owner = await Speaker.of(door, "modern", "/mcp")
    stranger = await Speaker.of(door, "modern", "/mcp", door.agent)
    task = await begin(owner)
    stream = listen(stranger, [task])
    assert await acknowledged(stream) == {}
    assert server.listening == []
    await left(stream)
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        (answer,) = (await stranger.request(method, {"taskId": task, **DECLARED}).done()).messages()
        assert answer["error"]["code"] == INVALID_PARAMS


@pytest.mark.requirement("tasks.extension-required", "tasks.extension-required-to-listen", "version.extensions")
async def test_a_client_without_the_extension_is_told_what_it_lacks(door: Door, server: Tasker) -> None:
    speaker = await Speaker.of(door, "modern", "/mcp")
    task = await begin(speaker)
    for exchange in (
        listen(speaker, [task], _meta={**META}),
        speaker.request("tasks/get", {"taskId": task}),
        speaker.request("tasks/cancel", {"taskId": task}),
        speaker.request("tasks/update", {"taskId": task, "inputResponses": {}}),
    ):
        answer = await exchange.done()
        assert answer.status == 400
        (said,) = answer.messages()
        assert said["error"]["code"] == MISSING_CAPABILITY
        assert said["error"]["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}


@pytest.mark.parametrize("ids", ["text", 5, [1], {"a": 1}])
async def test_ids_that_are_no_list_of_texts_are_refused(door: Door, server: Tasker, ids: Any) -> None:
    speaker = await Speaker.of(door, "modern", "/mcp")
    (said,) = (await listen(speaker, ids).done()).messages()
    assert said["error"]["code"] == INVALID_PARAMS


async def test_a_line_that_breaks_is_opened_again(door: Door, server: Tasker, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.mcp.task_notices.FIRST_PAUSE", 0.01)
    speaker = await Speaker.of(door, "modern", "/mcp")
    task = await begin(speaker)
    stream = listen(speaker, [task])
    await acknowledged(stream)
    (line,) = server.listening
    line.writer.transport.abort()
    await server.until(lambda: len(server.listening) == 1 and server.listening[0] is not line)
    await server.push("task-1")
    await stream.until(b"notifications/tasks")
    await left(stream)


@pytest.mark.requirement("tasks.ids-lead-to-their-server", "tasks.routing-header")
async def test_a_task_is_asked_after_and_changed_at_its_own_server(door: Door, server: Tasker) -> None:
    speaker = await Speaker.of(door, "modern", "/mcp")
    task = await begin(speaker)
    for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": {}}), ("tasks/cancel", {})):
        (answer,) = (await speaker.request(method, {"taskId": task, **more, **DECLARED}).done()).messages()
        assert answer["result"]["taskId"] == task, "only the answer, with the id that the client knows"
        (sent,) = [request for request in server.requests if f'"{method}"'.encode() in request]
        assert b"mcp-name: task-1\r\n" in sent.lower()
        assert json.loads(sent.partition(b"\r\n\r\n")[2])["params"]["taskId"] == "task-1"
