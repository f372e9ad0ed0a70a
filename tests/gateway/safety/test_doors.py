"""Every door to a tool leads through the same chain: what is refused at one is refused at all, and reaches no server.

`DOORS` is the list: a new door belongs in it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.wire import ACCEPT, LEGACY, Legacy, Modern
from tests.gateway.safety.operations import APPROVALS, BUDGET, EMERGENCY, RULES
from tests.gateway.safety.scene import Scene
from tests.support.attacks import attack
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import exchange
from tests.support.servers.process import plain_environment

SECRET = "correct-horse-battery-staple-1234"
ANSWER_SECONDS = 60

Arguments = dict[str, Any]
OPENING = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "door", "version": "1"}}


# -- doors: each calls `say`, and gives what came back as text


def _modern(path: str, name: str) -> Callable[[Scene, Arguments], str]:
    def call(at: Scene, arguments: Arguments) -> str:
        client = Modern(at.gateway.url + path, at.gateway.agent_key)
        return client.send("tools/call", {"name": name, "arguments": arguments}).text

    return call


def _legacy(path: str, name: str) -> Callable[[Scene, Arguments], str]:
    def call(at: Scene, arguments: Arguments) -> str:
        session = Legacy(at.gateway.url + path, at.gateway.agent_key)
        text = session.send("tools/call", {"name": name, "arguments": arguments}).text
        session.close()
        return text

    return call


def _sse(at: Scene, arguments: Arguments) -> str:
    """A client of revision 2024-11-05: it posts, and hears on a stream."""
    host = urlsplit(at.gateway.url)
    headers = {"Authorization": f"Bearer {at.gateway.agent_key}"}
    assert host.hostname is not None
    stream = http.client.HTTPConnection(host.hostname, host.port, timeout=ANSWER_SECONDS)
    try:
        stream.request("GET", "/sse", headers={**headers, "Accept": "text/event-stream"})
        answer = stream.getresponse()
        endpoint = _data(answer)
        url = endpoint if "://" in endpoint else at.gateway.url + endpoint

        def post(message: dict[str, Any]) -> None:
            sent = json.dumps({"jsonrpc": "2.0", **message}).encode()
            assert exchange(url, "POST", headers={**ACCEPT, **headers}, body=sent).status == 202

        post({"id": 0, "method": "initialize", "params": {**OPENING, "protocolVersion": "2024-11-05"}})
        assert json.loads(_data(answer))["id"] == 0
        post({"method": "notifications/initialized"})
        post({"id": 1, "method": "tools/call", "params": {"name": "echo__say", "arguments": arguments}})
        while json.loads(text := _data(answer)).get("id") != 1:
            pass
        return text
    finally:
        stream.close()


def _data(stream: http.client.HTTPResponse) -> str:
    while not (line := stream.readline().decode()).startswith("data:"):
        assert line, "the stream has ended"
    return line[5:].strip()


def _rest(at: Scene, arguments: Arguments) -> str:
    return at.gateway.rest("POST", "/v1/tools/echo__say", arguments, key=at.gateway.agent_key).text


def _capability_test(at: Scene, arguments: Arguments) -> str:
    body = {"method": "tools/call", "params": {"name": "say", "arguments": arguments}}
    key = at.key(["mcp:capabilities:test", "mcp:tools:list", "mcp:tools:call"])
    return at.gateway.rest("POST", f"/v1/mcp/servers/{at.server}/capabilities/test", body, key=key).text


def _command(at: Scene, arguments: Arguments) -> str:
    pairs = [f"{name}={value}" for name, value in arguments.items()]
    return at.gateway.cli("call", "echo__say", *pairs, GATEHOUSE_API_KEY=at.gateway.agent_key).both


def _stdio(at: Scene, arguments: Arguments) -> str:
    lines = [
        {"id": 0, "method": "initialize", "params": OPENING},
        {"method": "notifications/initialized"},
        {"id": 1, "method": "tools/call", "params": {"name": "echo__say", "arguments": arguments}},
    ]
    sent = "".join(json.dumps({"jsonrpc": "2.0", **each}) + "\n" for each in lines)
    own = {"GATEHOUSE_URL": at.gateway.url, "GATEHOUSE_API_KEY": at.gateway.agent_key}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "stdio"],
        input=sent,
        env=plain_environment(at.gateway.home, PYTHONPATH=str(CHECKOUT), **own),
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=True,
    )
    return done.stdout.splitlines()[-1]


DOORS: dict[str, Callable[[Scene, Arguments], str]] = {
    "modern": _modern("/mcp", "echo__say"),
    "modern, one server": _modern("/servers/echo/mcp", "say"),
    "modern, a set": _modern("/sets/picked/mcp", "talk"),
    "legacy": _legacy("/mcp", "echo__say"),
    "legacy, one server": _legacy("/servers/echo/mcp", "say"),
    "legacy, a set": _legacy("/sets/picked/mcp", "talk"),
    "sse": _sse,
    "rest": _rest,
    "capability test": _capability_test,
    "command": _command,
    "stdio": _stdio,
}


# -- what stands in the way: how it is put up and taken away, and what a caller is told


@dataclass(frozen=True)
class Obstacle:
    """Args: told: one of these is in what comes back: the code, or for people at a terminal the words."""

    up: Callable[[Scene], Callable[[], None]]
    told: tuple[str, ...]
    text: str = "hello"


def _stop(at: Scene) -> Callable[[], None]:
    answer = at.gateway.rest("POST", f"{EMERGENCY}/pause-all", {"reason": "Too hot."})
    assert answer.status == 200, answer.text
    return at.resume


def _removed(at: Scene, path: str, body: dict[str, Any]) -> Callable[[], None]:
    made = at.made(path, body)

    def down() -> None:
        answer = at.gateway.rest("DELETE", f"{path}/{made}")
        assert answer.status == 200, answer.text

    return down


def _budget(at: Scene) -> Callable[[], None]:
    body = {"name": "empty", "amount": 0, "unit": "calls", "action_on_exceed": "block", "scope_type": "server"}
    return _removed(at, f"{BUDGET}/limits", {**body, "scope_id": at.server})


def _approval(at: Scene) -> Callable[[], None]:
    return _removed(at, f"{APPROVALS}/rules", {"name": "careful", "tool": "echo__say"})


def _rule(at: Scene) -> Callable[[], None]:
    return _removed(at, RULES, {"name": "no", "effect": "deny", "pattern": "echo__say"})


def _pin(at: Scene) -> Callable[[], None]:
    pin = at.furnished("{pin}").names["pin"]

    def down() -> None:
        answer = at.gateway.rest("POST", f"/v1/mcp/servers/{at.server}/pins/{pin}/approve")
        assert answer.status == 200, answer.text

    return down


OBSTACLES = {
    "nothing": Obstacle(lambda _: lambda: None, ()),
    "stop": Obstacle(_stop, ("EMERGENCY_STOP", "An emergency stop is in force")),
    "budget": Obstacle(_budget, ("BUDGET_EXCEEDED", "The budget limit 'empty' is used up")),
    "held definition": Obstacle(_pin, ("DEFINITION_HELD", "in a way that nobody has approved yet")),
    "approval": Obstacle(_approval, ("APPROVAL_REQUIRED", "waits for a person")),
    "access rule": Obstacle(_rule, ("Unknown tool", "There is no tool")),
    "another's secret": Obstacle(lambda _: lambda: None, ("hold a credential that is stored",), SECRET),
    "size": Obstacle(lambda _: lambda: None, ("The arguments are ",), "x" * 3000),
}


@pytest.fixture(scope="module", autouse=True)
def furnished(scene: Scene) -> None:
    picked = {"slug": "picked", "members": [{"server": "echo", "tools": [{"name": "say", "as": "talk"}]}]}
    answer = scene.gateway.rest("POST", "/v1/sets", picked)
    assert answer.status == 201, answer.text
    vault = {"name": "vault", "base_url": scene.upstream.url, "headers": {"Authorization": f"Bearer {SECRET}"}}
    scene.made("/v1/mcp/servers", vault)


@attack(14)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_every_door_leads_through_the_same_chain(scene: Scene, obstacle: str) -> None:
    wanted = OBSTACLES[obstacle]
    down = wanted.up(scene)
    try:
        for name, door in DOORS.items():
            before = len(scene.upstream.received)
            text = door(scene, {"text": wanted.text})
            reached = len(scene.upstream.received) - before
            if obstacle == "nothing":
                assert reached == 1, (name, text)
                assert "hello" in text, (name, text)
            else:
                assert reached == 0, f"{name} leads past: {obstacle}"
                assert any(words in text for words in wanted.told), (name, text)
    finally:
        down()
