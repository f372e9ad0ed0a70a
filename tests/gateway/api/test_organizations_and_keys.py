"""Organisations and API keys over REST: scoping, narrowing, and what a body cannot set."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from registry.identity.models import ApiKey
from tests.gateway.api.support import Facade, client_of
from tests.support.attacks import attack
from tests.support.identity import Person, add_key


def _comparable(body: dict[str, Any]) -> dict[str, Any]:
    """An error body without what differs from one request to the next."""
    error = {name: value for name, value in body["error"].items() if name not in {"request_id", "timestamp"}}
    return {name: value for name, value in body.items() if name != "request_id"} | {"error": error}


async def test_organizations_have_the_document_s_form(facade: Facade, admin: Person, stranger: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        listed = (await client.get("/v1/organizations")).json()["organizations"]
        assert [one["id"] for one in listed] == [admin.user.org_id]
        assert listed[0].keys() == {"id", "name", "description", "created_at", "updated_at", "settings"}
        assert listed[0]["created_at"] == "2026-11-22T12:00:00Z"
        one = (await client.get(f"/v1/organizations/{admin.user.org_id}")).json()
        assert one.keys() == listed[0].keys() | {"users"}
        assert one["users"] == [
            {
                "id": admin.user.id,
                "email": "admin@acme.test",
                "name": "admin",
                "roles": ["admin"],
                "created_at": "2026-11-22T12:00:00Z",
            }
        ]


@attack(13)
async def test_foreign_ids_answer_as_unknown_ones(facade: Facade, admin: Person, stranger: Person) -> None:
    foreign_key, _ = await add_key(facade.database, facade.identity, stranger)
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        organizations = [
            await client.get(f"/v1/organizations/{org_id}")
            for org_id in (stranger.user.org_id, str(uuid.uuid4()), "not-a-uuid", "x" * 300)
        ]
        keys = [await client.delete(f"/v1/api-keys/{key_id}") for key_id in (foreign_key, 999_999, 10**18, 0)]
    for answers in (organizations, keys):
        assert {answer.status_code for answer in answers} == {404}
        assert all(_comparable(answer.json()) == _comparable(answers[0].json()) for answer in answers)
    async with facade.database.reading() as session:
        assert (await session.get_one(ApiKey, foreign_key)).revoked_at is None


async def test_a_key_is_made_shown_once_and_narrowed(facade: Facade, admin: Person) -> None:
    app = facade.build()
    body = {
        "name": "ci",
        "permissions": ["mcp:tools:call", "keys:read"],
        "tools": ["git__*"],
        "expires_at": "2030-01-01T00:00:00Z",
    }
    async with client_of(app, await facade.key_of(admin)) as client:
        answer = await client.post("/v1/api-keys", json=body)
        assert answer.status_code == 201
        made = answer.json()
        assert made["api_key"].startswith(made["prefix"] + "_")
        assert made["permissions"] == ["keys:read", "mcp:tools:call"]
        assert (made["tools"], made["expires_at"]) == (["git__*"], "2030-01-01T00:00:00Z")
    async with client_of(app, made["api_key"]) as narrowed:
        listed = await narrowed.get("/v1/api-keys")
        assert listed.json()["total"] == 2
        assert made["api_key"] not in listed.text
        assert (await narrowed.post("/v1/api-keys", json={"name": "x"})).status_code == 403
        assert (await narrowed.get("/v1/organizations")).status_code == 403
        assert (await narrowed.delete(f"/v1/api-keys/{made['id']}")).status_code == 403


@attack(13)
async def test_a_body_sets_only_what_it_may(facade: Facade, member: Person, stranger: Person) -> None:
    injected = {
        "org_id": stranger.user.org_id,
        "owner": stranger.user.id,
        "role": "admin",
        "is_operator": True,
        "id": 4711,
        "prefix": "mine",
        "secret_hash": "0" * 64,
        "created_at": "2001-01-01T00:00:00Z",
        "last_used_at": "2001-01-01T00:00:00Z",
        "revoked_at": None,
    }
    async with client_of(facade.build(), await facade.key_of(member)) as client:
        answer = await client.post("/v1/api-keys", json={"name": "x"} | injected)
        assert answer.status_code == 201
        made = answer.json()["id"]
    async with facade.database.reading() as session:
        stored = await session.get_one(ApiKey, made)
        assert (stored.org_id, stored.user_id) == (member.user.org_id, member.user.id)
        assert stored.id != 4711
        assert stored.prefix != "mine"
        assert stored.created_at == datetime(2026, 11, 22, 12, tzinfo=UTC)
        assert stored.last_used_at is None


async def test_paging_and_its_limits(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        for number in range(3):
            await client.post("/v1/api-keys", json={"name": f"key {number}"})
        page = (await client.get("/v1/api-keys", params={"limit": 2, "offset": 2})).json()
        assert [key["name"] for key in page["api_keys"]] == ["key 1", "key 2"]
        assert (page["total"], page["limit"], page["offset"]) == (4, 2, 2)
        for query in ({"limit": 0}, {"limit": 101}, {"offset": -1}, {"offset": 10**20}, {"limit": "x"}):
            assert (await client.get("/v1/api-keys", params=query)).status_code == 422


async def test_a_failed_request_leaves_nothing(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        assert (await client.post("/v1/api-keys", json={"name": "x", "permissions": ["nonsense"]})).status_code == 422
    async with facade.database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(ApiKey)) == 1
