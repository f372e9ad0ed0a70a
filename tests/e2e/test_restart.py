"""A gateway started again on the same data directory knows its servers, keys and catalog, whoever is up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.furnish import ALL_TOOLS, EVERYTHING, NOTES, PROMPTS, WEB, furnished_gateway
from tests.e2e.wire import Legacy, McpError, Modern
from tests.support.components.node import NpmPackage
from tests.support.gateway import RunningGateway, new_key
from tests.support.servers import notes


@dataclass
class Restarted:
    """The second start, and what the first knew. The notes server has gone in between."""

    gateway: RunningGateway
    admin_key: str
    agent_key: str
    made_key: str
    servers: list[dict[str, str]]
    tools: list[str]

    @property
    def agent(self) -> Modern:
        return Modern(f"{self.gateway.url}/mcp", self.agent_key)


def servers_of(gateway: RunningGateway, key: str) -> list[dict[str, str]]:
    shown = gateway.rest("GET", "/v1/mcp/servers", key=key).json()["servers"]
    same = ("id", "name", "slug", "transport", "base_url", "created_at", "endpoint_url")
    return sorted(({name: server.get(name) for name in same} for server in shown), key=lambda server: server["slug"])


@pytest.fixture(scope="module", params=["stopped", "killed"])
def restarted(
    request: pytest.FixtureRequest, everything_package: NpmPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restarted]:
    with furnished_gateway(tmp_path_factory.mktemp("restart"), everything_package) as first:
        admin, agent = first.gateway.admin_key, first.gateway.agent_key
        made = new_key(first.gateway, "before", permissions=["mcp:tools:list", "mcp:tools:call"])
        known, tools = servers_of(first.gateway, admin), first.agent().listed("tools")
        if request.param == "killed":
            first.gateway.child.kill()
        first.gateway.stop()
        first.notes.child.kill()
        with RunningGateway(first.gateway.data_dir, port=first.gateway.port) as second:
            yield Restarted(second, admin, agent, made, known, tools)


def test_lists_are_answered_at_once_and_complete(restarted: Restarted) -> None:
    assert set(restarted.tools) >= ALL_TOOLS
    assert restarted.agent.listed("tools") == restarted.tools
    assert set(restarted.agent.listed("prompts")) >= PROMPTS
    assert notes.README_URI in restarted.agent.listed("resources", "uri")


def test_servers_are_still_there(restarted: Restarted) -> None:
    assert servers_of(restarted.gateway, restarted.admin_key) == restarted.servers
    assert [server["slug"] for server in restarted.servers] == sorted((EVERYTHING, NOTES, WEB))


def test_keys_still_open(restarted: Restarted) -> None:
    for key in (restarted.agent_key, restarted.made_key):
        told = Modern(f"{restarted.gateway.url}/mcp", key).call(f"{WEB}__get-sum", a=1, b=2)
        assert told == "The sum of 1 and 2 is 3."


def test_calls_reach_what_is_up(restarted: Restarted) -> None:
    assert restarted.agent.call(f"{EVERYTHING}__echo", message="again") == "Echo: again"
    assert Legacy(f"{restarted.gateway.url}/mcp", restarted.agent_key).call(f"{WEB}__echo", message="x") == "Echo: x"
    with pytest.raises(McpError) as failed:
        restarted.agent.call(f"{NOTES}__add", a=1, b=2)
    assert failed.value.status < 500


def test_what_is_down_can_be_removed(restarted: Restarted) -> None:
    assert restarted.gateway.cli("servers", "remove", NOTES, GATEHOUSE_API_KEY=restarted.admin_key).code == 0
    assert not [name for name in restarted.agent.listed("tools") if name.startswith(f"{NOTES}__")]
