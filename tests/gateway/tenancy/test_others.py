"""Another organisation's things answer as what does not exist, at every door; nothing about them can be changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.registry.client import Client
from tests.gateway.mcp.door import McpError
from tests.gateway.safety.operations import OPERATIONS
from tests.gateway.tenancy.house import BODIES, MARK, UNKNOWN_ID, UNKNOWN_NUMBER, House
from tests.support.attacks import attack

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_404 = {
    # Says of any name that nobody offers a tool of that name.
    "GET /v1/tools/{name}/why": 200,
    # Without an engine, which is asked first, there is nothing to start at all.
    "POST /v1/workspaces/{workspace_id}/start": 503,
    "POST /v1/workspaces/{workspace_id}/restart": 503,
}
PLACES = {
    "server": "server_id",
    "tool": "tool_name",
    "user": "user_id",
    "pin": "pin_id",
    "approval": "approval_id",
    "rule": "approval_rule_id",
    "limit": "limit_id",
    "team": "team_id",
    "access": "rule_id",
    "alert": "alert_id",
    "channel": "channel_id",
    "job": "job_id",
    "dead": "job_id",
    "org": "org_id",
    "member": "user_id",
    "session": "session_id",
    "grant": "grant_id",
    "vault": "server_id",
    "hook": "slug",
}
"""What the placeholders of the list of operations stand for here."""


def by_ids(house: House) -> list[str]:
    """Every operation with an id in its path, those that use things up last."""
    found = [name for name, told in house.operations.items() if "{" in name and "security" in told]
    return sorted(found, key=lambda name: (name.startswith("DELETE"), -name.count("/")))


@attack(13)
async def test_no_list_filter_export_or_search_tells_of_another_organisation(house: House) -> None:
    readable = [name for name, told in house.operations.items() if name.startswith("GET") and "security" in told]
    own = dict.fromkeys(house.things, UNKNOWN_ID) | house.mine
    told: list[str] = []
    for operation in readable:
        if "{" in operation and not house.ids(operation).keys() <= house.mine.keys():
            continue
        filters = [parameter["name"] for parameter in house.operations[operation].get("parameters", ())]
        queries = ["", *(f"{name}={value}" for name in filters for value in (MARK, *_of(house, name)))]
        for query in queries:
            status, body = await house.ask(operation, house.admin, own=own, query=query)
            assert status in (200, 400, 404, 422), (operation, query, body)
            # A refusal may repeat what was asked for.
            seen = str(body) if status == 200 else ""
            for thing in (house.other_id, house.things["user_id"], house.things["server_id"]):
                assert thing not in seen, (operation, query, body)
            assert MARK not in seen.replace(query.partition("=")[2] or "\0", ""), (operation, query, body)
        status, body = await house.ask(operation, house.other, own={"server_id": house.things["server_id"]})
        told += [operation] * (MARK in str(body) or house.other_id in str(body))
    # Of most lists the other organisation itself sees what was looked for.
    assert len(told) > 15, told


def _of(house: House, name: str) -> list[str]:
    """Values of a filter that name something of the other organisation."""
    things = [str(value) for key, value in house.things.items() if key == name or key.removesuffix("_id") == name]
    return things + ([f"user:{house.things['user_id']}"] if name in ("principal", "target") else [])


@attack(13)
async def test_bodies_do_not_lead_to_another_organisation_either(house: House) -> None:
    limit = BODIES["POST /api/v1/budget/limits"]
    rule = BODIES["POST /v1/access/rules"]
    for operation, body, place in (
        ("POST /v1/api-keys", {"name": "new"}, ("user_id",)),
        ("POST /api/v1/api-keys", {"name": "new"}, ("user_id",)),
        ("POST /v1/access/rules", rule | {"who": "team"}, ("who_id", "team_id")),
        ("POST /v1/access/rules", rule | {"who": "user"}, ("who_id", "user_id")),
        ("POST /v1/access/rules", rule, ("before", "rule_id")),
        ("POST /api/v1/budget/limits", limit | {"scope_type": "server"}, ("scope_id", "server_id")),
        ("POST /api/v1/budget/limits", limit | {"scope_type": "user"}, ("scope_id", "user_id")),
        ("POST /api/v1/budget/limits", limit | {"scope_type": "team"}, ("scope_id", "team_id")),
        ("POST /api/v1/budget/limits", limit | {"scope_type": "key"}, ("scope_id", "key_id")),
    ):
        thing = str(house.things[place[-1]])
        unknown = str(UNKNOWN_NUMBER) if thing.isdigit() else UNKNOWN_ID
        found = [await house.ask(operation, house.admin, {**body, place[0]: value}) for value in (thing, unknown)]
        told = [house.blurred(answer).replace(f"'{thing}'", "'IT'") for answer in found]
        assert told[0] == told[1], operation
        assert found[0][0] in (400, 403, 404, 422), (operation, found)
    members = [{"server": MARK}]
    status, body = await house.ask("POST /v1/sets", house.admin, {"slug": "reach", "members": members})
    assert status in (404, 422), body


@attack(13)
async def test_fields_that_nobody_may_set_change_nothing_of_others_or_of_oneself(house: House) -> None:
    before = await house.rows()
    _, me = await house.ask("GET /v1/auth/me", house.member)
    stolen = {
        "id": house.things["server_id"],
        "org_id": house.other_id,
        "organization_id": house.other_id,
        "owner_user_id": house.things["user_id"],
        "is_operator": True,
        "role": "admin",
        "roles": ["admin"],
        "spent": -1_000_000,
        "created_by": house.things["user_id"],
    }
    took = 0
    for operation, body in BODIES.items():
        if not (house.ids(operation).keys() <= house.mine.keys() and isinstance(body, dict)):
            continue
        injected = body | {name: value for name, value in stolen.items() if name not in body}
        for key in (house.member, house.admin):
            status, answer = await house.ask(operation, key, injected, own=house.mine)
            assert status < 500 or operation == "POST /v1/auth/oidc/logout" or "workspaces" in operation, answer
            if status < 300 and isinstance(answer, dict):
                took += 1
                assert house.other_id not in str(answer), (operation, answer)
                assert answer.get("id") != stolen["id"], (operation, answer)
    assert took > 10
    assert await house.rows() == before
    _, after = await house.ask("GET /v1/auth/me", house.member)
    assert (after["permissions"], after["roles"]) == (me["permissions"], me["roles"])


@attack(13)
async def test_no_tool_of_the_gateway_leads_to_another_organisation(house: House) -> None:
    before = await house.rows()
    client = house.door.modern("/mcp", house.admin)
    tried = 0
    for operation in OPERATIONS:
        if not any(f"{{{name}}}" in str(operation.arguments) for name in PLACES):
            continue
        tried += 1
        said = []
        for known in (True, False):
            arguments = _filled(house, operation.arguments, known=known)
            try:
                result = await client.result(
                    "tools/call", {"name": f"gatehouse__{operation.tool}", "arguments": arguments}
                )
            except McpError as error:
                result = error.error
            said.append(house.blurred(result))
        assert said[0] == said[1], operation.tool
        assert '"isError": true' in said[0] or operation.tool == "tools_why", (operation.tool, said)
    assert tried > 15
    assert await house.rows() == before


def _filled(house: House, value: Any, *, known: bool) -> Any:
    if isinstance(value, dict):
        return {name: _filled(house, inner, known=known) for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    for name, thing in PLACES.items():
        value = value.replace(f"{{{name}}}", str(house.things[thing]) if known else UNKNOWN_ID)
    return value.replace("{number}", "1")


@attack(13)
async def test_no_mcp_address_or_socket_leads_to_another_organisation(house: House) -> None:
    for place in ("/servers/{}/mcp", "/sets/{}/mcp", "/ws/{}/mcp"):
        told = []
        for slug in (MARK, "none"):
            with pytest.raises(AssertionError) as refused:
                await house.door.modern(place.format(slug), house.admin).tools()
            told.append(str(refused.value).replace(slug, "IT"))
        assert told[0] == told[1]
    names = await house.door.modern("/mcp", house.admin).tools()
    assert not [name for name in names if name.startswith(MARK)]
    with pytest.raises(McpError, match="Unknown tool"):
        await house.door.modern("/mcp", house.admin).call(f"{MARK}__say")
    client = Client(house.door)
    for server_id in (house.things["server_id"], UNKNOWN_ID):
        async with client.socket(server_id, f"token={house.admin}") as socket, asyncio.timeout(30):
            assert await client.closed(socket) == 4404


@attack(13)
async def test_every_operation_answers_as_for_an_id_that_does_not_exist(house: House) -> None:
    before = await house.rows()
    operations = by_ids(house)
    for operation in operations:
        foreign = await house.ask(operation, house.admin)
        unknown = await house.ask(operation, house.admin, known=False)
        assert foreign[0] == NOT_404.get(operation, 404), (operation, foreign)
        assert house.blurred(foreign) == house.blurred(unknown), operation
        if house.ids(operation).keys() - house.mine.keys() - {"tool"}:
            # A thing of one's own does not lead to another's behind it.
            own = house.mine | {"user_id": house.things["user_id"]}
            mixed = await house.ask(operation, house.admin, own=own)
            assert mixed[0] in (404, NOT_404.get(operation)), (operation, mixed)
    assert await house.rows() == before
    # Whose they are, finds them all: none of the refusals was about something else.
    gone: set[Any] = set()
    for operation in operations:
        thing = list(house.ids(operation).items())[-1]
        if thing in gone:
            # Two documents have a way to remove it.
            continue
        status, body = await house.ask(operation, house.other)
        assert status not in (401, 404, 422), (operation, body)
        if operation.startswith("DELETE") and operation.endswith("}"):
            gone.add(thing)
