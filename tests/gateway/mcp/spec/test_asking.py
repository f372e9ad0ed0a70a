"""What servers ask of clients: in rounds or on a stream, sealed, by whom it was asked, and to whom it may be asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.gateway.mcp.exchange import Exchange
from tests.gateway.mcp.spec.conftest import ERAS, SLUGS, Caller, Stage, answer_of
from tests.gateway.mcp.spec.server import VISIT

requirement = pytest.mark.requirement
servers = pytest.mark.parametrize("server", ERAS)
CAN = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
ANSWERS: dict[str, Any] = {
    "form": {"action": "accept", "content": {"name": "Ann"}},
    "roots": {"roots": [{"uri": "file:///home/ann"}]},
    "sample": {"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}},
}
METHODS = {"form": "elicitation/create", "roots": "roots/list", "sample": "sampling/createMessage"}
INVALID_PARAMS, MISSING_CAPABILITY, URL_NEEDED = -32602, -32021, -32042


def params_of(server: str, kind: str) -> dict[str, Any]:
    return {"name": f"{SLUGS[server]}__ask", "arguments": {"kind": kind}}


async def asked(caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
    result = await caller.result("tools/call", params)
    assert result["resultType"] == "input_required", result
    return result


def told(result: dict[str, Any]) -> Any:
    return json.loads(result["content"][0]["text"])["answer"]


# -- modern clients are asked in rounds


@requirement("mrtr.round-trip", "mrtr.requests-have-their-form", "mrtr.unique-keys", "mrtr.something-to-answer")
@servers
@pytest.mark.parametrize("kind", sorted(ANSWERS))
async def test_a_modern_client_is_asked_by_a_result(stage: Stage, server: str, kind: str) -> None:
    caller = await stage.client("modern", **CAN)
    params = params_of(server, kind)
    result = await asked(caller, params)
    (key,) = result["inputRequests"]
    assert result["inputRequests"][key]["method"] == METHODS[kind]
    assert isinstance(result["inputRequests"][key]["params"], dict)
    again = {**params, "inputResponses": {key: ANSWERS[kind]}, "requestState": result["requestState"]}
    assert told(await caller.result("tools/call", again)) == ANSWERS[kind]


@requirement("mrtr.state-protected", "mrtr.state-of-its-principal", "mrtr.state-of-its-request")
@servers
async def test_a_state_opens_for_its_caller_and_request_alone(stage: Stage, server: str) -> None:
    caller = await stage.client("modern", **CAN)
    params = params_of(server, "form")
    result = await asked(caller, params)
    (key,) = result["inputRequests"]
    assert result["requestState"] not in ("mine", "")
    answers = {"inputResponses": {key: ANSWERS["form"]}}
    again = {**params, **answers, "requestState": result["requestState"]}
    state = result["requestState"]
    for wrong in (state[:-2] + ("AA" if state[-2:] != "AA" else "BB"), "mine", "", state + "A"):
        assert (await caller.ask("tools/call", {**again, "requestState": wrong}))["error"]["code"] == INVALID_PARAMS
    other = {**again, "name": f"{SLUGS[server]}__echo"}
    assert (await caller.ask("tools/call", other))["error"]["code"] == INVALID_PARAMS
    thief = await stage.client("modern", **CAN)
    thief.speaker = type(caller.speaker)(stage.door, "/mcp", stage.door.agent)
    assert (await thief.ask("tools/call", again))["error"]["code"] == INVALID_PARAMS
    assert told(await caller.result("tools/call", again)) == ANSWERS["form"]


@requirement("mrtr.servers-state-comes-back")
async def test_a_servers_own_state_comes_back_as_it_was(stage: Stage) -> None:
    caller = await stage.client("modern", **CAN)
    result = await asked(caller, params_of("modern", "form"))
    again = {**params_of("modern", "form"), "inputResponses": {"q1": ANSWERS["form"]}}
    final = await caller.result("tools/call", {**again, "requestState": result["requestState"]})
    assert json.loads(final["content"][0]["text"])["state"] == "mine"


@requirement("mrtr.answers-missing")
async def test_a_retry_without_its_answers_is_told_what_is_missing(stage: Stage) -> None:
    caller = await stage.client("modern", **CAN)
    params = params_of("legacy", "form")
    result = await asked(caller, params)
    answer = await caller.ask("tools/call", {**params, "requestState": result["requestState"], "inputResponses": {}})
    assert answer["error"]["code"] == INVALID_PARAMS
    (key,) = result["inputRequests"]
    assert key in answer["error"]["message"]
    again = {**params, "requestState": result["requestState"], "inputResponses": {key: ANSWERS["form"], "more": {}}}
    assert told(await caller.result("tools/call", again)) == ANSWERS["form"]


@requirement("mrtr.used-once")
async def test_a_parked_call_is_taken_up_once(stage: Stage) -> None:
    caller = await stage.client("modern", **CAN)
    params = params_of("legacy", "form")
    result = await asked(caller, params)
    (key,) = result["inputRequests"]
    again = {**params, "requestState": result["requestState"], "inputResponses": {key: ANSWERS["form"]}}
    assert told(await caller.result("tools/call", again)) == ANSWERS["form"]
    assert (await caller.ask("tools/call", again))["error"]["code"] == INVALID_PARAMS


@requirement("mrtr.only-three-methods")
async def test_nothing_else_ever_asks(stage: Stage) -> None:
    caller = await stage.client("modern", **CAN)
    for method in ("tools/list", "resources/list", "prompts/list", "resources/templates/list", "server/discover"):
        assert (await caller.result(method))["resultType"] == "complete"
    params = {"ref": {"type": "ref/prompt", "name": "old__review"}, "argument": {"name": "language", "value": "p"}}
    assert (await caller.result("completion/complete", params))["resultType"] == "complete"


@requirement("bridge.url-needed", "base.legacy-url-code-not-emitted", "elicitation.url-form")
async def test_a_visit_that_a_legacy_server_wants_is_asked_for_like_any_other_input(stage: Stage) -> None:
    caller = await stage.client("modern", **CAN)
    stage.old.visits = 0
    result = await asked(caller, {"name": "old__visit", "arguments": {}})
    assert result["inputRequests"] == {
        "visit-1": {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": VISIT["url"], "message": f"[old] {VISIT['message']}"},
        }
    }
    again = {"name": "old__visit", "arguments": {}, "inputResponses": {"visit-1": {"action": "accept"}}}
    assert (await caller.result("tools/call", again))["content"][0]["text"] == "visited"


@requirement("bridge.url-needed-undeclared")
async def test_a_client_that_cannot_visit_is_told_that_it_cannot(stage: Stage) -> None:
    caller = await stage.client("modern")
    stage.old.visits = 0
    error = (await caller.ask("tools/call", {"name": "old__visit", "arguments": {}}))["error"]
    assert error["code"] == MISSING_CAPABILITY
    assert error["data"] == {"requiredCapabilities": {"elicitation": {"url": {}}}}


@requirement("elicitation.url-needed-legacy")
async def test_a_legacy_client_gets_the_error_as_it_is(stage: Stage) -> None:
    caller = await stage.client("legacy", **CAN)
    stage.old.visits = 0
    error = (await caller.ask("tools/call", {"name": "old__visit", "arguments": {}}))["error"]
    assert (error["code"], error["data"]) == (URL_NEEDED, {"elicitations": [VISIT]})


# -- legacy clients are asked on their streams


async def question(call: Exchange, method: str) -> dict[str, Any]:
    await call.until(method.encode())
    await call.until(b'"id":"gatehouse-')
    (message,) = [one for one in call.messages() if one.get("method") == method]
    return message


@requirement("legacy-http.requests-on-the-calls-stream", "elicitation.legacy", "sampling.legacy", "roots.legacy")
@requirement("bridge.modern-server-legacy-client")
@servers
@pytest.mark.parametrize("kind", sorted(ANSWERS))
async def test_a_legacy_client_is_asked_on_its_calls_stream(stage: Stage, server: str, kind: str) -> None:
    caller = await stage.client("legacy", **CAN)
    call = caller.begin("tools/call", params_of(server, kind))
    message = await question(call, METHODS[kind])
    assert isinstance(message["id"], str)
    answer = caller.speaker.post({"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS[kind]})
    done = await answer.done()
    assert (done.status, done.body) == (202, b"")
    await asyncio.wait_for(call.done(), 30)
    assert told(answer_of(call)["result"]) == ANSWERS[kind]


@requirement("base.ids-of-the-gateways-requests")
async def test_the_gateways_own_requests_have_ids_of_their_own(stage: Stage) -> None:
    caller = await stage.client("legacy", **CAN)
    calls = [caller.begin("tools/call", params_of("legacy", "form"), n) for n in range(4)]
    ids = [(await question(call, METHODS["form"]))["id"] for call in calls]
    assert len(set(ids)) == 4
    for identifier, call in zip(reversed(ids), reversed(calls), strict=True):
        given = {"action": "accept", "content": {"of": identifier}}
        await caller.speaker.post({"jsonrpc": "2.0", "id": identifier, "result": given}).done()
        await asyncio.wait_for(call.done(), 30)
        assert told(answer_of(call)["result"]) == given


@requirement("elicitation.declined-passes")
@servers
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_does_not_agree_is_heard(stage: Stage, server: str, action: str) -> None:
    caller = await stage.client("legacy", **CAN)
    call = caller.begin("tools/call", params_of(server, "form"))
    message = await question(call, METHODS["form"])
    await caller.speaker.post({"jsonrpc": "2.0", "id": message["id"], "result": {"action": action}}).done()
    await asyncio.wait_for(call.done(), 30)
    assert told(answer_of(call)["result"]) == {"action": action}


@requirement("elicitation.client-error-passes")
async def test_a_client_that_fails_is_heard(stage: Stage) -> None:
    caller = await stage.client("legacy", **CAN)
    call = caller.begin("tools/call", params_of("legacy", "sample"))
    message = await question(call, METHODS["sample"])
    error = {"code": -1, "message": "User rejected sampling request"}
    await caller.speaker.post({"jsonrpc": "2.0", "id": message["id"], "error": error}).done()
    await asyncio.wait_for(call.done(), 30)
    assert told(answer_of(call)["result"]) == error


@requirement("elicitation.which-server-asks")
@pytest.mark.parametrize("server", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_people_are_told_which_server_asks(stage: Stage, era: str, server: str) -> None:
    for path, wanted in (("/mcp", f"[{SLUGS[server]}] Who?"), (f"/servers/{SLUGS[server]}/mcp", "Who?")):
        caller = await stage.client(era, path, **CAN)
        params = params_of(server, "form")
        if path != "/mcp":
            params["name"] = "ask"
        if era == "modern":
            (request,) = (await asked(caller, params))["inputRequests"].values()
        else:
            call = caller.begin("tools/call", params)
            request = await question(call, METHODS["form"])
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": {"action": "decline"}}
            await caller.speaker.post(answer).done()
            await asyncio.wait_for(call.done(), 30)
        assert request["params"]["message"] == wanted


@requirement("elicitation.answer-of-its-session")
async def test_an_answer_counts_in_the_session_that_was_asked(stage: Stage) -> None:
    caller, other = [await stage.client("legacy", **CAN) for _ in range(2)]
    call = caller.begin("tools/call", params_of("legacy", "form"))
    message = await question(call, METHODS["form"])
    forged = {"action": "accept", "content": {"forged": True}}
    sent = await other.speaker.post({"jsonrpc": "2.0", "id": message["id"], "result": forged}).done()
    assert sent.status == 202
    assert not call.task.done()
    await caller.speaker.post({"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS["form"]}).done()
    await asyncio.wait_for(call.done(), 30)
    assert told(answer_of(call)["result"]) == ANSWERS["form"]
