"""The doors to a workspace's tools, and the tools that act on workspaces: the same chain as every other door's.

`tests/gateway/safety/test_doors.py` does the same for servers, with processes; here all is in one process, so that no
container is needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.echo import Echo
from tests.gateway.mcp.inside import answering, in_memory
from tests.gateway.safety.operations import APPROVALS, BUDGET, EMERGENCY, RULES

SECRET = "correct-horse-battery-staple-1234"
TOOL = "git_status"


@dataclass(frozen=True)
class Garden:
    """A workspace named so, with all its doors."""

    door: Door
    inside: Echo
    number: int

    async def mcp(self, era: str, path: str, name: str, arguments: Any) -> str:
        client = await self.door.either(era, path, self.door.agent)
        answer = await client.send("tools/call", {"name": name, "arguments": arguments})
        return answer.body.decode()

    async def rest(self, path: str, body: Any) -> str:
        return (await self.door.rest("POST", path, body)).body.decode()

    async def made(self, path: str, body: Any) -> str:
        answer = await self.door.rest("POST", path, body)
        assert answer.status in (200, 201), answer.body
        return f"{path}/{answer.json().get('id')}"


@pytest.fixture
async def garden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Garden]:
    runtime = in_memory(monkeypatch)
    limits = {"rate_limits": "off", "size_limits": ("garden=2000/100000",)}
    async with answering(runtime) as inside, opened(tmp_path / "data", **limits) as door:
        made = await door.rest("POST", "/api/v1/workspaces", {"name": "garden"})
        assert made.status == 201, made.body
        await door.register("vault", inside.url, headers={"Authorization": f"Bearer {SECRET}"})
        yield Garden(door, inside, made.json()["data"]["id"])


DOORS: dict[str, Callable[[Garden, Any], Awaitable[str]]] = {
    "modern": lambda at, given: at.mcp("modern", "/ws/garden/mcp", TOOL, given),
    "legacy": lambda at, given: at.mcp("legacy", "/ws/garden/mcp", TOOL, given),
    "modern, everything": lambda at, given: at.mcp("modern", "/mcp", f"garden__{TOOL}", given),
    "legacy, everything": lambda at, given: at.mcp("legacy", "/mcp", f"garden__{TOOL}", given),
    "modern, as a server": lambda at, given: at.mcp("modern", "/servers/garden/mcp", TOOL, given),
    "rest": lambda at, given: at.rest(f"/v1/tools/garden__{TOOL}", given),
    "bridge": lambda at, given: at.rest(
        "/api/v1/mcp/invoke", {"workspace_id": at.number, "tool": TOOL, "parameters": given}
    ),
}


@dataclass(frozen=True)
class Obstacle:
    """Args: path, body: what is made to be in the way; told: in what a caller is told then; text: what it sends."""

    told: str
    path: str = ""
    body: Any = None
    text: str = "."


EMPTY = {"name": "empty", "amount": 0, "unit": "calls", "action_on_exceed": "block"}
OBSTACLES = {
    "stop": Obstacle("EMERGENCY_STOP", f"{EMERGENCY}/pause-all", {"reason": "Too hot."}),
    "budget": Obstacle("BUDGET_EXCEEDED", f"{BUDGET}/limits", EMPTY),
    "approval": Obstacle("APPROVAL_REQUIRED", f"{APPROVALS}/rules", {"name": "careful"}),
    "access rule": Obstacle(
        f"{TOOL}", RULES, {"name": "no", "effect": "deny", "what": "tool", "pattern": f"garden__{TOOL}"}
    ),
    "another's secret": Obstacle("hold a credential that is stored", text=SECRET),
    "size": Obstacle("The arguments are ", text="x" * 3000),
}


async def _down(at: Garden, made: str) -> None:
    if made.startswith(EMERGENCY):
        assert (await at.door.rest("POST", f"{EMERGENCY}/resume-all", {})).status == 200
    elif made:
        assert (await at.door.rest("DELETE", made)).status == 200


async def test_every_door_to_a_workspace_leads_through_the_same_chain(garden: Garden) -> None:
    for name, door in DOORS.items():
        before = len(garden.inside.received)
        text = await door(garden, {"repository": "."})
        assert len(garden.inside.received) == before + 1, (name, text)
    reached = len(garden.inside.received)
    for what, obstacle in OBSTACLES.items():
        made = await garden.made(obstacle.path, obstacle.body) if obstacle.path else ""
        for name, door in DOORS.items():
            text = await door(garden, {"repository": obstacle.text})
            assert len(garden.inside.received) == reached, f"{name} leads past: {what}"
            assert "rror" in text, (name, text)
            assert obstacle.told in text, (name, text)
        await _down(garden, made)
    assert TOOL in await DOORS["modern"](garden, {"repository": "."})


ACTING = ("create", "start", "stop", "restart", "exec", "delete")


@pytest.mark.parametrize("what", ["stop", "budget", "approval"])
async def test_tools_that_act_on_workspaces_are_held_and_those_that_read_are_not(garden: Garden, what: str) -> None:
    obstacle = OBSTACLES[what]
    await garden.made(obstacle.path, obstacle.body)
    client = garden.door.modern("/mcp", garden.door.admin)
    offered = await client.tools()
    for verb in ACTING:
        tool = f"gatehouse__workspaces_{verb}"
        assert tool in offered
        answer = await client.send("tools/call", {"name": tool, "arguments": {"workspace_id": garden.number}})
        assert obstacle.told in answer.body.decode(), (tool, answer.body)
    found = await client.call("gatehouse__workspaces_list")
    assert [row["name"] for row in found["workspaces"]] == ["garden"]


async def test_commands_by_rest_do_not_run_while_all_is_stopped(garden: Garden) -> None:
    command = (f"/v1/workspaces/{garden.number}/exec", {"command": ["true"]})
    stopped = OBSTACLES["stop"]
    pressed = await garden.made(stopped.path, stopped.body)
    assert stopped.told in await garden.rest(*command)
    await _down(garden, pressed)
    assert stopped.told not in await garden.rest(*command)
