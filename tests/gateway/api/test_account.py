"""Login sessions over REST: they slide, refresh, end, have a second factor, and count for our own pages alone."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pyotp

from tests.gateway.api.support import URL, Facade, client_of
from tests.support.attacks import attack
from tests.support.identity import PASSWORD, Person

LOGIN = {"email": "admin@acme.test", "password": PASSWORD}


async def log_in(client: httpx2.AsyncClient, **more: str) -> dict[str, Any]:
    answer = await client.post("/v1/auth/login", json=LOGIN | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def opens(client: httpx2.AsyncClient, **headers: str) -> bool:
    return (await client.get("/v1/auth/me", headers=headers)).status_code == 200


async def settled() -> None:
    """Lets what was begun in the background come to its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_session_lasts_as_long_as_it_is_used_and_no_longer_than_its_life(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        session = {"X-Session-ID": made["session_id"]}
        for _ in range(5):
            facade.clock.advance(11 * 3600)
            assert await opens(client, **session)
            await settled()
        facade.clock.advance(12 * 3600)
        assert not await opens(client, **session)
        made = await log_in(client)
        session = {"X-Session-ID": made["session_id"]}
        used = 0
        while await opens(client, **session):
            await settled()
            facade.clock.advance(10 * 3600)
            used += 1
        assert used == 72, "thirty days"


@attack(21)
async def test_refresh_tokens_rotate_and_a_replay_ends_the_session(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": made["refresh_token"]})
        assert answer.status_code == 200
        following = answer.json()
        assert await opens(client, Authorization=f"Bearer {following['access_token']}")
        replayed = await client.post("/v1/auth/refresh", json={"refresh_token": made["refresh_token"]})
        assert replayed.status_code == 401
        for token in (made["access_token"], following["access_token"], made["session_id"]):
            assert not await opens(client, Authorization=f"Bearer {token}")
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": following["refresh_token"]})
        assert answer.status_code == 401
        for token in ("grt_unknown", made["access_token"], "x"):
            assert (await client.post("/v1/auth/refresh", json={"refresh_token": token})).status_code == 401


@attack(21)
async def test_twenty_refreshes_at_once_have_one_successor(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        body = {"refresh_token": made["refresh_token"]}
        answers = await asyncio.gather(*(client.post("/v1/auth/refresh", json=body) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
        assert not await opens(client, **{"X-Session-ID": made["session_id"]})


@attack(21)
async def test_a_refresh_token_opens_no_door(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        assert not await opens(client, Authorization=f"Bearer {made['refresh_token']}")


async def test_logging_out_ends_all_of_it_at_once(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made, other = await log_in(client), await log_in(client)
        bearer = {"Authorization": f"Bearer {made['access_token']}"}
        assert await opens(client, **bearer)
        assert (await client.post("/v1/auth/logout", headers=bearer)).status_code == 200
        assert not await opens(client, **bearer)
        assert not await opens(client, **{"X-Session-ID": made["session_id"]})
        valid = await client.post("/v1/auth/validate", json={"session_id": made["session_id"]})
        assert valid.json() == {"valid": False}
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": made["refresh_token"]})
        assert answer.status_code == 401
        assert await opens(client, **{"X-Session-ID": other["session_id"]})


@attack(19)
async def test_an_ended_session_is_refused_by_another_process_within_a_second(facade: Facade, admin: Person) -> None:
    other = Facade(facade.database, type(facade.events)(), facade.clock, facade.data_dir)
    async with client_of(facade.build()) as client, client_of(other.build()) as elsewhere:
        session = {"X-Session-ID": (await log_in(client))["session_id"]}
        assert await opens(elsewhere, **session)
        await client.post("/v1/auth/logout", headers=session)
        facade.clock.advance(1)
        assert not await opens(elsewhere, **session)
    await other.authenticator.close()


@attack(12)
async def test_a_cookie_counts_for_pages_of_this_gateway_alone(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        cookie = {"Cookie": f"gatehouse_session={made['session_id']}"}
        assert await opens(client, **cookie)
        body = {"name": "mine"}
        foreign: list[dict[str, str]] = [
            {},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "http://localhost:1"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site", "Origin": URL},
        ]
        for headers in foreign:
            answer = await client.post("/v1/api-keys", json=body, headers=cookie | headers)
            assert answer.status_code == 403, headers
        for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": URL}):
            answer = await client.post("/v1/api-keys", json=body, headers=cookie | headers)
            assert answer.status_code == 201, headers
        # A form of another site cannot set headers of its own; who can, is no form.
        answer = await client.post("/v1/api-keys", json=body, headers={"X-Session-ID": made["session_id"]})
        assert answer.status_code == 201


@attack(12)
async def test_no_origin_is_told_that_it_may_read(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await client.options("/v1/api-keys", headers=asks)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.status_code == 403


async def test_the_user_model(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        made = await log_in(client)
        body = (await client.get("/v1/auth/me", headers={"X-Session-ID": made["session_id"]})).json()
    assert body["id"] == admin.user.id
    assert (body["email"], body["org_name"], body["roles"]) == ("admin@acme.test", "Acme", ["admin"])
    assert "mcp:servers:create" in body["permissions"]
    assert body["last_login_at"]


async def test_a_second_factor_is_asked_for_once_confirmed(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        session = {"X-Session-ID": (await log_in(client))["session_id"]}
        enrolled = (await client.post("/v1/auth/second-factor", headers=session)).json()
        totp = pyotp.TOTP(enrolled["secret"])
        assert enrolled["uri"].startswith("otpauth://totp/Gatehouse:admin%40acme.test?")
        await log_in(client)  # not confirmed yet
        wrong = await client.post("/v1/auth/second-factor/confirm", json={"code": "000000"}, headers=session)
        assert wrong.status_code == 422
        code = totp.at(facade.clock.now())
        answer = await client.post("/v1/auth/second-factor/confirm", json={"code": code}, headers=session)
        recovery = answer.json()["recovery_codes"]
        assert len(set(recovery)) == 10

        refused = await client.post("/v1/auth/login", json=LOGIN)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "SECOND_FACTOR_REQUIRED")
        # The code that confirmed it was used by that.
        assert (await client.post("/v1/auth/login", json=LOGIN | {"code": code})).status_code == 401
        facade.clock.advance(30)
        code = totp.at(facade.clock.now())
        wrong_password = LOGIN | {"password": "wrong", "code": code}
        assert (await client.post("/v1/auth/login", json=wrong_password)).json()["error"]["code"] != (
            "SECOND_FACTOR_REQUIRED"
        )
        await log_in(client, code=code)
        assert (await client.post("/v1/auth/login", json=LOGIN | {"code": code})).status_code == 401
        await log_in(client, code=recovery[0].upper())
        assert (await client.post("/v1/auth/login", json=LOGIN | {"code": recovery[0]})).status_code == 401


async def test_guessing_codes_is_stopped(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build()) as client:
        session = {"X-Session-ID": (await log_in(client))["session_id"]}
        totp = pyotp.TOTP((await client.post("/v1/auth/second-factor", headers=session)).json()["secret"])
        body = {"code": totp.at(facade.clock.now())}
        assert (await client.post("/v1/auth/second-factor/confirm", json=body, headers=session)).status_code == 200
        facade.clock.advance(60)
        for _ in range(5):
            assert (await client.post("/v1/auth/login", json=LOGIN | {"code": "00000"})).status_code == 401
        right = {"code": totp.at(facade.clock.now())}
        assert (await client.post("/v1/auth/login", json=LOGIN | right)).status_code == 401
        facade.clock.advance(301)
        await log_in(client, code=totp.at(facade.clock.now()))


async def test_a_second_factor_is_changed_in_person_only(facade: Facade, admin: Person) -> None:
    key = await facade.key_of(admin)
    async with client_of(facade.build()) as client:
        by_key = {"Authorization": f"Bearer {key}"}
        assert (await client.post("/v1/auth/second-factor", headers=by_key)).status_code == 403
        session = {"X-Session-ID": (await log_in(client))["session_id"]}
        totp = pyotp.TOTP((await client.post("/v1/auth/second-factor", headers=session)).json()["secret"])
        body = {"code": totp.at(facade.clock.now())}
        await client.post("/v1/auth/second-factor/confirm", json=body, headers=session)
        assert (await client.post("/v1/auth/second-factor", headers=session)).status_code == 409
        facade.clock.advance(30)
        wrong = await client.post("/v1/auth/second-factor/remove", json={"code": "1"}, headers=session)
        assert wrong.status_code == 401
        body = {"code": totp.at(facade.clock.now())}
        assert (await client.post("/v1/auth/second-factor/remove", json=body, headers=session)).status_code == 200
        await log_in(client)
