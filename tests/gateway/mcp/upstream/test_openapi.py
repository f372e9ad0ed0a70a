"""REST services as servers: imported, listed, called; and what arguments cannot make of a request."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from tests.gateway.mcp.upstream.pets import PNG, Pets, description
from tests.support.running import Running

IMPORT = "/v1/mcp/servers/openapi"


@pytest.fixture
async def pets() -> AsyncIterator[Pets]:
    service = Pets()
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def imported(gateway: Running, pets: Pets) -> dict[str, Any]:
    body = {"name": "Pets", "document": description(), "base_url": pets.url + "/v2", "headers": {"X-Key": "s3cr3t"}}
    status, server = await gateway.rest("POST", IMPORT, body)
    assert status == 201, server
    return server


async def call(gateway: Running, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    status, result = await gateway.rest("POST", f"/v1/tools/pets__{tool}", arguments)
    assert status == 200, result
    return result


async def test_an_import_is_a_server_with_tools(gateway: Running, imported: dict[str, Any]) -> None:
    assert imported["transport"] == "openapi"
    names = {"getPet", "putPet", "deletePet", "get_pets", "adopt_now", "picture", "file"}
    assert set(imported["capabilities"]["tools"]) == names
    assert [warning for warning in imported["warnings"] if "POST /file was left out" in warning]
    _, listed = await gateway.rest("GET", "/v1/tools?limit=1000")
    tools = {tool["name"]: tool for tool in listed["tools"]}
    assert tools["pets__getPet"]["annotations"]["readOnlyHint"] is True
    assert tools["pets__deletePet"]["annotations"]["destructiveHint"] is True
    assert "s3cr3t" not in json.dumps([imported, listed])
    status, found = await gateway.rest("POST", f"/v1/mcp/servers/{imported['id']}/capabilities/discover")
    assert status == 200
    assert set(found["capabilities"]["tools"]) == names


async def test_a_call_is_a_request_and_its_answer_a_result(
    gateway: Running, pets: Pets, imported: dict[str, Any]
) -> None:
    result = await call(gateway, "putPet", {"petId": "a b/c?d", "X-Trace": "t1", "body": {"name": "Rex", "age": 3}})
    assert result["structuredContent"] == {"name": "Rex"}
    assert json.loads(result["content"][0]["text"]) == {"name": "Rex"}
    method, path, headers, body = pets.requests[-1]
    assert (method, path) == ("PUT", "/v2/pets/a%20b%2Fc%3Fd")
    assert (headers["X-Trace"], headers["X-Key"], headers["Content-Type"]) == ("t1", "s3cr3t", "application/json")
    assert json.loads(body) == {"name": "Rex", "age": 3}


async def test_parameters_are_written_in_their_styles(gateway: Running, pets: Pets, imported: dict[str, Any]) -> None:
    pets.answers(text="[1]", content_type="application/json")
    arguments = {"tag": ["a", "b&c"], "ids": [1, 2], "filter": {"age": "3"}, "session": "s;1"}
    result = await call(gateway, "get_pets", arguments)
    assert "structuredContent" not in result
    _, path, headers, _ = pets.requests[-1]
    assert path == "/v2/pets?tag=a&tag=b%26c&ids=1%2C2&filter%5Bage%5D=3"
    assert headers["Cookie"] == "session=s%3B1"
    await call(gateway, "adopt_now", {"body": {"name": "Rex & Co", "ids": [1, 2]}})
    assert pets.requests[-1][3] == b"name=Rex+%26+Co&ids=1&ids=2"


@pytest.mark.parametrize("pet", ["..", ".", "", "../admin", "a/../../b", "a\\..\\b"])
async def test_arguments_lead_to_no_other_path(
    gateway: Running, pets: Pets, imported: dict[str, Any], pet: str
) -> None:
    assert (await call(gateway, "getPet", {"petId": pet}))["isError"] is True
    assert pets.requests == []


async def test_arguments_make_no_headers(gateway: Running, pets: Pets, imported: dict[str, Any]) -> None:
    for trace in ("a\r\nX-Admin: 1", "a\nb"):
        result = await call(gateway, "putPet", {"petId": "1", "X-Trace": trace, "body": {"name": "x"}})
        assert result["isError"] is True
    # A registered header is not a parameter, and neither is what OpenAPI reserves.
    assert (await call(gateway, "get_pets", {"X-Key": "mine"}))["isError"] is True
    assert (await call(gateway, "get_pets", {"Authorization": "mine"}))["isError"] is True
    assert (await call(gateway, "getPet", {}))["content"][0]["text"] == "Missing arguments: petId."
    assert pets.requests == []


async def test_failures_of_the_service_are_results(gateway: Running, pets: Pets, imported: dict[str, Any]) -> None:
    pets.answers(status=404, text="no such pet " + "x" * 10_000)
    result = await call(gateway, "getPet", {"petId": "1"})
    assert result["isError"] is True
    text = result["content"][0]["text"]
    assert text.startswith("HTTP 404 Not Found: no such pet")
    assert len(text) < 5000
    pets.answers(status=204)
    assert (await call(gateway, "deletePet", {"petId": "1"}))["isError"] is False
    pets.answers(text="[1]", content_type="application/json")
    assert (
        "something else than its description" in (await call(gateway, "getPet", {"petId": "1"}))["content"][0]["text"]
    )
    await pets.stop()
    status, problem = await gateway.rest("POST", "/v1/tools/pets__getPet", {"petId": "1"})
    assert (status, problem["error"]["code"]) == (503, "NOT_SENT")


async def test_bytes_come_back_as_base64(gateway: Running, pets: Pets, imported: dict[str, Any]) -> None:
    picture = (await call(gateway, "picture", {}))["content"][0]
    assert (picture["type"], picture["mimeType"]) == ("image", "image/png")
    assert base64.b64decode(picture["data"]) == PNG
    file = (await call(gateway, "file", {}))["content"][0]["resource"]
    assert base64.b64decode(file["blob"]) == b"\x00\x01"
    assert file["uri"] == pets.url + "/v2/file"


async def test_a_large_answer_is_cut_off(
    gateway: Running, pets: Pets, imported: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.mcp.upstream.openapi.MAX_ANSWER", 1000)
    pets.answers(text="x" * 1001)
    result = await call(gateway, "get_pets", {})
    assert result["isError"] is True
    assert "larger than" in result["content"][0]["text"]


async def test_a_description_is_fetched_and_chosen_from(gateway: Running, pets: Pets) -> None:
    pets.description = yaml.safe_dump(description(servers=[{"url": "/v3"}]))
    body = {
        "name": "Pets",
        "url": pets.url + "/openapi.yaml",
        "include": ["tag:read", "DELETE *"],
        "exclude": ["get_*"],
    }
    status, server = await gateway.rest("POST", IMPORT, body)
    assert status == 201, server
    assert set(server["capabilities"]["tools"]) == {"getPet", "deletePet"}
    assert server["base_url"] == pets.url + "/v3"
    await call(gateway, "getPet", {"petId": "1"})
    assert pets.requests[-1][1] == "/v3/pets/1"


async def test_own_tool_imports_too(gateway: Running, pets: Pets) -> None:
    arguments = {"name": "Pets", "document": json.dumps(description()), "base_url": pets.url, "include": ["getPet"]}
    status, result = await gateway.rest("POST", "/v1/tools/gatehouse__servers_import_openapi", arguments)
    assert status == 200
    assert result["structuredContent"]["capabilities"]["tools"] == ["getPet"]
    await call(gateway, "getPet", {"petId": "1"})


async def test_what_cannot_be_imported_is_refused(gateway: Running, pets: Pets) -> None:
    async def refused(key: str | None = None, **body: Any) -> tuple[int, str]:
        status, problem = await gateway.rest("POST", IMPORT, {"name": "X", **body}, key=key)
        return status, json.dumps(problem)

    assert (await refused())[0] == 422
    assert (await refused(document="{}"))[0] == 422
    assert "Swagger" in (await refused(document='{"swagger": "2.0"}'))[1]
    assert "base_url" in (await refused(document=description(servers=[])))[1]
    assert "EGRESS_REFUSED" in (await refused(document=description(), base_url="http://169.254.169.254/"))[1]
    assert (await refused(document=description(), base_url=pets.url, include=["nothing"]))[0] == 422
    assert (await refused(url=pets.url + "/nothing"))[0] == 422
    assert (await refused(gateway.agent_key, document=description(), base_url=pets.url))[0] == 403
    status, _ = await gateway.rest(
        "POST", "/v1/mcp/servers", {"name": "X", "base_url": pets.url, "transport": "openapi"}
    )
    assert status == 422
