"""Every endpoint of the document has a test, every test an endpoint of the document, and all are served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.covers import covered
from tests.contract.workspaces.conftest import Client
from tests.contract.workspaces.endpoints import ENDPOINTS, Endpoint
from tests.gateway.mcp.door import Door, opened

HERE = Path(__file__).parent
IDS = {"user_id": "0", "workspace_id": "0", "key_id": "0"}


def test_every_documented_endpoint_has_a_test() -> None:
    assert sorted(ENDPOINTS.keys() - covered(HERE)) == []


def test_every_covered_endpoint_is_documented() -> None:
    assert sorted(covered(HERE) - ENDPOINTS.keys()) == []


async def test_what_is_not_open_needs_a_credential(door: Door) -> None:
    for endpoint, promised in ENDPOINTS.items():
        method, _, path = endpoint.partition(" ")
        answer = await door.send(method, path.format(**IDS), {})
        assert (answer.status == 401) != promised.open, endpoint
        if not promised.open:
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_description_has_every_endpoint_with_its_parameters(door: Door) -> None:
    paths = (await door.send("GET", "/api/v1/openapi.json", {})).json()["paths"]
    for endpoint, promised in ENDPOINTS.items():
        method, _, path = endpoint.partition(" ")
        described = paths[path][method.lower()]
        names = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"}
        assert set(promised.query) <= names, endpoint
        assert str(promised.status) in described["responses"], endpoint


@pytest.mark.parametrize(
    ("amount", "endpoint"),
    [(60, "POST /api/v1/auth/introspect"), (200, "GET /api/v1/workspaces"), (200, "GET /api/v1/users")],
)
async def test_limits_hold_for_each_address(tmp_path: Path, amount: int, endpoint: str) -> None:
    async with opened(tmp_path / "limited", rate_limits="on", workspace_runtime="off") as door:
        client = Client(door, door.admin, "")
        body = {"token": "mcp_nobody"} if endpoint.startswith("POST") else None
        answers = [await client.send(endpoint, body) for _ in range(amount)]
        assert {answer.status for answer in answers} == {200}
        assert answers[0].headers["x-ratelimit-limit"] == str(amount)
        assert answers[0].headers["x-ratelimit-remaining"] == str(amount - 1)
        assert int(answers[0].headers["x-ratelimit-reset"]) > 1_700_000_000
        refused = await client.send(endpoint, body)
        assert refused.status == 429
        said = refused.json()
        assert 0 < said["retry_after"] <= 60
        assert refused.headers["retry-after"] == str(said["retry_after"])
        assert refused.headers["x-ratelimit-remaining"] == "0"
        plain = said["error"] == "Rate limit exceeded"
        assert plain != ENDPOINTS[endpoint].shared
        door.client = "127.0.0.2"
        assert (await client.send(endpoint, body)).status == 200


async def test_every_answer_has_the_headers_of_its_limit(tmp_path: Path) -> None:
    async with opened(tmp_path / "limited", rate_limits="on", workspace_runtime="off") as door:
        client = Client(door, door.admin, "")
        for endpoint, promised in ENDPOINTS.items():
            answer = await client.send(endpoint, **_ids(endpoint, promised))
            assert answer.headers.get("x-ratelimit-limit") == str(promised.limit), endpoint


def _ids(endpoint: str, _: Endpoint) -> dict[str, str]:
    return {name: IDS[name] for name in re.findall(r"\{(\w+)\}", endpoint)}
