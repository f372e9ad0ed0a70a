"""Approvals at the gateway's MCP door: what waits, who is asked in which way, and what an answer is good for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from registry.approvals.events import ApprovalAsked, ApprovalDecided
from registry.audit.models import AuditEntry
from tests.gateway.mcp.door import MODERN, Door, McpError, Modern
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.support.running import Running

META = "io.modelcontextprotocol/"
APPROVED = {"approval": {"action": "accept", "content": {"approve": True}}}


@pytest.fixture
async def upstream() -> AsyncIterator[Echo]:
    reading = tool("look", annotations={"readOnlyHint": True})
    async with echo(tools=[tool("pay"), reading], prompts=[{"name": "greet"}]) as made:
        yield made


class Eliciting(Modern):
    """A modern client whose person can be asked."""

    def __init__(self, door: Door, path: str, key: str | None, elicitation: Any = None) -> None:
        super().__init__(door, path, key)
        self.capabilities = {"elicitation": {} if elicitation is None else elicitation}

    async def pay(self, arguments: Any, **retry: Any) -> dict[str, Any]:
        """The message that answers a call of `echo__pay`."""
        meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": self.capabilities}
        params = {"name": "echo__pay", "arguments": arguments, **retry, "_meta": meta}
        headers = {**self.headers, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo__pay"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = await self.door.send("POST", self.path, headers, json.dumps(body).encode())
        message: dict[str, Any] = answer.json()
        return message


async def rule(door: Door, **fields: Any) -> dict[str, Any]:
    answer = await door.rest("POST", "/v1/approvals/rules", {"name": "careful", **fields})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


async def waits(call: Any) -> dict[str, Any]:
    with pytest.raises(McpError) as raised:
        await call
    assert raised.value.code == -31005, raised.value
    data: dict[str, Any] = raised.value.error["data"]
    assert data["code"] == "APPROVAL_REQUIRED"
    return data


async def inbox(door: Door, status: str = "waiting") -> list[dict[str, Any]]:
    answer = await door.rest("GET", f"/v1/approvals?status={status}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["approvals"]
    return found


async def decide(door: Door, approval_id: str, verb: str, reason: str | None = None, key: str | None = None) -> int:
    answer = await door.rest("POST", f"/v1/approvals/{approval_id}/{verb}", {"reason": reason}, key=key)
    return answer.status


async def audited(door: Door) -> list[tuple[str, str]]:
    async with door.app.database.reading() as session:
        rows = await session.scalars(select(AuditEntry).order_by(AuditEntry.at))
        return [(row.action, row.subject.partition(":")[0]) for row in rows if row.action.startswith("approvals.")]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_an_approved_call_passes_once_and_no_other_does(door: Door, upstream: Echo, era: str) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    events: list[Any] = []
    for kind in (ApprovalAsked, ApprovalDecided):
        door.app.ground.events.subscribe(kind, events.append)
    client = await door.either(era, "/mcp", door.agent)
    asked = await waits(client.call("echo__pay", {"amount": 10, "to": "ann"}))
    again = await waits(client.call("echo__pay", {"to": "ann", "amount": 10}))
    assert asked["approval_id"] == again["approval_id"], "one call was asked for twice"
    (waiting,) = await inbox(door)
    assert (waiting["id"], waiting["tool"], waiting["status"]) == (asked["approval_id"], "echo__pay", "waiting")
    assert json.loads(waiting["arguments"]) == {"amount": 10, "to": "ann"}
    assert await decide(door, waiting["id"], "approve") == 200
    assert await decide(door, waiting["id"], "deny") == 409, "it was answered twice"

    await waits(client.call("echo__pay", {"amount": 11, "to": "ann"}))
    other = await door.either(era, "/mcp", door.admin)
    await waits(other.call("echo__pay", {"amount": 10, "to": "ann"}))
    assert upstream.received == []
    assert (await client.call("echo__pay", {"to": "ann", "amount": 10}))["arguments"] == {"amount": 10, "to": "ann"}
    await waits(client.call("echo__pay", {"amount": 10, "to": "ann"}))
    assert len(upstream.received) == 1
    assert [type(event).__name__ for event in events[:2]] == ["ApprovalAsked", "ApprovalDecided"]
    assert (await audited(door))[:5] == [
        ("approvals.rules.create", "key"),
        ("approvals.ask", "key"),
        ("approvals.approve", "key"),
        ("approvals.ask", "key"),
        ("approvals.ask", "key"),
    ]
    assert ("approvals.use", "key") in await audited(door)


async def test_of_many_at_once_an_approval_lets_one_pass(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__*")
    client = door.modern("/mcp", door.agent)
    asked = await waits(client.call("echo__pay", {}))
    await decide(door, asked["approval_id"], "approve")
    done = await asyncio.gather(*(client.call("echo__pay", {}) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, dict) for result in done) == 1
    assert len(upstream.received) == 1


async def test_a_denied_call_stays_denied_and_its_caller_is_told_why(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    client = door.modern("/mcp", door.agent)
    asked = await waits(client.call("echo__pay", {"amount": 1}))
    assert await decide(door, asked["approval_id"], "deny", "Too much.") == 200
    with pytest.raises(McpError, match="Too much") as raised:
        await client.call("echo__pay", {"amount": 1})
    assert raised.value.error["data"]["status"] == "denied"
    assert await inbox(door) == []


async def test_nobody_decides_their_own_call(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door)
    asked = await waits(door.modern("/mcp", door.admin).call("echo__pay", {}))
    assert await decide(door, asked["approval_id"], "approve") == 403
    assert await decide(door, asked["approval_id"], "approve", key=door.agent) == 403
    assert upstream.received == []


async def test_what_is_agreed_to_is_what_is_sent(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    client = door.modern("/mcp", door.agent)
    asked = await waits(client.call("echo__pay", {"to": "ann"}))
    await decide(door, asked["approval_id"], "approve")
    # A name given twice is read as its last by some, and as its first by others.
    body = json.dumps({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "echo__pay", "arguments": "HERE", "_meta": {
            f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}},
    }).replace('"HERE"', '{"to":"eve","to":"ann"}')  # fmt: skip
    headers = {**client.headers, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo__pay"}
    assert "result" in (await door.send("POST", "/mcp", headers, body.encode())).json()
    assert b'"eve"' not in upstream.listener.requests[-1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "held", "free"),
    [
        ({"destructive": True}, ["echo__pay {}"], ["echo__look {}"]),
        ({"tool": "echo__l*"}, ["echo__look {}"], ["echo__pay {}"]),
        (
            {"argument": {"path": "amount", "compare": "gt", "value": 100}},
            ['echo__pay {"amount": 101}', 'echo__pay {"amount": "1e3"}'],
            ['echo__pay {"amount": 100}', "echo__pay {}", 'echo__pay {"amount": true}'],
        ),
        (
            {"argument": {"path": "to[*].mail", "compare": "matches", "value": "@evil\\.com$"}},
            ['echo__pay {"to": [{"mail": "a@b.c"}, {"mail": "x@evil.com"}]}'],
            ['echo__pay {"to": [{"mail": "x@evil.com.org"}]}', 'echo__pay {"to": "x@evil.com"}'],
        ),
        ({"min_price_usd": 0.5}, [], ["echo__pay {}"]),
        ({"min_price_usd": 0.25}, ["echo__pay {}"], []),
    ],
)
async def test_what_rules_hold(
    door: Door, upstream: Echo, fields: dict[str, Any], held: list[str], free: list[str]
) -> None:
    await door.register("echo", upstream.url, price_usd=0.25)
    made = await rule(door, **fields)
    client = door.modern("/mcp", door.agent)
    for text in held:
        name, _, arguments = text.partition(" ")
        await waits(client.call(name, json.loads(arguments)))
    for text in free:
        name, _, arguments = text.partition(" ")
        await client.call(name, json.loads(arguments))
    await client.result("prompts/get", {"name": "echo__greet"})
    assert (await door.rest("DELETE", f"/v1/approvals/rules/{made['id']}")).status == 200
    for text in held:
        name, _, arguments = text.partition(" ")
        await client.call(name, json.loads(arguments))


@pytest.mark.parametrize(
    "argument",
    [
        {"path": "a..b", "compare": "exists"},
        {"path": "", "compare": "exists"},
        {"path": "a", "compare": "matches", "value": "(?=x)"},
        {"path": "a", "compare": "matches", "value": "("},
        {"path": "a", "compare": "gt", "value": "much"},
    ],
)
async def test_rules_that_cannot_be_judged_are_refused(door: Door, argument: dict[str, Any]) -> None:
    answer = await door.rest("POST", "/v1/approvals/rules", {"name": "x", "argument": argument})
    assert answer.status == 422, answer.body


async def test_no_pattern_runs_for_long(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, argument={"path": "text", "compare": "matches", "value": "^(a+)+$"})
    # Where matching goes back, this would take some 2^5000 steps.
    await door.modern("/mcp", door.agent).call("echo__pay", {"text": "a" * 5000 + "!"})


async def test_deciding_and_stopping_never_wait(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door)
    asked = await waits(door.modern("/mcp", door.agent).call("echo__pay", {}))
    admin = door.modern("/mcp", door.admin)
    for name, arguments in (
        ("servers_list", {}),
        ("emergency_pause", {"reason": "test"}),
        ("emergency_resume", {}),
        ("approvals_approve", {"id": asked["approval_id"]}),
    ):
        result = await admin.result("tools/call", {"name": f"gatehouse__{name}", "arguments": arguments})
        assert not result["isError"], result
    await waits(admin.result("tools/call", {"name": "gatehouse__servers_discover", "arguments": {"server": "echo"}}))


async def test_a_call_over_rest_waits_as_well(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    answer = await door.rest("POST", "/v1/tools/echo__pay", {"amount": 1}, key=door.agent)
    assert (answer.status, answer.json()["error"]["code"]) == (409, "APPROVAL_REQUIRED")
    assert await decide(door, answer.json()["error"]["details"]["approval_id"], "approve") == 200
    assert (await door.rest("POST", "/v1/tools/echo__pay", {"amount": 1}, key=door.agent)).status == 200


async def test_a_modern_clients_person_is_asked_and_the_retry_passes(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    client = Eliciting(door, "/mcp", door.agent)
    result = (await client.pay({"amount": 5}))["result"]
    assert result["resultType"] == "input_required"
    request = result["inputRequests"]["approval"]
    assert request["method"] == "elicitation/create"
    assert '{"amount":5}' in request["params"]["message"]
    assert len(await inbox(door)) == 1
    retry = {"inputResponses": APPROVED, "requestState": result["requestState"]}
    tampered = await client.pay({"amount": 500}, **retry)
    assert tampered["result"]["resultType"] == "input_required", "an answer was good for other arguments"
    assert upstream.received == []
    done = await client.pay({"amount": 5}, **retry)
    assert json.loads(done["result"]["content"][0]["text"])["arguments"] == {"amount": 5}
    assert "requestState" not in upstream.received[0]
    assert "inputResponses" not in upstream.received[0]
    replayed = await client.pay({"amount": 5}, **retry)
    assert replayed["result"]["resultType"] == "input_required", "an answer was good for two calls"
    assert len(upstream.received) == 1
    assert (await inbox(door, "used"))[0]["decided_over"] == "elicitation"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"action": "decline"}, "denied"),
        ({"action": "accept", "content": {"approve": False}}, "denied"),
        ({"action": "accept"}, "denied"),
        ({"action": "cancel"}, "waiting"),
        ("nonsense", "waiting"),
    ],
)
async def test_a_person_who_does_not_agree_is_heard(door: Door, upstream: Echo, answer: Any, status: str) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    client = Eliciting(door, "/mcp", door.agent)
    state = (await client.pay({}))["result"]["requestState"]
    message = await client.pay({}, inputResponses={"approval": answer}, requestState=state)
    if status == "denied":
        assert (message["error"]["code"], message["error"]["data"]["status"]) == (-31005, "denied")
    else:
        assert message["result"]["resultType"] == "input_required"
    assert upstream.received == []
    assert len(await inbox(door, status)) == 1


async def test_anothers_answer_is_no_answer(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay")
    state = (await Eliciting(door, "/mcp", door.agent).pay({}))["result"]["requestState"]
    other = Eliciting(door, "/mcp", door.admin)
    message = await other.pay({}, inputResponses=APPROVED, requestState=state)
    assert message["result"]["resultType"] == "input_required"
    assert upstream.received == []


@pytest.mark.parametrize(("ask", "elicitation"), [("inbox", {}), ("caller", {"url": {}})])
async def test_who_is_not_to_be_asked_waits_in_the_inbox(
    door: Door, upstream: Echo, ask: str, elicitation: Any
) -> None:
    await door.register("echo", upstream.url)
    await rule(door, tool="echo__pay", ask=ask)
    client = Eliciting(door, "/mcp", door.agent, elicitation)
    assert (await client.pay({}))["error"]["code"] == -31005


@pytest.mark.parametrize("agrees", [True, False])
async def test_a_legacy_clients_person_is_asked_on_the_calls_stream(
    gateway: Running, upstream: Echo, agrees: bool
) -> None:
    await gateway.register("echo", base_url=upstream.url)
    status, _ = await gateway.rest("POST", "/v1/approvals/rules", {"name": "careful", "tool": "echo__pay"})
    assert status == 201
    headers = {
        "Authorization": f"Bearer {gateway.agent_key}",
        "Accept": "application/json, text/event-stream",
    }
    opening = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "x"}}

    async def post(body: dict[str, Any]) -> Any:
        return await gateway.http.post(f"{gateway.url}/mcp", json={"jsonrpc": "2.0", **body}, headers=headers)

    opened = await post({"id": 0, "method": "initialize", "params": opening})
    headers["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]
    call = await post({"id": 1, "method": "tools/call", "params": {"name": "echo__pay", "arguments": {"amount": 5}}})
    messages: list[dict[str, Any]] = []
    async for line in call.content:
        if not line.startswith(b"data:") or not line[5:].strip():
            continue
        message = json.loads(line[5:])
        messages.append(message)
        if message.get("method") == "elicitation/create":
            assert upstream.received == []
            answer = {"action": "accept", "content": {"approve": True}} if agrees else {"action": "decline"}
            assert (await post({"id": message["id"], "result": answer})).status == 202
    assert messages[-1]["id"] == 1
    assert len(upstream.received) == agrees
    if agrees:
        assert json.loads(messages[-1]["result"]["content"][0]["text"])["arguments"] == {"amount": 5}
    else:
        assert messages[-1]["error"]["data"]["status"] == "denied"
    _, found = await gateway.rest("GET", f"/v1/approvals?status={'used' if agrees else 'denied'}")
    assert [row["decided_over"] for row in found["approvals"]] == ["elicitation"]
