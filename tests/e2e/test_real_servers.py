"""Three real servers behind one gateway: listed, called, read, prompted; and one that dies costs the others nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.furnish import ALL_TOOLS, EVERYTHING, NOTES, OFFERED, PROMPTS, WEB, Furnished, furnished_gateway
from tests.e2e.wire import MODERN, Legacy, McpError, Modern
from tests.support.components.node import NpmPackage
from tests.support.servers import everything, notes
from tests.support.servers.notes import NotesServer
from tests.support.servers.process import alive, descendants

SERVERS = (EVERYTHING, WEB, NOTES)

CALLS = [
    (EVERYTHING, "echo", {"message": "from stdio"}, "Echo: from stdio"),
    (EVERYTHING, "get-sum", {"a": 2, "b": 40}, "The sum of 2 and 40 is 42."),
    (WEB, "echo", {"message": "Grüße, 世界 🌍"}, "Echo: Grüße, 世界 🌍"),
    (WEB, "get-sum", {"a": -1, "b": 0.5}, "The sum of -1 and 0.5 is -0.5."),
    (NOTES, "add", {"a": 2, "b": 40}, "42"),
    (NOTES, "shout", {"text": "grüße"}, "GRÜSSE"),
]


@pytest.fixture(scope="module")
def own(everything_package: NpmPackage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """A gateway for this file alone, since servers die in it."""
    with furnished_gateway(tmp_path_factory.mktemp("real"), everything_package) as made:
        yield made


def test_everything_is_listed_with_its_server_in_front(own: Furnished) -> None:
    listed = own.agent().listed("tools")
    assert set(listed) >= ALL_TOOLS
    assert len(listed) == len(set(listed))
    assert {name.split("__")[0] for name in listed} <= {*SERVERS, "gatehouse"}


@pytest.mark.parametrize("server", SERVERS)
def test_a_servers_own_endpoint_lists_its_own_names(own: Furnished, server: str) -> None:
    listed = own.agent(server).listed("tools")
    assert set(listed) >= OFFERED[server]
    assert not [name for name in listed if "__" in name]


def test_definitions_arrive_as_the_server_gave_them(own: Furnished) -> None:
    direct = Modern(own.notes.url, "").result("tools/list")["tools"]
    through = own.agent(NOTES).result("tools/list")["tools"]
    assert sorted(through, key=lambda tool: tool["name"]) == sorted(direct, key=lambda tool: tool["name"])
    prefixed = {tool["name"]: tool for tool in own.agent().result("tools/list")["tools"]}
    for tool in direct:
        assert prefixed[f"{NOTES}__{tool['name']}"] == {**tool, "name": f"{NOTES}__{tool['name']}"}


@pytest.mark.parametrize(("server", "tool", "arguments", "answer"), CALLS)
def test_a_call_returns_the_servers_answer(
    own: Furnished, server: str, tool: str, arguments: dict[str, object], answer: str
) -> None:
    assert own.agent().call(f"{server}__{tool}", **arguments) == answer
    assert own.agent(server).call(tool, **arguments) == answer


@pytest.mark.parametrize(("server", "tool", "arguments", "answer"), CALLS)
def test_a_session_of_the_handshake_era_gets_the_same(
    own: Furnished, server: str, tool: str, arguments: dict[str, object], answer: str
) -> None:
    session = Legacy(own.mcp, own.gateway.agent_key)
    assert session.call(f"{server}__{tool}", **arguments) == answer
    assert session.close().status < 300


def test_a_modern_server_is_spoken_to_in_its_own_era(own: Furnished) -> None:
    assert own.agent().call(f"{NOTES}__era") == MODERN


def test_structured_content_passes(own: Furnished) -> None:
    asked = {"name": f"{WEB}__get-structured-content", "arguments": {"location": "Chicago"}}
    given = own.agent().result("tools/call", asked)["structuredContent"]
    assert given == {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
    added = own.agent().result("tools/call", {"name": f"{NOTES}__add", "arguments": {"a": 1, "b": 2}})
    assert added["structuredContent"] == {"result": 3}


def test_an_image_passes(own: Furnished) -> None:
    for server in (EVERYTHING, WEB):
        content = own.agent().result("tools/call", {"name": f"{server}__get-tiny-image", "arguments": {}})["content"]
        (image,) = [part for part in content if part["type"] == "image"]
        assert image["mimeType"] == "image/png"
        assert image["data"].startswith("iVBORw0KGgo")


def test_a_tool_that_fails_is_an_answer_not_an_error(own: Furnished) -> None:
    result = own.agent().result("tools/call", {"name": f"{NOTES}__fail", "arguments": {}})
    assert result["isError"] is True
    assert "fail" in result["content"][0]["text"]


def test_every_listed_resource_can_be_read(own: Furnished) -> None:
    agent = own.agent()
    uris = agent.listed("resources", "uri")
    assert len(uris) == len(set(uris))
    texts = [agent.read(uri) for uri in uris]
    # Two servers offer the same seven documents, and both stay reachable.
    assert sum(text.startswith(everything.DOCUMENT_TITLE) for text in texts) >= 2
    assert notes.README_TEXT in texts


def test_a_unique_resource_keeps_its_address(own: Furnished) -> None:
    assert own.agent().read(notes.README_URI) == notes.README_TEXT
    assert own.agent(NOTES).listed("resources", "uri") == [notes.README_URI]
    for server in (EVERYTHING, WEB):
        assert own.agent(server).read(everything.DOCUMENT_URI).startswith(everything.DOCUMENT_TITLE)


def test_a_resource_of_a_template_can_be_read(own: Furnished) -> None:
    templates = own.agent(NOTES).result("resources/templates/list")["resourceTemplates"]
    assert [template["uriTemplate"] for template in templates] == [notes.ABOUT_TEMPLATE]
    assert own.agent(NOTES).read("notes://about/bees") == "All about bees."
    assert own.agent().read("notes://about/bees") == "All about bees."


def test_prompts_are_listed_and_got(own: Furnished) -> None:
    agent = own.agent()
    assert set(agent.listed("prompts")) >= PROMPTS
    assert agent.prompt(f"{NOTES}__{notes.PROMPT}", language="Python") == "Review this Python code."
    for server in (EVERYTHING, WEB):
        assert agent.prompt(f"{server}__args-prompt", city="Oslo") == "What's weather in Oslo?"
        assert own.agent(server).prompt("args-prompt", city="Oslo") == "What's weather in Oslo?"


def test_both_doors_show_the_servers(own: Furnished) -> None:
    answer = own.gateway.rest("GET", "/v1/mcp/servers")
    assert answer.status == 200, answer.text
    shown = {server["slug"]: server for server in answer.json()["servers"]}
    assert {slug: shown[slug]["transport"] for slug in SERVERS} == {
        EVERYTHING: "stdio",
        WEB: "streamable-http",
        NOTES: "streamable-http",
    }
    assert {slug: shown[slug]["health_status"] for slug in SERVERS} == dict.fromkeys(SERVERS, "healthy")
    assert shown[NOTES]["endpoint_url"] == own.notes.url
    ran = own.gateway.cli("servers", "list")
    assert ran.code == 0, ran.both
    assert all(slug in ran.out for slug in SERVERS)


def test_a_killed_http_server_costs_the_others_nothing_and_comes_back(own: Furnished, tmp_path: Path) -> None:
    own.notes.child.kill()
    agent = own.agent()
    assert set(agent.listed("tools")) >= ALL_TOOLS, "the catalog is stored: what is down is still listed"
    assert agent.call(f"{EVERYTHING}__echo", message="still here") == "Echo: still here"
    assert agent.call(f"{WEB}__get-sum", a=1, b=1) == "The sum of 1 and 1 is 2."
    with pytest.raises(McpError) as failed:
        agent.call(f"{NOTES}__add", a=1, b=2)
    assert failed.value.status < 500
    assert agent.call(f"{WEB}__echo", message="after the failure") == "Echo: after the failure"

    own.notes = NotesServer(tmp_path, port=own.notes.port)
    try:
        own.gateway.child.wait_until(lambda: _answers(own, f"{NOTES}__add"))
        assert agent.call(f"{NOTES}__add", a=1, b=2) == "3"
    finally:
        own.notes.child.stop()


@pytest.mark.requirement("stdio.restart")
def test_a_killed_stdio_server_costs_the_others_nothing_and_is_started_again(own: Furnished, tmp_path: Path) -> None:
    agent = own.agent()
    assert agent.call(f"{EVERYTHING}__echo", message="before") == "Echo: before"
    killed = _stdio_children(own)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    assert agent.call(f"{WEB}__echo", message="still here") == "Echo: still here"
    assert set(agent.listed("tools")) >= ALL_TOOLS
    own.gateway.child.wait_until(lambda: _answers(own, f"{EVERYTHING}__echo", message="again"))
    assert agent.call(f"{EVERYTHING}__echo", message="after") == "Echo: after"
    assert not any(alive(pid) for pid in killed)


def _stdio_children(own: Furnished) -> list[int]:
    """Pids of the reference server below the gateway, whatever wraps it."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(own.gateway.pid)}
    return [pid for pid, command in commands.items() if b"server-everything" in command]


def _answers(own: Furnished, tool: str, **arguments: object) -> bool:
    """Whether a call reaches the server; it may refuse the arguments."""
    try:
        own.agent().result("tools/call", {"name": tool, "arguments": arguments})
    except McpError:
        return False
    return True
