"""Servers as an MCP registry publishes them, and imported from files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.echo import echo

NOBODY = "http://127.0.0.1:9/mcp"


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path / "data") as made:
        yield made


async def test_servers_are_published_by_page_name_and_version(door: Door) -> None:
    async with echo() as server:
        await door.register("Beta", server.url, description="Second " * 40)
    for name in ("Alpha", "Gamma"):
        assert (await door.rest("POST", "/v1/mcp/servers", {"name": name, "base_url": NOBODY})).status == 201
    first = (await door.rest("GET", "/v0.1/servers?limit=2")).json()
    names = [entry["server"]["name"] for entry in first["servers"]]
    assert (names, first["metadata"]["count"]) == (["local.gatehouse/alpha", "local.gatehouse/beta"], 2)
    rest = (await door.rest("GET", f"/v0.1/servers?limit=2&cursor={first['metadata']['nextCursor']}")).json()
    assert [entry["server"]["name"] for entry in rest["servers"]] == ["local.gatehouse/gamma"]
    assert "nextCursor" not in rest["metadata"]
    beta = first["servers"][1]
    assert (beta["server"]["version"], len(beta["server"]["description"]) <= 100) == ("1", True)
    assert beta["server"]["remotes"][0]["url"] == "http://127.0.0.1:8000/servers/beta/mcp"
    assert beta["_meta"]["io.modelcontextprotocol.registry/official"]["isLatest"] is True
    for path in ("local.gatehouse%2Fbeta/versions/latest", "local.gatehouse/beta/versions/1"):
        assert (await door.rest("GET", f"/v0.1/servers/{path.replace('%2F', '/')}")).json() == beta
    versions = (await door.rest("GET", "/v0.1/servers/local.gatehouse/beta/versions")).json()
    assert versions["servers"] == [beta]
    for query, found in (("search=GAM", 1), ("search=nothing", 0), ("version=latest", 3), ("version=1", 1)):
        assert len((await door.rest("GET", f"/v0.1/servers?{query}")).json()["servers"]) == found
    assert (await door.rest("GET", "/v0.1/servers/local.gatehouse/delta/versions/latest")).status == 404
    assert (await door.rest("GET", "/v0.1/servers/local.gatehouse/beta/versions/2")).status == 404
    assert (await door.rest("GET", "/v0.1/servers?cursor=!")).status == 422
    assert (await door.send("GET", "/v0.1/servers", {})).status == 401


async def test_a_file_is_imported_once_and_tells_what_became_of_each(door: Door) -> None:
    async with echo() as server:
        members = {
            "notes": {"type": "http", "url": server.url},
            "asks": {"url": "https://a.test/mcp", "headers": {"K": "${input:key}"}},
            "local": {"command": "true"},
        }
        body = {"document": {"mcpServers": members}}

        async def run(*, dry_run: bool) -> dict[str, str]:
            answer = await door.rest("POST", "/v1/mcp/servers/import", body | {"dry_run": dry_run})
            assert answer.status == 200, answer.body
            return {one["name"]: one["outcome"] for one in answer.json()["servers"]}

        dry = {"notes": "would_register", "asks": "skipped", "local": "would_register"}
        assert await run(dry_run=True) == dry
        assert (await door.rest("GET", "/v1/mcp/servers")).json()["total"] == 0
        # A command needs proof of access to the machine, which this caller has not shown.
        assert await run(dry_run=False) == {"notes": "registered", "asks": "skipped", "local": "failed"}
        assert await run(dry_run=False) == {"notes": "skipped", "asks": "skipped", "local": "failed"}
    (listed,) = (await door.rest("GET", "/v1/mcp/servers")).json()["servers"]
    assert (listed["name"], listed["health_status"]) == ("notes", "healthy")
    assert (await door.rest("POST", "/v1/mcp/servers/import", {"document": {"a": 1}})).status == 422
    assert (await door.rest("POST", "/v1/mcp/servers/import", body, key=door.agent)).status == 403
