"""Login, validation and the permission check, as the Registry API describes them."""

from __future__ import annotations

import jwt
import pytest

from tests.gateway.api.support import Facade, client_of
from tests.support.identity import PASSWORD, Person

LOGIN = {"email": "admin@acme.test", "password": PASSWORD}


async def test_a_login_gives_a_token_and_a_session_that_both_open(facade: Facade, admin: Person) -> None:
    app = facade.build()
    async with client_of(app) as client:
        answer = await client.post("/v1/auth/login", json=LOGIN)
        assert answer.status_code == 200
        body = answer.json()
        user = {
            "user_id": admin.user.id,
            "org_id": admin.user.org_id,
            "email": "admin@acme.test",
            "roles": ["admin"],
        }
        assert body.keys() >= {"access_token", "token_type", "session_id", "user"}
        assert (body["token_type"], body["user"]) == ("bearer", user)
        claims = jwt.decode(body["access_token"], options={"verify_signature": False})
        assert (claims["sub"], claims["org"], claims["role"]) == (admin.user.id, admin.user.org_id, "admin")
        valid = await client.post("/v1/auth/validate", json={"session_id": body["session_id"]})
        assert valid.json() == {"valid": True, "user": user}
        for headers in (
            {"Authorization": f"Bearer {body['access_token']}"},
            {"X-Session-ID": body["session_id"]},
            {"Cookie": f"gatehouse_session={body['session_id']}"},
        ):
            assert (await client.get("/v1/organizations", headers=headers)).status_code == 200


async def test_logins_do_not_wait_for_each_other_s_passwords(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client, facade.database.transaction() as held:
        # Somebody writes meanwhile; on SQLite that excludes other writers, but a wrong password needs none.
        await held.connection()
        answer = await client.post("/v1/auth/login", json=LOGIN | {"password": "wrong"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [LOGIN | {"password": "wrong"}, LOGIN | {"email": "nobody@acme.test"}, LOGIN | {"email": "x"}]
)
async def test_a_failed_login_does_not_say_why(facade: Facade, admin: Person, body: dict[str, str]) -> None:
    async with client_of(facade.build()) as client:
        answer = await client.post("/v1/auth/login", json=body)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "Email or password is wrong."
    assert answer.json()["error"]["code"] == "AUTHENTICATION_REQUIRED"


async def test_validation_of_keys_and_sessions_answers_200_either_way(facade: Facade, admin: Person) -> None:
    key = await facade.key_of(admin)
    async with client_of(facade.build()) as client:
        answer = await client.post("/v1/auth/api-key/validate", json={"api_key": key})
        assert answer.json()["valid"] is True
        assert answer.json()["user"]["user_id"] == admin.user.id
        for bad in ("", "x", key + "x", "mcp_aaaaaaaa_" + "b" * 43, "mcp_ключ_" + "я" * 40, "ses_x"):
            answer = await client.post("/v1/auth/api-key/validate", json={"api_key": bad})
            assert (answer.status_code, answer.json()) == (200, {"valid": False})
        for bad in ("", "session-123", "ses_" + "x" * 43, key):
            answer = await client.post("/v1/auth/validate", json={"session_id": bad})
            assert (answer.status_code, answer.json()) == (200, {"valid": False})


async def test_the_permission_check_names_what_is_missing(facade: Facade, member: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(member)) as client:
        answer = await client.post("/v1/auth/permissions/check", json={"permissions": ["mcp:servers:read"]})
        assert answer.json() == {"has_permissions": True, "missing_permissions": []}
        wanted = ["users:manage", "mcp:servers:read", "no:such"]
        answer = await client.post("/v1/auth/permissions/check", json={"permissions": wanted})
        assert answer.json() == {"has_permissions": False, "missing_permissions": ["users:manage", "no:such"]}


async def test_a_revoked_key_is_refused_by_the_next_request(facade: Facade, admin: Person) -> None:
    app = facade.build()
    key = await facade.key_of(admin)
    async with client_of(app, key) as client, client_of(app, await facade.key_of(admin)) as other:
        listed = (await client.get("/v1/api-keys")).json()["api_keys"]
        assert (await other.delete(f"/v1/api-keys/{listed[0]['id']}")).status_code == 204
        assert (await client.get("/v1/api-keys")).status_code == 401
        validity = await other.post("/v1/auth/api-key/validate", json={"api_key": key})
        assert validity.json() == {"valid": False}
