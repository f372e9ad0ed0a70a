"""Sets from the command line, and what clients then find at their address: all of it processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.wire import Legacy, Modern
from tests.support.gateway import RunningGateway
from tests.support.servers.notes import README_TEXT, README_URI, NotesServer


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with the notes server."""
    directory = tmp_path_factory.mktemp("sets")
    with NotesServer(directory) as notes, RunningGateway(directory / "data") as made:
        added = made.cli("servers", "add", "notes", notes.url)
        assert added.code == 0, added.both
        yield made


def test_a_set_is_made_used_changed_and_deleted(gateway: RunningGateway, tmp_path: Path) -> None:
    made = gateway.cli("sets", "create", "desk", "--tool", "notes/add=plus", "--tool", "notes/shout", "--name", "Desk")
    assert made.code == 0, made.both
    assert made.out == "Created set desk with 2 tools at /sets/desk/mcp.\n"
    assert gateway.cli("sets", "list").out == "desk\tDesk\tnotes\tno\t/sets/desk/mcp\n"
    assert gateway.cli("sets", "show", "desk").out.splitlines()[0] == "tool\tplus\tnotes\tadd"
    url = f"{gateway.url}/sets/desk/mcp"
    for client in (Modern(url, gateway.agent_key), Legacy(url, gateway.agent_key)):
        assert client.listed("tools") == ["plus", "shout"]
        assert client.listed("resources") == []
        assert client.call("plus", a=1, b=2) == "3"

    members = [{"server": "notes", "tools": [{"name": "add", "parameters": {"b": {"fixed": 40}}}], "prompts": []}]
    file = tmp_path / "members.json"
    file.write_text(json.dumps(members))
    changed = gateway.cli("sets", "update", "desk", "--file", str(file), "--json")
    assert changed.code == 0, changed.both
    assert json.loads(changed.out)["members"] == members
    client = Modern(url, gateway.agent_key)
    assert client.call("add", a=2) == "42"
    assert client.read(README_URI) == README_TEXT

    assert gateway.cli("sets", "delete", "desk").out == "Deleted set desk.\n"
    assert client.send("tools/list").status == 404
    assert json.loads(gateway.cli("sets", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("create", "desk"), "--server, --tool or --file"),
        (("create", "desk", "--tool", "notes"), "SERVER/TOOL"),
        (("create", "desk", "--tool", "notes/add="), "SERVER/TOOL"),
        (("create", "desk", "--file", "nowhere.json"), "cannot be read"),
        (("create", "desk", "--file", "a.json", "--server", "notes"), "--file says it all"),
        (("create", "desk", "--server", "nobody"), "no active server 'nobody'"),
        (("create", "desk", "--server", "notes", "--tool", "notes/add"), "called 'add'"),
        (("update", "desk"), "what to change"),
        (("show", "desk"), "Set not found"),
    ],
)
def test_what_the_command_line_refuses(gateway: RunningGateway, arguments: tuple[str, ...], why: str) -> None:
    ran = gateway.cli("sets", *arguments)
    assert ran.code != 0
    assert why in ran.err


def test_a_public_set_is_opened_and_closed(gateway: RunningGateway) -> None:
    made = gateway.cli("sets", "create", "open", "--tool", "notes/add", "--public")
    assert made.code == 0, made.both
    anybody = Modern(f"{gateway.url}/sets/open/mcp", "")

    def status() -> int:
        return anybody.send("tools/list", Authorization=None).status

    assert status() == 200
    assert gateway.cli("sets", "update", "open", "--private").code == 0
    assert status() == 401
    assert gateway.cli("sets", "delete", "open").code == 0
