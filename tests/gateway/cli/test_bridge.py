"""The stdio bridge, over real HTTP: against the SDK's server in both eras, and against scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.cli.bridge import KEY_NOT_ACCEPTED, REFUSED, Bridge
from gateway.cli.client import connected
from gateway.cli.local import Address
from gateway.mcp.protocol import NOT_SENT, OUTCOME_UNKNOWN, PARSE_ERROR
from tests.gateway.cli.fake_gateway import KEY, FakeGateway
from tests.support.clock import SettableClock

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class Pipe:
    """The client's end of the bridge."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.out: asyncio.Queue[bytes] = asyncio.Queue()
        self.complaints: list[str] = []
        self.clock = SettableClock()

    def put(self, message: Any) -> None:
        self.lines.put_nowait(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")

    async def get(self) -> Any:
        return json.loads(await self.line())

    async def line(self) -> bytes:
        async with asyncio.timeout(20):
            return await self.out.get()

    async def _read(self) -> AsyncIterator[bytes]:
        while (line := await self.lines.get()) is not None:
            yield line

    async def close(self) -> None:
        self.lines.put_nowait(None)


@asynccontextmanager
async def bridged(url: str, key: str | None = KEY) -> AsyncIterator[Pipe]:
    """A bridge that runs until the end of the block closes its stdin."""
    pipe = Pipe()
    async with connected(Address(url, key=key, why_no_key="No API key: set GATEHOUSE_API_KEY.")) as client:
        bridge = Bridge(client, pipe.out.put, complain=pipe.complaints.append, clock=pipe.clock)
        running = asyncio.create_task(bridge.run(pipe._read()))
        yield pipe
        await pipe.close()
        async with asyncio.timeout(20):
            await running


def modern(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": META}}


def legacy(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def arrived(fake: FakeGateway, method: str, at_least: int = 1) -> Any:
    return await asyncio.to_thread(fake.wait_for, method, "/mcp", at_least)


def events(*data: bytes) -> Response:
    return Response(b"".join(b"data: " + part + b"\n\n" for part in data), media_type="text/event-stream")


def scripted(answer: Callable[[dict[str, Any]], Response | None]) -> Callable[[Request], Awaitable[Response]]:
    """A gateway that opens a legacy session `s1` and answers everything else by `answer`; notifications get 202."""

    async def script(request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405 if request.method == "GET" else 200)
        message = await request.json()
        if (said := answer(message)) is not None:
            return said
        if message.get("method") == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            return JSONResponse(
                {"jsonrpc": "2.0", "id": message["id"], "result": result}, headers={"Mcp-Session-Id": "s1"}
            )
        return Response(status_code=202)

    return script


async def test_a_modern_request_carries_its_headers_and_its_bytes(fake: FakeGateway) -> None:
    line = (
        b'{ "jsonrpc":"2.0", "id":"\xc3\xa9", "method":"tools/call", "params":'
        + json.dumps({"name": "echo", "arguments": {"text": "hi"}, "_meta": META}).encode()
        + b" }"
    )
    async with bridged(fake.url) as pipe:
        pipe.put(line + b"\r\n")
        answer = await pipe.get()
    assert answer["id"] == "é"
    assert answer["result"]["content"][0]["text"] == "hi"
    [sent] = fake.requests("POST")
    assert sent.body == line
    assert sent.headers["mcp-protocol-version"] == "2026-07-28"
    assert sent.headers["mcp-method"] == "tools/call"
    assert sent.headers["mcp-name"] == "echo"
    assert "mcp-session-id" not in sent.headers
    assert fake.requests("GET") == fake.requests("DELETE") == []


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/list", {}, None),
        ("resources/read", {"uri": "file:///a"}, "file:///a"),
        ("prompts/get", {"name": "größe"}, "=?base64?Z3LDtsOfZQ==?="),
        ("tools/call", {"name": " padded"}, "=?base64?IHBhZGRlZA==?="),
        ("tasks/get", {"taskId": "t1"}, "t1"),
    ],
)
async def test_the_name_header(fake: FakeGateway, method: str, params: dict[str, Any], name: str | None) -> None:
    fake.script = scripted(lambda message: JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {}}))
    async with bridged(fake.url) as pipe:
        pipe.put(modern(1, method, **params))
        await pipe.get()
    assert fake.requests("POST")[0].headers.get("mcp-name") == name


TOOL_WITH_HEADERS = {
    "name": "query",
    "inputSchema": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "plain": {"type": "string"},
            "deep": {"type": "object", "properties": {"dry": {"type": "boolean", "x-mcp-header": "Dry"}}},
        },
    },
}


async def test_arguments_that_a_tool_wants_as_headers(fake: FakeGateway) -> None:
    fake.script = scripted(
        lambda message: JSONResponse(
            {"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [TOOL_WITH_HEADERS], "content": []}}
        )
    )
    async with bridged(fake.url) as pipe:
        pipe.put(modern(1, "tools/list"))
        await pipe.get()
        pipe.put(
            modern(2, "tools/call", name="query", arguments={"region": "zürich", "plain": "x", "deep": {"dry": True}})
        )
        await pipe.get()
    sent = {name: value for name, value in fake.requests("POST")[1].headers.items() if name.startswith("mcp-param")}
    assert sent == {"mcp-param-region": "=?base64?esO8cmljaA==?=", "mcp-param-dry": "true"}


async def test_a_legacy_session_from_start_to_end(fake: FakeGateway) -> None:
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        pipe.put(INITIALIZED)  # at once, as a hasty client would
        pipe.put(legacy(1, "tools/call", name="count", arguments={"to": 2}, _meta={"progressToken": "p"}))
        answers = [await pipe.get() for _ in range(4)]
        await arrived(fake, "GET")
    assert answers[0]["result"]["serverInfo"]["name"] == "fake"
    assert [answer["params"]["progress"] for answer in answers[1:3]] == [1, 2]
    assert answers[3]["result"]["content"][0]["text"] == "counted to 2"
    first, *later = fake.requests("POST")
    assert "mcp-session-id" not in first.headers
    [listening], [ended] = fake.requests("GET"), fake.requests("DELETE")
    session = ended.headers["mcp-session-id"]
    for request in [*later, listening, ended]:
        assert request.headers["mcp-session-id"] == session
        assert request.headers["mcp-protocol-version"] == "2025-11-25"


async def test_the_server_asks_and_the_client_answers(fake: FakeGateway) -> None:
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        await pipe.get()
        pipe.put(INITIALIZED)
        pipe.put(legacy(1, "tools/call", name="greet", arguments={}))
        asked = await pipe.get()
        assert asked["method"] == "elicitation/create"
        pipe.put({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"name": "Ann"}}})
        answer = await pipe.get()
    assert answer["result"]["content"][0]["text"] == "hello Ann"


async def test_requests_run_side_by_side(fake: FakeGateway) -> None:
    both = asyncio.Barrier(2)

    async def script(request: Request) -> Response:
        await both.wait()
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json())["id"], "result": {}})

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(modern(1, "tools/list"))
        pipe.put(modern(2, "tools/list"))
        assert {(await pipe.get())["id"], (await pipe.get())["id"]} == {1, 2}


@pytest.mark.requirement("stdio.one-line")
async def test_a_pretty_answer_becomes_one_line(fake: FakeGateway) -> None:
    fake.script = scripted(
        lambda message: (
            Response(b'{\r\n "jsonrpc": "2.0",\n "id": 1,\n "result": {"n": 1.0}\n}\n', media_type="application/json")
            if message["id"] == 1
            else Response(
                b'data: {"jsonrpc": "2.0", "id": 2,\ndata: "result": {"n": 1e2}}\n\n', media_type="text/event-stream"
            )
        )
    )
    async with bridged(fake.url) as pipe:
        pipe.put(modern(1, "tools/list"))
        line = await pipe.line()
        assert b"\n" not in line
        assert b'"n": 1.0' in line
        pipe.put(modern(2, "tools/list"))
        line = await pipe.line()
        assert b"\n" not in line
        assert b'"n": 1e2' in line


@pytest.mark.requirement("stdio.cancel")
async def test_cancelling_a_modern_request_closes_its_stream(fake: FakeGateway) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def script(request: Request) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            try:
                yield b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
                await asyncio.Event().wait()
            finally:
                loop.call_soon_threadsafe(closed.set)

        return StreamingResponse(stream(), media_type="text/event-stream")

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(modern("x", "tools/call", name="slow"))
        assert (await pipe.get())["method"] == "notifications/progress"
        pipe.put({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x", "_meta": META}})
        async with asyncio.timeout(20):
            await closed.wait()
    assert pipe.out.empty()
    assert len(fake.requests("POST")) == 1


@pytest.mark.requirement("stdio.cancel")
async def test_cancelling_a_legacy_request_is_posted_and_silences_it(fake: FakeGateway) -> None:
    cancelled = asyncio.Event()

    async def script(request: Request) -> Response:
        message = await request.json() if request.method == "POST" else {}
        if message.get("method") == "notifications/cancelled":
            cancelled.set()
        if message.get("method") != "tools/call":
            return await scripted(lambda _: None)(request)

        async def stream() -> AsyncIterator[bytes]:
            yield b": open\n\n"
            await cancelled.wait()

        return StreamingResponse(stream(), media_type="text/event-stream")

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        await pipe.get()
        pipe.put(legacy(5, "tools/call", name="slow"))
        await arrived(fake, "POST", 2)
        pipe.put({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})
        await arrived(fake, "POST", 3)
    assert pipe.out.empty()
    assert fake.requests("POST")[-1].headers["mcp-session-id"] == "s1"


async def test_a_lost_session_is_opened_again_without_the_client(fake: FakeGateway) -> None:
    sessions = iter(["old", "new"])

    async def script(request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405 if request.method == "GET" else 200)
        message = await request.json()
        if message.get("method") == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {}}
            headers = {"Mcp-Session-Id": next(sessions)}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)
        if "id" not in message:
            return Response(status_code=202)
        if request.headers["mcp-session-id"] == "old":
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "gone"}}, 404)
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": []}})

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        await pipe.get()
        pipe.put(INITIALIZED)
        pipe.put(legacy(1, "tools/list"))
        pipe.put(legacy(2, "tools/list"))
        assert {(await pipe.get())["id"], (await pipe.get())["id"]} == {1, 2}
    assert pipe.out.empty()
    methods = [json.loads(seen.body)["method"] for seen in fake.requests("POST")]
    assert methods.count("initialize") == 2
    assert methods.count("notifications/initialized") == 2
    assert fake.requests("DELETE")[0].headers["mcp-session-id"] == "new"


async def test_a_broken_legacy_stream_is_resumed(fake: FakeGateway) -> None:
    async def script(request: Request) -> Response:
        if request.method == "GET" and request.headers.get("last-event-id") == "e1":
            return events(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        return await scripted(
            lambda message: (
                Response(b"id: e1\nretry: 100\ndata: \n\n", media_type="text/event-stream")
                if message.get("method") == "tools/call"
                else None
            )
        )(request)

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        await pipe.get()
        pipe.put(legacy(1, "tools/call", name="slow"))
        while not pipe.clock._sleepers:
            await asyncio.sleep(0)
        pipe.clock.advance(0.1)
        assert (await pipe.get())["id"] == 1
    assert fake.requests("GET")[0].headers["mcp-session-id"] == "s1"


async def test_the_servers_own_messages_come_through_and_the_stream_is_opened_again(fake: FakeGateway) -> None:
    async def script(request: Request) -> Response:
        if request.method == "GET":
            again = request.headers.get("last-event-id")
            data = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"n":%d}}' % (
                2 if again else 1
            )
            return Response(b"id: g1\ndata: " + data + b"\n\n", media_type="text/event-stream")
        return await scripted(lambda _: None)(request)

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put(INITIALIZE)
        await pipe.get()
        pipe.put(INITIALIZED)
        assert (await pipe.get())["params"] == {"n": 1}
        while not pipe.clock._sleepers:
            await asyncio.sleep(0)
        pipe.clock.advance(1)
        assert (await pipe.get())["params"] == {"n": 2}


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (lambda m: JSONResponse({"detail": "broken"}, 503), REFUSED, "broken"),
        (lambda m: Response("<html>", media_type="text/html"), REFUSED, "not a Gatehouse gateway"),
        (
            lambda m: events(b'{"jsonrpc":"2.0","method":"notifications/progress"}'),
            OUTCOME_UNKNOWN,
            "without the result",
        ),
        (
            lambda m: JSONResponse({"jsonrpc": "2.0", "id": None, "error": {"code": -32020, "message": "header"}}, 400),
            -32020,
            "header",
        ),
        (
            lambda m: JSONResponse({"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "none"}}, 404),
            -32601,
            "none",
        ),
        (
            lambda m: JSONResponse(
                {"title": "Too Large", "detail": "too large", "error": {"code": "X", "message": "y"}}, 413
            ),
            REFUSED,
            "too large",
        ),
        (lambda m: Response(status_code=202), REFUSED, "not a Gatehouse gateway"),
    ],
)
async def test_every_request_is_answered(fake: FakeGateway, answer: Any, code: int, words: str) -> None:
    fake.script = scripted(answer)
    async with bridged(fake.url) as pipe:
        pipe.put(modern(7, "tools/call", name="x"))
        answered = [message for message in [await pipe.get()] if "id" in message] or [await pipe.get()]
    assert answered[0]["id"] == 7
    assert answered[0]["error"]["code"] == code
    assert words in answered[0]["error"]["message"]


async def test_a_refused_key_and_a_missing_one(fake: FakeGateway) -> None:
    async with bridged(fake.url, key="mcp_wrong_key") as pipe:
        pipe.put(INITIALIZE)
        refused = await pipe.get()
    async with bridged(fake.url, key=None) as pipe:
        pipe.put(modern(1, "tools/list"))
        missing = await pipe.get()
    assert refused["error"]["code"] == missing["error"]["code"] == KEY_NOT_ACCEPTED
    assert "GATEHOUSE_API_KEY" in refused["error"]["message"]
    assert missing["error"]["message"] == "No API key: set GATEHOUSE_API_KEY."


async def test_nobody_at_the_address() -> None:
    async with bridged("http://127.0.0.1:1") as pipe:
        pipe.put(modern("a", "tools/list"))
        answer = await pipe.get()
        pipe.put(INITIALIZED)
    assert (answer["id"], answer["error"]["code"]) == ("a", NOT_SENT)
    assert "gatehouse serve" in answer["error"]["message"]
    assert len(pipe.complaints) == 1


async def test_a_line_that_is_no_message(fake: FakeGateway) -> None:
    async with bridged(fake.url) as pipe:
        pipe.put(b"hello\n")
        pipe.put(b"\n")
        answer = await pipe.get()
    assert (answer["id"], answer["error"]["code"]) == (None, PARSE_ERROR)
    assert fake.seen == []


async def test_what_was_asked_before_the_end_is_still_answered(fake: FakeGateway) -> None:
    async with bridged(fake.url) as pipe:
        pipe.put(modern(1, "tools/call", name="count", arguments={"to": 1}))
    assert (await pipe.get())["result"]["content"][0]["text"] == "counted to 1"


async def test_a_batch_of_the_older_revision(fake: FakeGateway) -> None:
    async def script(request: Request) -> Response:
        asked = await request.json()
        return JSONResponse([{"jsonrpc": "2.0", "id": one["id"], "result": {}} for one in asked])

    fake.script = script
    async with bridged(fake.url) as pipe:
        pipe.put([legacy(1, "ping"), legacy(2, "ping")])
        assert [one["id"] for one in await pipe.get()] == [1, 2]
