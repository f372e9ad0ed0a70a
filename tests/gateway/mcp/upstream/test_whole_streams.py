"""An event stream that has come to its end when it is looked at is passed on as a whole, and nothing of it is lost."""

from __future__ import annotations

import json

import pytest

from gateway.mcp.upstream.pool import BodyStream
from tests.gateway.mcp.door import Door
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.support.faulty import Call, Fault, faulty

ERAS = ("modern", "legacy")
CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


def notice(number: int) -> bytes:
    params = {"progressToken": "t", "progress": number, "total": 5}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()


async def progress(call: Call) -> None:
    await call.at_once(*map(notice, range(1, 6)), call.answer())


async def alone(call: Call) -> None:
    await call.at_once(call.answer())


async def failed(call: Call) -> None:
    await call.at_once(call.answer(error={"code": -32602, "message": "no"}))


async def failed_later(call: Call) -> None:
    await call.at_once(notice(1), call.answer(error={"code": -32602, "message": "no"}))


async def strange(call: Call) -> None:
    """An answer to nobody's request is between."""
    await call.at_once(notice(1), call.answer(99), notice(2), call.answer())


async def changed(call: Call) -> None:
    await call.at_once(notice(1), CHANGED, call.answer())


async def disguised(call: Call) -> None:
    """The answer's id is written in another way, and another answer follows."""
    asks = {"resultType": "input_required", "requestState": "raw"} if call.server.modern else {}
    first = call.answer(result={**call.result(), **asks})
    await call.at_once(first.replace(b'"id"', b'"\\u0069d"'), call.answer())


async def behind(call: Call) -> None:
    await call.at_once(notice(1), call.answer(), notice(2))


async def unanswered(call: Call) -> None:
    await call.at_once(notice(1))


async def ask(door: Door, era: str, fault: Fault) -> tuple[Exchange, Speaker]:
    async with faulty({"tool": fault}, modern=era == "modern") as server:
        await door.register("server", server.url)
        speaker = await Speaker.of(door, era, "/mcp")
        return await speaker.call("server__tool").done(), speaker


@pytest.mark.parametrize("era", ERAS)
async def test_every_notification_comes_ahead_of_the_answer(door: Door, era: str) -> None:
    exchange, _ = await ask(door, era, progress)
    *notices, answer = exchange.messages()
    assert [message["params"]["progress"] for message in notices] == [1, 2, 3, 4, 5]
    assert answer["result"]["content"][0]["text"] == "done"
    assert exchange.headers["content-length"] == str(len(exchange.body)), "it was streamed"
    assert exchange.body.endswith(b"\n\n")


async def test_a_legacy_client_goes_on_within_a_whole_stream(door: Door) -> None:
    exchange, speaker = await ask(door, "legacy", progress)
    ids = [line[4:] for line in exchange.body.decode().splitlines() if line.startswith("id: ")]
    assert len(set(ids)) == 7, "the first has nothing but its id"
    headers = {**speaker._headers, "Last-Event-ID": ids[4]}
    again = await Exchange(door, "GET", "/mcp", headers, b"").done()
    progressed, answer = again.messages()
    assert progressed["params"]["progress"] == 5
    assert answer == exchange.messages()[-1]


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_that_comes_alone_is_no_stream(door: Door, era: str) -> None:
    exchange, _ = await ask(door, era, alone)
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.messages()[0]["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize(("fault", "status"), [(failed, 400), (failed_later, 200)])
async def test_an_error_has_its_status_where_it_comes_alone(door: Door, fault: Fault, status: int) -> None:
    exchange, _ = await ask(door, "modern", fault)
    assert (exchange.status, exchange.messages()[-1]["error"]["code"]) == (status, -32602)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("fault", "wanted"), [(strange, [1, 2]), (behind, [1])])
async def test_what_is_not_plain_goes_the_long_way(door: Door, era: str, fault: Fault, wanted: list[int]) -> None:
    exchange, _ = await ask(door, era, fault)
    *notices, answer = exchange.messages()
    assert [message["params"]["progress"] for message in notices] == wanted
    assert (answer["id"], answer["result"]["content"][0]["text"]) == (1, "done")


async def test_what_the_gateway_tells_itself_is_not_passed_on(door: Door) -> None:
    exchange, _ = await ask(door, "legacy", changed)
    assert len(exchange.messages()) == 2
    assert b"list_changed" not in exchange.body


@pytest.mark.parametrize("era", ERAS)
async def test_there_is_one_answer_however_its_id_is_written(door: Door, era: str) -> None:
    exchange, _ = await ask(door, era, disguised)
    (answer,) = exchange.messages()
    assert answer["result"].get("requestState") != "raw", "what is the server's own is sealed"


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_that_ends_without_an_answer_is_told_as_such(door: Door, era: str) -> None:
    exchange, _ = await ask(door, era, unanswered)
    notified, answer = exchange.messages()
    assert notified["params"]["progress"] == 1
    assert answer["error"]["code"] == -31004


async def test_a_look_at_the_whole_takes_nothing_away() -> None:
    stream = BodyStream(_Nobody())  # type: ignore[arg-type]
    stream.feed(b"one")
    stream.feed(b"two")
    assert stream.whole() is None, "it may go on"
    stream.end()
    assert stream.whole() == stream.whole() == b"onetwo"
    assert [piece async for piece in stream] == [b"onetwo"]
    broken = BodyStream(_Nobody())  # type: ignore[arg-type]
    broken.feed(b"one")
    broken.end(ConnectionError())
    assert broken.whole() is None


class _Nobody:
    """A connection that is not told anything."""
