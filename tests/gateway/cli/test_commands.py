"""The client commands, against a gateway that listens."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.gateway.cli.conftest import Gatehouse
from tests.gateway.cli.fake_gateway import KEY, OPERATOR, FakeGateway, message


def test_a_server_is_registered_shown_listed_and_removed(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    added = gatehouse(
        "servers", "add", "files", "http://10.0.0.1/mcp", "--header", "X-Token=a=b", "--tag", "one", "--tag", "two"
    )
    assert added.code == 0, added.err
    assert "files" in added.out
    assert "slug-1" in added.out
    [sent] = fake.requests("POST", "/v1/mcp/servers")
    assert message(sent.body) == {
        "name": "files",
        "environment": "development",
        "tags": ["one", "two"],
        "base_url": "http://10.0.0.1/mcp",
        "headers": {"X-Token": "a=b"},
    }
    assert "x-gatehouse-operator" not in sent.headers

    for which in ("files", "slug-1", "id-1"):
        assert json.loads(gatehouse("servers", "show", which, "--json").out)["name"] == "files"
    assert "http://10.0.0.1/mcp" in gatehouse("servers", "show", "files").out
    assert gatehouse("servers", "list").out.split("\t")[:3] == ["slug-1", "files", "healthy"]
    assert gatehouse("servers", "refresh", "files").out == "2 tools, 0 resources, 0 prompts.\n"
    assert gatehouse("servers", "remove", "files").code == 0
    assert json.loads(gatehouse("servers", "list", "--json").out) == []


def test_a_command_is_registered_with_its_own_options_and_the_proof_of_access(
    fake: FakeGateway, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_SHELL", "taken")
    added = gatehouse(
        "servers",
        "add",
        "local",
        "--env",
        "A=1=2",
        "--env",
        "FROM_SHELL",
        "--",
        "npx",
        "-y",
        "--json",
        "server",
        "--",
        "x",
    )
    assert added.code == 0, added.err
    [sent] = fake.requests("POST", "/v1/mcp/servers")
    body = message(sent.body)
    assert body["transport"] == "stdio"
    assert (body["command"], body["args"]) == ("npx", ["-y", "--json", "server", "--", "x"])
    assert body["env"] == {"A": "1=2", "FROM_SHELL": "taken"}
    assert sent.headers["x-gatehouse-operator"] == OPERATOR


def test_without_the_token_a_command_is_refused_as_a_matter_of_permission(
    fake: FakeGateway, gatehouse: Gatehouse, data_dir: Path
) -> None:
    (data_dir / "operator.token").unlink()
    ran = gatehouse("servers", "add", "local", "--", "server")
    assert (ran.code, ran.err) == (3, "gatehouse: Registering a command needs proof of access to the machine.\n")


def test_every_page_of_a_list_is_read(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    for number in range(5):
        gatehouse("servers", "add", f"s{number}", "http://10.0.0.1")
    assert len(json.loads(gatehouse("servers", "list", "--json").out)) == 5


def test_a_name_that_several_servers_have_is_not_guessed(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    for _ in range(2):
        gatehouse("servers", "add", "dup", "http://10.0.0.1")
    ran = gatehouse("servers", "remove", "dup")
    assert ran.code == 1
    assert "slug-1, slug-2" in ran.err
    assert len(fake.servers) == 2


def test_a_refused_refresh_fails(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    gatehouse("servers", "add", "broken", "http://10.0.0.1")
    ran = gatehouse("servers", "refresh", "broken")
    assert (ran.code, ran.err) == (1, "gatehouse: Discovery failed: tools/list timed out\n")


def test_keys_are_created_listed_and_revoked(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    made = gatehouse(
        "keys", "create", "ci", "--permission", "mcp:servers:read", "--tool", "files__*", "--tool", "git__log"
    )
    assert (made.code, made.out) == (0, "mcp_1_secret\n")
    [sent] = fake.requests("POST", "/v1/api-keys")
    assert message(sent.body) == {
        "name": "ci",
        "permissions": ["mcp:servers:read"],
        "tools": ["files__*", "git__log"],
    }
    assert gatehouse("keys", "list").out.startswith("1\tci\tmcp_1\tmcp:servers:read\tfiles__* git__log\tnever\tnever")
    assert gatehouse("keys", "revoke", "1").code == 0
    again = gatehouse("keys", "revoke", "1")
    assert (again.code, again.err) == (1, "gatehouse: API key not found\n")


def test_tools_are_listed_and_called(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    listed = gatehouse("tools", "list")
    assert [line.split("\t")[0] for line in listed.out.splitlines()] == ["echo", "count", "fail", "greet"]
    ran = gatehouse("call", "echo", "text=hello world=1")
    assert (ran.code, ran.out) == (0, "hello world=1\n")
    sent = fake.requests("POST")[-1]
    assert sent.headers["mcp-protocol-version"] == "2026-07-28"
    assert sent.headers["mcp-method"] == "tools/call"
    assert sent.headers["mcp-name"] == "echo"
    assert sent.headers["accept"] == "application/json, text/event-stream"
    meta = message(sent.body)["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "gatehouse"


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("5", 5),
        ("true", True),
        ("null", None),
        ('{"a":[1]}', {"a": [1]}),
        ('"5"', "5"),
        ("five", "five"),
        ("", ""),
        ("NaN", "NaN"),
        ("{broken", "{broken"),
    ],
)
def test_values_are_json_where_they_read_as_json(
    fake: FakeGateway, gatehouse: Gatehouse, typed: str, sent: Any
) -> None:
    gatehouse("call", "echo", f"text={typed}")
    assert message(fake.requests("POST")[-1].body)["params"]["arguments"] == {"text": sent}


def test_progress_goes_to_stderr_and_the_answer_to_stdout(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    ran = gatehouse("call", "count", "to=2")
    assert (ran.code, ran.out) == (0, "counted to 2\n")
    assert ran.err.splitlines() == ["[1/2] step 1", "[2/2] step 2"]
    assert json.loads(gatehouse("call", "count", "to=1", "--json").out)["content"][0]["text"] == "counted to 1"


def test_a_tool_that_fails_is_an_exit_code(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    ran = gatehouse("call", "fail")
    assert (ran.code, ran.out) == (1, "")
    assert "the disk is on fire" in ran.err
    assert len(ran.err.splitlines()) == 1
    as_json = gatehouse("call", "fail", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["isError"] is True


def test_an_unknown_tool_is_the_gateways_word(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    ran = gatehouse("call", "nothing")
    assert ran.code == 1
    assert "nothing" in ran.err


def test_arguments_that_a_tool_wants_as_headers(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    async def script(request: Request) -> Response:
        asked = await request.json()
        if asked["method"] == "tools/list":
            result: dict[str, Any] = {"tools": [{"name": "query", "inputSchema": schema}]}
        elif request.headers.get("mcp-param-region") != "eu":
            error = {"code": -32020, "message": "Mcp-Param-Region does not match"}
            return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "error": error}, 400)
        else:
            result = {"content": [{"type": "text", "text": "done"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    fake.script = script
    ran = gatehouse("call", "query", "region=eu")
    assert (ran.code, ran.out) == (0, "done\n")
    assert gatehouse("call", "query").code == 1


def test_a_terminal_is_never_steered_by_what_a_server_says(fake: FakeGateway, gatehouse: Gatehouse) -> None:
    fake.servers["id-1"] = {"id": "id-1", "slug": "s", "name": "evil\x1b[2J\tname\n", "health_status": "healthy"}
    assert gatehouse("servers", "list").out.split("\t")[1] == "evil[2J name"
    assert "\x1b" not in gatehouse("servers", "show", "s").out


@pytest.mark.parametrize(("kind", "words"), [("input_required", "further input"), ("task", "'task'")])
def test_an_answer_that_the_command_line_cannot_follow(
    fake: FakeGateway, gatehouse: Gatehouse, kind: str, words: str
) -> None:
    async def script(request: Request) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json())["id"], "result": {"resultType": kind}})

    fake.script = script
    ran = gatehouse("call", "greet")
    assert (ran.code, ran.out) == (1, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_wrong_key_is_named_with_the_variable_to_set(
    fake: FakeGateway, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEHOUSE_API_KEY", "mcp_wrong_key")
    for command in (["servers", "list"], ["tools", "list"], ["call", "echo", "text=x"]):
        ran = gatehouse(*command)
        assert ran.code == 3
        assert "GATEHOUSE_API_KEY" in ran.err
        assert "mcp_wrong_key" not in ran.err


def test_a_missing_key_says_why(gatehouse: Gatehouse, data_dir: Path) -> None:
    (data_dir / "first-run.txt").write_text("url=http://127.0.0.1:8000\n")
    ran = gatehouse("servers", "list")
    assert ran.code == 3
    assert "preset by GATEHOUSE_ADMIN_API_KEY" in ran.err
    (data_dir / "first-run.txt").unlink()
    assert "gatehouse serve" in gatehouse("servers", "list").err


def test_nobody_at_the_address(gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("GATEHOUSE_URL", url)
    ran = gatehouse("tools", "list")
    assert ran.code == 4
    assert url in ran.err
    assert "gatehouse serve" in ran.err


def test_the_data_dirs_credentials_stay_on_this_machine(
    gatehouse: Gatehouse, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEHOUSE_URL", "https://elsewhere.example")
    ran = gatehouse("servers", "list")
    assert ran.code == 3
    assert "elsewhere.example" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["servers", "add", "x"],
        ["servers", "add", "x", "localhost:80"],
        ["servers", "add", "x", "http://a", "--header", "secret"],
        ["servers", "add", "x", "http://a", "--env", "A=1"],
        ["servers", "add", "x", "--"],
        ["servers", "add", "x", "http://a", "--", "command"],
        ["servers", "add", "x", "--env", "NOT_SET_ANYWHERE", "--", "command"],
        ["channels", "add", "email"],
        ["channels", "add", "pigeon", "--to", "x"],
        ["channels", "add", "slack", "--to", "http://a", "--to", "http://b"],
        ["channels", "update", "some-id"],
        ["health", "config", "x", "--maintenance", "tomorrow"],
        ["users", "update", "some-id"],
        ["organizations", "update", "some-id"],
        ["logins", "set", "x", "client_credentials", "--secret-variable", "NOT_SET_ANYWHERE"],
        ["accounts", "set", "x", "--header", "Authorization=NOT_SET_ANYWHERE"],
        ["accounts", "set", "x"],
        ["call", "tool", "argument"],
        ["call"],
        ["nonsense"],
        ["serve", "--port", "many"],
    ],
)
def test_wrong_usage_is_one_line_and_sends_nothing(
    fake: FakeGateway, gatehouse: Gatehouse, arguments: list[str]
) -> None:
    ran = gatehouse(*arguments)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "secret" not in ran.err
    assert fake.seen == []


def test_an_address_that_is_none(gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("gateway:8000", "ftp://gateway", "http://user:pass@gateway", "http://gateway:x"):
        monkeypatch.setenv("GATEHOUSE_URL", url)
        ran = gatehouse("servers", "list")
        assert ran.code == 2
        assert "GATEHOUSE_URL" in ran.err
        assert "pass" not in ran.err


def test_what_is_not_a_gateway_is_recognised(
    fake: FakeGateway, gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEHOUSE_API_KEY", KEY)
    monkeypatch.setenv("GATEHOUSE_URL", fake.url + "/elsewhere")
    ran = gatehouse("servers", "list")
    assert ran.code == 1
    assert "not a Gatehouse gateway" in ran.err


def test_who_goes_wrong_is_told_where_to_look(
    fake: FakeGateway, gatehouse: Gatehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "(see gatehouse servers show --help)" in gatehouse("servers", "show").err
    monkeypatch.setenv("GATEHOUSE_DATA_DIR", str(tmp_path / "none"))
    assert "set GATEHOUSE_DATA_DIR" in gatehouse("servers", "list").err
