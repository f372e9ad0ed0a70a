"""A server's question that is too large to be buffered is sealed like any other; other large answers are streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.mcp import request_state
from tests.gateway.mcp.door import Door
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.test_faults import nothing_left, outcome
from tests.support.faulty import Call, faulty

LARGE = "x" * 400_000
"""More than is buffered of an answer."""
STATE = "the server's own state"
ASKED = {"q": {"method": "elicitation/create", "params": {"mode": "form", "message": LARGE, "requestedSchema": {}}}}
CAN_ANSWER = {"_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}}


def question(*order: str) -> Any:
    """A tool that asks with its members in this order, and shows the state that comes back."""
    members = {"resultType": "input_required", "inputRequests": ASKED, "requestState": STATE}

    async def tool(call: Call) -> None:
        params = call.message["params"]
        if "inputResponses" in params:
            await call.whole(call.answer(result=call.result(params["requestState"])))
        else:
            await call.whole(call.answer(result={name: members[name] for name in order}))

    return tool


async def mentions(call: Call) -> None:
    """An answer that only speaks of the words."""
    await call.whole(call.answer(result={**call.result(LARGE), "structuredContent": {"status": "input_required"}}))


async def plain(call: Call) -> None:
    await call.whole(call.answer(result=call.result(LARGE)))


async def too_large(call: Call) -> None:
    result = {"resultType": "input_required", "inputRequests": ASKED, "requestState": "y" * request_state.MOST_ASKED}
    await call.whole(call.answer(result=result))


TOOLS = {
    "mark_first": question("resultType", "inputRequests", "requestState"),
    "mark_last": question("inputRequests", "requestState", "resultType"),
    "state_first": question("requestState", "inputRequests", "resultType"),
    "mentions": mentions,
    "plain": plain,
    "too_large": too_large,
}


@pytest.mark.requirement("mrtr.large-questions")
@pytest.mark.parametrize("name", ["mark_first", "mark_last", "state_first"])
async def test_a_large_question_is_sealed_and_its_answer_reaches_the_server(door: Door, name: str) -> None:
    async with faulty(TOOLS, modern=True) as server:
        await door.register("big", server.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        params = {"name": f"big__{name}", "arguments": {}, **CAN_ANSWER}
        (asked,) = (await speaker.request("tools/call", params).done()).messages()
        result = asked["result"]
        assert result["inputRequests"]["q"]["params"]["message"].endswith(LARGE)
        assert STATE not in result["requestState"]
        answers = {"inputResponses": {"q": {"action": "accept", "content": {}}}}
        again = {**params, **answers, "requestState": result["requestState"]}
        assert outcome(await speaker.request("tools/call", again).done()) == STATE
        stolen = await Speaker.of(door, "modern", "/mcp", door.agent)
        assert outcome(await stolen.request("tools/call", again).done()) == -32602
        await nothing_left(door, server)


async def test_a_legacy_client_is_asked_a_large_question_as_well(door: Door) -> None:
    async with faulty(TOOLS, modern=True) as server:
        await door.register("big", server.url)
        speaker = await Speaker.of(door, "legacy", "/mcp", capabilities={"elicitation": {}})
        call = speaker.call("big__mark_last")
        await call.until(b"elicitation/create")
        await call.until(b'"requestedSchema":{}}}')
        (asked,) = [message for message in call.messages() if message.get("method") == "elicitation/create"]
        await speaker.post({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}}).done()
        await call.done()
        (answer,) = [message for message in call.messages() if "result" in message]
        assert answer["result"]["content"][0]["text"] == STATE


@pytest.mark.parametrize("name", ["mentions", "plain"])
async def test_other_large_answers_pass_whole(door: Door, name: str) -> None:
    async with faulty(TOOLS, modern=True) as server:
        await door.register("big", server.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        assert outcome(await speaker.call(f"big__{name}").done()) == LARGE
        await nothing_left(door, server)


async def test_a_question_that_nobody_could_bring_back_is_refused(door: Door) -> None:
    async with faulty(TOOLS, modern=True) as server:
        await door.register("big", server.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        call = await speaker.request("tools/call", {"name": "big__too_large", "arguments": {}, **CAN_ANSWER}).done()
        assert outcome(call) == -31004
        (said,) = call.messages()
        assert "larger than" in said["error"]["message"]
        assert json.dumps(said).count("y" * 100) == 0
        await nothing_left(door, server)
