"""What is wrong on the wire gets the protocol's own error: never a 500, and a session that is open stays usable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.furnish import EVERYTHING, NOTES, Furnished
from tests.e2e.wire import ACCEPT, LEGACY, MODERN, Legacy, McpError, Modern
from tests.support.gateway import Answer, exchange, new_key

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

ADD = {"name": f"{NOTES}__add", "arguments": {"a": 2, "b": 40}}
NOT_NAMES = [f"{NOTES}__nothing", "nobody__add", "add", "__", "", "a" * 5000, f"{NOTES}__add\x00", "é__ü"]
WRONG_KEY = "mcp_wrong_" + "x" * 40
BODY_LIMIT = 4 * 1024 * 1024
"""Bytes; the default of the setting."""


@pytest.fixture(scope="module")
def session(furnished: Furnished) -> Legacy:
    return Legacy(furnished.mcp, furnished.gateway.agent_key)


@pytest.fixture(autouse=True)
def everything_lives_on(furnished: Furnished, session: Legacy) -> Iterator[None]:
    """After each of these tests the one session that all of them share still calls, and so does a modern client."""
    yield
    assert session.call(f"{NOTES}__add", a=2, b=40) == "42"
    assert furnished.agent().call(f"{NOTES}__add", a=2, b=40) == "42"


@pytest.fixture(scope="module")
def narrowed(furnished: Furnished) -> str:
    """A key for the tools of one server."""
    permissions = ["mcp:tools:list", "mcp:tools:call"]
    return new_key(furnished.gateway, "notes only", permissions=permissions, tools=[f"{NOTES}__*"])


@pytest.fixture
def agent(furnished: Furnished) -> Modern:
    return furnished.agent()


def error_of(answer: Answer) -> dict[str, Any]:
    assert answer.status < 500, answer
    message = answer.json()
    assert "result" not in message, message
    # A gateway that stumbles over a client's mistake is one that a client can make stumble.
    assert message["error"]["code"] != INTERNAL_ERROR, message
    return message["error"]


def check(answer: Answer, status: int, code: int) -> dict[str, Any]:
    error = error_of(answer)
    assert (answer.status, error["code"]) == (status, code), answer
    assert error["message"]
    return error


class TestCredentials:
    @pytest.mark.parametrize("authorization", [None, "Bearer ", f"Bearer {WRONG_KEY}", "Basic YTpi", "Bearer é"])
    def test_without_a_valid_key_nothing_opens(self, agent: Modern, authorization: str | None) -> None:
        answer = agent.send("tools/list", Authorization=authorization)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_nor_does_a_session(self, furnished: Furnished) -> None:
        opening = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}).encode()
        answer = exchange(furnished.mcp, "POST", headers=ACCEPT, body=body)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_a_key_in_its_own_header_opens(self, agent: Modern) -> None:
        answer = agent.send("tools/call", ADD, Authorization=None, X_API_Key=agent.key)
        assert answer.json()["result"]["structuredContent"] == {"result": 42}

    def test_a_session_is_bound_to_its_key(self, furnished: Furnished, session: Legacy) -> None:
        stolen = {**session.headers, "Authorization": f"Bearer {furnished.gateway.admin_key}"}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
        assert exchange(session.url, "POST", headers=stolen, body=body).status in (401, 403, 404)

    def test_a_foreign_origin_is_refused(self, agent: Modern) -> None:
        assert agent.send("tools/list", Origin="http://elsewhere.example").status == 403

    @pytest.mark.requirement("http.host")
    def test_a_foreign_host_is_refused(self, agent: Modern) -> None:
        assert agent.send("tools/list", Host="elsewhere.example").status in (400, 403, 421)


class TestPermission:
    def test_a_tool_outside_the_key_is_not_listed(self, furnished: Furnished, narrowed: str) -> None:
        expected = sorted(name for name in furnished.agent().listed("tools") if name.startswith(f"{NOTES}__"))
        assert sorted(Modern(furnished.mcp, narrowed).listed("tools")) == expected
        assert sorted(Legacy(furnished.mcp, narrowed).listed("tools")) == expected
        assert Modern(furnished.server_mcp(NOTES), narrowed).call("add", a=1, b=1) == "2"

    @pytest.mark.requirement("tools.access-control")
    def test_nor_callable_and_looks_like_an_unknown_one(self, furnished: Furnished, narrowed: str) -> None:
        asked = {"name": f"{EVERYTHING}__echo", "arguments": {"message": "no"}}
        unknown = {"name": f"{EVERYTHING}__nothing", "arguments": {"message": "no"}}
        for client in (Modern(furnished.mcp, narrowed), Legacy(furnished.mcp, narrowed)):
            refused, missing = error_of(client.send("tools/call", asked)), error_of(client.send("tools/call", unknown))
            assert refused["code"] == missing["code"] == INVALID_PARAMS
            assert refused["message"].replace("echo", "nothing") == missing["message"]

    def test_nor_at_its_servers_own_endpoint(self, furnished: Furnished, narrowed: str) -> None:
        answer = Modern(furnished.server_mcp(EVERYTHING), narrowed).send(
            "tools/call", {"name": "echo", "arguments": {"message": "no"}}
        )
        assert 400 <= answer.status < 500 or error_of(answer)

    def test_a_key_that_may_only_list_cannot_call(self, furnished: Furnished) -> None:
        looking = Modern(furnished.mcp, new_key(furnished.gateway, "looking", permissions=["mcp:tools:list"]))
        with pytest.raises(McpError):
            looking.call(f"{NOTES}__add", a=1, b=2)
        with pytest.raises(McpError):
            looking.read("notes://readme")
        with pytest.raises(McpError):
            looking.prompt(f"{NOTES}__review", language="C")

    def test_the_agent_key_administers_nothing(self, furnished: Furnished, agent: Modern) -> None:
        body = {"name": "mine", "base_url": furnished.notes.url}
        assert furnished.gateway.rest("POST", "/v1/mcp/servers", body, key=agent.key).status == 403
        assert furnished.gateway.rest("POST", "/v1/api-keys", {"name": "more"}, key=agent.key).status == 403
        admin = set(Modern(furnished.mcp, furnished.gateway.admin_key).listed("tools"))
        assert "gatehouse__servers_register" in admin
        assert "gatehouse__servers_register" not in agent.listed("tools")
        with pytest.raises(McpError):
            agent.call("gatehouse__servers_register", name="mine", base_url=furnished.notes.url)


class TestNames:
    @pytest.mark.parametrize("name", NOT_NAMES)
    def test_an_unknown_tool(self, agent: Modern, session: Legacy, name: str) -> None:
        body = agent.body("tools/call", {"name": name, "arguments": {}})
        # Non-ASCII and padded values have a wire form of their own; without the header the name is not even looked at.
        if name.isascii() and name.isprintable() and name:
            error = error_of(agent.post(json.dumps(body).encode(), agent.headers("tools/call", {"name": name})))
            assert error["code"] == INVALID_PARAMS
        error = error_of(session.send("tools/call", {"name": name, "arguments": {}}))
        assert error["code"] == INVALID_PARAMS

    def test_an_unknown_resource_and_prompt(self, agent: Modern, session: Legacy) -> None:
        assert error_of(agent.send("resources/read", {"uri": "notes://no/such/thing"}))["code"] == INVALID_PARAMS
        assert error_of(session.send("resources/read", {"uri": "nothing:"}))["code"] in (INVALID_PARAMS, -32002)
        for client in (agent, session):
            assert error_of(client.send("prompts/get", {"name": f"{NOTES}__nothing"}))["code"] == INVALID_PARAMS

    def test_an_unknown_method(self, agent: Modern, session: Legacy) -> None:
        check(agent.send("tools/destroy"), 404, METHOD_NOT_FOUND)
        assert error_of(session.send("tools/destroy"))["code"] == METHOD_NOT_FOUND

    def test_an_unknown_server(self, furnished: Furnished) -> None:
        assert furnished.agent("nobody").send("tools/list").status == 404

    @pytest.mark.parametrize("cursor", ["nonsense", "é", "A" * 5000])
    def test_a_cursor_that_was_never_given(self, agent: Modern, session: Legacy, cursor: str) -> None:
        for client in (agent, session):
            assert error_of(client.send("tools/list", {"cursor": cursor}))["code"] == INVALID_PARAMS


class TestModernHeaders:
    """Revision 2026-07-28: headers repeat the body, and a server that reads the body must compare them."""

    def test_a_version_header_other_than_the_bodys(self, agent: Modern) -> None:
        body = json.dumps(agent.body("tools/list", version="2099-01-01")).encode()
        check(agent.post(body, agent.headers("tools/list", {})), 400, HEADER_MISMATCH)

    @pytest.mark.parametrize("method", ["tools/call", "", None])
    def test_a_method_header_other_than_the_bodys(self, agent: Modern, method: str | None) -> None:
        check(agent.send("tools/list", Mcp_Method=method), 400, HEADER_MISMATCH)

    @pytest.mark.parametrize("name", [f"{NOTES}__shout", "", None, "=?base64?!?="])
    def test_a_name_header_other_than_the_bodys(self, agent: Modern, name: str | None) -> None:
        check(agent.send("tools/call", ADD, Mcp_Name=name), 400, HEADER_MISMATCH)

    def test_an_encoded_name_header_is_understood(self, agent: Modern) -> None:
        # The name of the tool in base64.
        answer = agent.send("tools/call", ADD, Mcp_Name="=?base64?bm90ZXNfX2FkZA==?=")
        assert answer.json()["result"]["structuredContent"] == {"result": 42}

    def test_a_version_nobody_knows(self, agent: Modern) -> None:
        version = "2099-01-01"
        body = json.dumps(agent.body("tools/list", version=version)).encode()
        headers = agent.headers("tools/list", {}, MCP_Protocol_Version=version)
        data = check(agent.post(body, headers), 400, UNSUPPORTED_VERSION)["data"]
        assert MODERN in data["supported"]
        assert data["requested"] == version

    def test_a_request_without_its_meta(self, agent: Modern) -> None:
        body = agent.body("tools/list")
        del body["params"]["_meta"]
        check(agent.post(json.dumps(body).encode(), agent.headers("tools/list", {})), 400, INVALID_PARAMS)

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_only_post_is_allowed(self, agent: Modern, method: str) -> None:
        headers = agent.headers("tools/list", {}, Mcp_Method=None)
        assert exchange(agent.url, method, headers=headers).status == 405

    def test_no_session_is_made(self, agent: Modern) -> None:
        answer = agent.send("tools/list", Mcp_Session_Id="whatever")
        assert answer.status == 200
        assert "mcp-session-id" not in answer.headers


class TestLegacySession:
    def test_an_unknown_session_is_gone(self, session: Legacy) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
        assert session.post_bytes(body, Mcp_Session_Id="nobody").status == 404

    def test_an_ended_session_is_gone_and_others_are_not(self, furnished: Furnished) -> None:
        ended = Legacy(furnished.mcp, furnished.gateway.agent_key)
        assert ended.close().status < 300
        assert ended.send("tools/list").status == 404

    def test_a_version_nobody_knows_is_answered_with_one_we_know(self, furnished: Furnished) -> None:
        opened = Legacy(furnished.mcp, furnished.gateway.agent_key, version="1999-01-01")
        assert opened.opened["protocolVersion"] == LEGACY
        assert opened.call(f"{NOTES}__add", a=2, b=40) == "42"

    @pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
    def test_every_older_revision_opens(self, furnished: Furnished, version: str) -> None:
        opened = Legacy(furnished.mcp, furnished.gateway.agent_key, version=version)
        assert opened.opened["protocolVersion"] == version
        assert opened.call(f"{NOTES}__add", a=2, b=40) == "42"


MALFORMED = [
    (b"", PARSE_ERROR),
    (b"{", PARSE_ERROR),
    (b"\xff\xfe\x00", PARSE_ERROR),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"', PARSE_ERROR),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"} trailing', PARSE_ERROR),
    (b"3", INVALID_REQUEST),
    (b"null", INVALID_REQUEST),
    (b'"text"', INVALID_REQUEST),
    (b"[]", INVALID_REQUEST),
    (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', INVALID_REQUEST),
    (b"{}", INVALID_REQUEST),
    (b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":1,"method":7}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}', None),
    (b"[" * 100_000 + b"]" * 100_000, None),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, None),
    (b'{"jsonrpc":"2.0","id":1' + b"0" * 10_000 + b',"method":"tools/list","params":{}}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["x"],"arguments":{}}}', None),
]
"""Bodies, and the code where the specification of JSON-RPC leaves no choice."""


class TestBodies:
    @pytest.mark.parametrize(("body", "code"), MALFORMED, ids=range(len(MALFORMED)))
    def test_a_malformed_one_in_the_modern_era(self, agent: Modern, body: bytes, code: int | None) -> None:
        answer = agent.post(body, agent.headers("tools/list", {}))
        assert 400 <= answer.status < 500
        assert code in (None, error_of(answer)["code"])

    @pytest.mark.parametrize(("body", "code"), MALFORMED, ids=range(len(MALFORMED)))
    def test_a_malformed_one_in_a_session(self, session: Legacy, body: bytes, code: int | None) -> None:
        answer = session.post_bytes(body)
        assert answer.status < 500
        if code == PARSE_ERROR:
            check(answer, 400, PARSE_ERROR)
        elif code == INVALID_REQUEST:
            # The Python SDK says "invalid params" of what JSON-RPC calls an invalid request, and clients know both.
            assert answer.status == 400
            assert error_of(answer)["code"] in (INVALID_REQUEST, INVALID_PARAMS)

    @pytest.mark.parametrize("arguments", [[1], "text", 7])
    def test_arguments_that_are_no_object(self, agent: Modern, session: Legacy, arguments: Any) -> None:
        for client in (agent, session):
            error = error_of(client.send("tools/call", {**ADD, "arguments": arguments}))
            assert error["code"] in (INVALID_PARAMS, INVALID_REQUEST)

    def test_arguments_that_the_tool_refuses(self, agent: Modern, session: Legacy) -> None:
        for client in (agent, session):
            answer = client.send("tools/call", {**ADD, "arguments": {"a": "no number"}})
            assert answer.status < 500
            message = answer.json()
            assert message.get("result", {}).get("isError") or message["error"]["code"] == INVALID_PARAMS

    def test_one_that_is_too_large(self, agent: Modern, session: Legacy) -> None:
        text = "x" * (BODY_LIMIT + 1)
        body = agent.body("tools/call", {"name": f"{NOTES}__shout", "arguments": {"text": text}})
        headers = agent.headers("tools/call", body["params"])
        assert agent.post(json.dumps(body).encode(), headers).status == 413
        assert session.send("tools/call", {"name": f"{NOTES}__shout", "arguments": {"text": text}}).status == 413

    def test_one_that_is_too_large_and_does_not_say_so(self, agent: Modern) -> None:
        body = json.dumps(agent.body("tools/call", {**ADD, "x": "x" * (BODY_LIMIT + 1)})).encode()
        parts = [body[at : at + 65536] for at in range(0, len(body), 65536)]
        assert exchange(agent.url, "POST", headers=agent.headers("tools/call", ADD), body=parts).status == 413

    def test_a_large_one_within_the_limit(self, agent: Modern, session: Legacy) -> None:
        text = "x" * 1_000_000
        for client in (agent, session):
            assert client.call(f"{NOTES}__shout", text=text) == text.upper()
