"""Users, API keys, introspection and health, by the document; where `opssight.md` has the path too, by both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.covers import covers
from tests.contract.workspaces.conftest import Client
from tests.contract.workspaces.endpoints import USER
from tests.gateway.mcp.door import Door, opened
from tests.support.containers import MemoryRuntime
from tests.support.issuer import fake_issuer

LIST, ONE = "GET /api/v1/users", "GET /api/v1/users/{user_id}"
UPDATE, DEACTIVATE = "PUT /api/v1/users/{user_id}", "DELETE /api/v1/users/{user_id}"
KEYS, NEW_KEY, REVOKE = "GET /api/v1/api-keys", "POST /api/v1/api-keys", "DELETE /api/v1/api-keys/{key_id}"
INTROSPECT, HEALTH = "POST /api/v1/auth/introspect", "GET /api/v1/health"


@covers("GET /api/v1/users")
async def test_list_users(admin: Client, member: Client) -> None:
    found = await admin.ask(LIST)
    assert [user["username"] for user in found["data"]["users"]] == ["admin", "member"]
    assert found["meta"] == {"page": 1, "per_page": 20, "total": 2}
    # As the Operations API has it.
    assert [user["email"] for user in found["users"]] == ["admin@gatehouse.local", "member@acme.test"]
    assert (found["total"], found["skip"], found["limit"]) == (2, 0, 10)
    assert {"full_name", "avatar_url"} <= found["users"][0].keys()
    for query, names in (
        ("role=admin", ["admin"]),
        ("role=user", ["member"]),
        ("status=inactive", []),
        ("is_active=true&search=MEMB", ["member"]),
        ("page=2&per_page=1", ["member"]),
        ("skip=1&limit=1", ["member"]),
    ):
        page = await admin.ask(LIST, query=query)
        assert [user["username"] for user in page["data"]["users"]] == names, query
        assert [user["username"] for user in page["users"]] == names, query
    assert (await admin.ask(LIST, query="page=2&per_page=1"))["meta"] == {"page": 2, "per_page": 1, "total": 2}
    assert [user["username"] for user in (await member.ask(LIST))["data"]["users"]] == ["member"]
    for query in ("page=0", "per_page=101", "status=lost", "role=king", "skip=-1"):
        await admin.refused(LIST, 400, query=query)


@covers("GET /api/v1/users/{user_id}")
async def test_get_a_user(admin: Client, member: Client) -> None:
    made = (await member.ask("POST /api/v1/workspaces", {"name": "one"}))["data"]
    for client in (admin, member):
        found = await client.ask(ONE, user_id=member.user_id)
        assert [one["id"] for one in found["data"]["workspaces"]] == [made["id"]]
        assert [key["name"] for key in found["data"]["api_keys"]] == ["member's"]
        assert {name: found[name] for name in USER} == {name: found["data"][name] for name in USER}
        assert (found["github_id"], found["teams"]) == (None, [])
    await member.refused(ONE, 403, user_id=admin.user_id)
    for nobody in ("4711", "00000000-0000-0000-0000-000000000000"):
        assert (await admin.refused(ONE, 404, user_id=nobody))["detail"] == "User not found"


@covers("PUT /api/v1/users/{user_id}")
async def test_update_a_user(admin: Client, member: Client) -> None:
    changed = await admin.ask(UPDATE, {"role": "admin", "nexusgate_user_id": "uuid-here"}, user_id=member.user_id)
    assert (changed["data"]["role"], changed["data"]["nexusgate_user_id"]) == ("admin", "uuid-here")
    assert (changed["role"], changed["id"]) == ("admin", member.user_id)
    await admin.ask(UPDATE, {"role": "user", "nexusgate_user_id": None}, user_id=member.user_id)
    profile = {"full_name": "A Member", "email": "New@acme.test", "avatar_url": "https://acme.test/me.png"}
    own = await member.ask(UPDATE, profile, user_id=member.user_id)
    assert (own["full_name"], own["email"], own["username"]) == ("A Member", "new@acme.test", "new")
    assert own["nexusgate_user_id"] is None


@covers("PUT /api/v1/users/{user_id}", "POST /api/v1/api-keys", "POST /api/v1/workspaces")
async def test_an_admin_links_things_with_another_system_and_nobody_else_does(admin: Client, member: Client) -> None:
    linked = {"nexusgate_user_id": "u-1", "nexusgate_role": "owner"}
    await member.refused(UPDATE, 403, linked, user_id=member.user_id)
    found = (await admin.ask(UPDATE, linked, user_id=member.user_id))["data"]
    assert {name: found[name] for name in linked} == linked
    assert found["last_synced_at"] is None, "it was said here, and not read there"
    for client, status in ((member, 403), (admin, 201)):
        assert (await client.send(NEW_KEY, {"name": "linked", "nexusgate_token_id": "t-1"})).status == status
        wanted = {"name": "linked", "nexusgate_service_id": "s-1"}
        assert (await client.send("POST /api/v1/workspaces", wanted)).status == status
    keys = {key["name"]: key["nexusgate_token_id"] for key in (await admin.ask(KEYS))["data"]["api_keys"]}
    assert (keys["linked"], keys["member's"]) == ("t-1", None)
    (workspace,) = (await admin.ask("GET /api/v1/workspaces"))["data"]["workspaces"]
    assert workspace["nexusgate_service_id"] == "s-1"


@covers("GET /api/v1/users")
async def test_an_issuer_of_tokens_says_what_it_calls_those_who_come_by_it(
    runtime: MemoryRuntime, tmp_path: Path
) -> None:
    async with fake_issuer() as issuer:
        settings = {
            "jwt_issuers": (f"{issuer.url}|gate",),
            "oidc_role_claim": "groups",
            "oidc_roles": ("chiefs=admin",),
        }
        async with opened(tmp_path / "data", **settings) as door:
            claims = {"aud": "gate", "email": "ada@people.test", "email_verified": True, "groups": ["chiefs", "x"]}
            answer = await door.rest("GET", "/api/v1/users?search=ada", key=issuer.token(claims, typ="at+jwt"))
            (ada,) = answer.json()["data"]["users"]
    assert (ada["role"], ada["nexusgate_role"], ada["nexusgate_user_id"]) == ("admin", "chiefs, x", "ada")
    assert ada["last_synced_at"] == ada["updated_at"]


@covers("PUT /api/v1/users/{user_id}", "DELETE /api/v1/users/{user_id}")
async def test_changes_that_are_refused(admin: Client, member: Client, door: Door) -> None:
    await admin.refused(UPDATE, 403, {"role": "user"}, user_id=admin.user_id)
    await admin.refused(UPDATE, 403, {"is_active": False}, user_id=admin.user_id)
    await admin.refused(DEACTIVATE, 403, user_id=admin.user_id)
    await member.refused(UPDATE, 403, {"role": "admin"}, user_id=member.user_id)
    await member.refused(UPDATE, 403, {"full_name": "x"}, user_id=admin.user_id)
    await member.refused(DEACTIVATE, 403, user_id=admin.user_id)
    await admin.refused(UPDATE, 409, {"email": "admin@gatehouse.local"}, user_id=member.user_id)
    for bad in ({"role": "king"}, {"email": "nobody"}, {"is_active": "perhaps"}, {"avatar_url": "javascript:x"}):
        await admin.refused(UPDATE, 400, bad, user_id=member.user_id)
    await admin.refused(UPDATE, 404, {"role": "user"}, user_id="4711")
    await admin.refused(DEACTIVATE, 404, user_id="4711")
    # The agent's key is the admin's, but may do less.
    agent = Client(door, door.agent, admin.user_id)
    await agent.refused(UPDATE, 403, {"email": "taken@over.test"}, user_id=admin.user_id)


@covers("DELETE /api/v1/users/{user_id}")
async def test_deactivating_ends_access_and_stops_workspaces(
    admin: Client, member: Client, runtime: MemoryRuntime
) -> None:
    made = (await member.ask("POST /api/v1/workspaces", {"name": "one"}))["data"]
    await admin.settle()
    await admin.ask(DEACTIVATE, user_id=member.user_id)
    await member.refused(LIST, 401)
    await admin.door.app.workspaces.sweep.tick()
    await admin.settle()
    found = (await admin.ask("GET /api/v1/workspaces/{workspace_id}", workspace_id=made["id"]))["data"]
    assert (found["status"], found["container_status"]) == ("inactive", "stopped")
    assert [user["is_active"] for user in (await admin.ask(LIST))["data"]["users"]] == [True, False]
    assert (await admin.ask(LIST, query="status=inactive"))["meta"]["total"] == 1


@covers("PUT /api/v1/users/{user_id}")
async def test_the_last_admin_stays(admin: Client, member: Client) -> None:
    await admin.ask(UPDATE, {"role": "admin"}, user_id=member.user_id)
    # An operator's rights are not an admin's to take.
    await member.refused(UPDATE, 403, {"role": "user"}, user_id=admin.user_id)
    await admin.ask(UPDATE, {"is_active": False}, user_id=member.user_id)
    await member.refused(LIST, 401)


@covers("GET /api/v1/api-keys", "POST /api/v1/api-keys", "DELETE /api/v1/api-keys/{key_id}")
async def test_keys(admin: Client, member: Client, door: Door) -> None:
    made = (await member.ask(NEW_KEY, {"name": "My Application"}))["data"]
    assert made["api_key"].startswith(made["prefix"] + "_")
    assert made["warning"] == "This key will only be shown once. Store it securely."
    listed = await member.ask(KEYS)
    assert [key["name"] for key in listed["data"]["api_keys"]] == ["member's", "My Application"]
    assert listed["meta"] == {"page": 1, "per_page": 20, "total": 2}
    assert made["api_key"] not in str(listed)
    assert (await admin.ask(KEYS))["meta"]["total"] == 4
    page = await admin.ask(KEYS, query=f"user_id={member.user_id}&page=2&per_page=1")
    assert [key["name"] for key in page["data"]["api_keys"]] == ["My Application"]
    await Client(door, made["api_key"], member.user_id).ask(KEYS)
    await member.ask(REVOKE, key_id=made["id"])
    await Client(door, made["api_key"], member.user_id).refused(KEYS, 401)
    (admins, *_) = (await admin.ask(KEYS, query=f"user_id={admin.user_id}"))["data"]["api_keys"]
    await member.refused(REVOKE, 403, key_id=admins["id"])
    await member.refused(REVOKE, 404, key_id=4711)
    await member.refused(KEYS, 403, query=f"user_id={admin.user_id}")
    await member.refused(NEW_KEY, 403, {"name": "x", "user_id": admin.user_id})
    await admin.refused(NEW_KEY, 404, {"name": "x", "user_id": "4711"})
    await admin.refused(NEW_KEY, 400, {})


@covers("POST /api/v1/auth/introspect")
async def test_introspection(admin: Client, member: Client, door: Door) -> None:
    found = await admin.ask(INTROSPECT, {"token": door.admin})
    assert found == {
        "active": True,
        "sub": admin.user_id,
        "username": "admin",
        "role": "admin",
        "token_type": "api_key",
    }
    login = (await door.rest("POST", "/v1/auth/login", await _credentials(door))).json()
    for token, kind in ((login["access_token"], "jwt"), (login["session_id"], "session")):
        assert (await admin.ask(INTROSPECT, {"token": token}))["token_type"] == kind
    made = (await member.ask(NEW_KEY, {"name": "short-lived"}))["data"]
    assert (await admin.ask(INTROSPECT, {"token": made["api_key"]}))["sub"] == member.user_id
    await member.ask(REVOKE, key_id=made["id"])
    assert (await door.rest("POST", "/v1/auth/logout", {}, key=login["session_id"])).status in (200, 204)
    gone = (made["api_key"], login["session_id"])
    for nobody in (*gone, "mcp_abc123_xyz789", "x", "ä", "e30.e30.e30"):
        answer = await admin.send(INTROSPECT, {"token": nobody})
        assert (answer.status, answer.json()) == (200, {"active": False}), nobody
    await admin.refused(INTROSPECT, 400, {})


async def _credentials(door: Door) -> dict[str, str]:
    lines = (door.app.ground.settings.data_dir / "first-run.txt").read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines)
    return {"email": known["admin_email"], "password": known["admin_password"]}


@covers("POST /api/v1/auth/introspect")
async def test_introspection_with_a_secret(runtime: MemoryRuntime, tmp_path: Path) -> None:
    async with opened(tmp_path / "data", introspect_secret="a secret of the operator's") as door:
        body = b'{"token": "%b"}' % door.admin.encode()
        for given, status in ((None, 401), ("another", 401), ("a secret of the operator's", 200)):
            headers = {"Content-Type": "application/json"} | ({"X-Introspect-Secret": given} if given else {})
            assert (await door.send("POST", "/api/v1/auth/introspect", headers, body)).status == status


@covers("GET /api/v1/health")
async def test_health(admin: Client, runtime: MemoryRuntime) -> None:
    await admin.ask("POST /api/v1/workspaces", {"name": "one"})
    found = await admin.ask(HEALTH)
    assert (found["status"], found["workspaces"]) == ("healthy", {"total": 1, "active": 1})
    assert found["components"]["docker"] == {"status": "healthy", "version": "24.0.7", "message": None}
    runtime.down = True
    admin.door.app.workspaces.engine.forget()
    found = await admin.ask(HEALTH)
    assert (found["status"], found["components"]["docker"]["status"]) == ("degraded", "unavailable")
    assert "start Docker" in found["components"]["docker"]["message"]


@covers("GET /api/v1/health")
async def test_health_without_a_database(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: object) -> bool:
        return False

    monkeypatch.setattr("registry.health.service.HealthService._database_answers", silent)
    answer = await admin.send(HEALTH)
    assert (answer.status, answer.json()["status"]) == (503, "unhealthy")
