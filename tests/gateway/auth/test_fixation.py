"""Sessions that were planted in a browser beforehand, and places in another's lists."""

from __future__ import annotations

import asyncio
from pathlib import Path

from yarl import URL

from gateway.auth.credentials import SECURE_SESSION_COOKIE, SESSION_COOKIE
from tests.contract.registry.client import Client
from tests.gateway.auth.browser import Browser, admin_of, browser
from tests.gateway.mcp.door import HOST, opened
from tests.support.attacks import attack
from tests.support.identity import add_key, add_organization, add_user
from tests.support.running import Running, running_gateway

SECURE = "https://gate.example"


def plant(person: Browser, value: str) -> None:
    person.http.cookie_jar.update_cookies({SESSION_COOKIE: value}, URL(person.base))


async def opened_by(gateway: Running, session_id: str) -> str | None:
    """Whose session it is."""
    headers = {"X-Session-ID": session_id}
    async with gateway.http.get(f"{gateway.url}/v1/auth/me", headers=headers) as answer:
        return (await answer.json())["email"] if answer.status == 200 else None


async def another(gateway: Running, email: str, password: str) -> None:
    """Adds a person of the same organisation."""
    application = gateway.application
    org_id = (await gateway.rest("GET", "/v1/auth/me"))[1]["org_id"]
    await add_user(application.database, application.ground.clock, org_id, email, password=password)


@attack(19)
async def test_a_session_that_was_there_before_is_not_the_one_that_is_signed_in(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        email, password = admin_of(tmp_path / "data")
        await another(gateway, "mallory@acme.test", "mallory's own words")
        async with browser(gateway.url) as mallory:
            await mallory.sign_in("mallory@acme.test", "mallory's own words")
            hers = mallory.cookies[SESSION_COOKIE]
        assert await opened_by(gateway, hers) == "mallory@acme.test"
        for planted in ("chosen-by-mallory", "ses_" + "a" * 43, hers):
            async with browser(gateway.url) as victim:
                plant(victim, planted)
                assert (await victim.sign_in(email, password)).status == 200
                given = victim.cookies[SESSION_COOKIE]
                assert given != planted
                assert await opened_by(gateway, given) == email
                assert await opened_by(gateway, planted) is None
                # Each sign-in has a session of its own, and ends the one before it.
                await victim.sign_in(email, password)
                assert victim.cookies[SESSION_COOKIE] != given
                assert await opened_by(gateway, given) is None
                last = victim.cookies[SESSION_COOKIE]
                await victim.submit("/logout", {})
                assert await opened_by(gateway, last) is None


@attack(12, 19)
async def test_over_https_the_cookie_is_bound_to_its_host(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "data", public_url=SECURE) as gateway:
        email, password = admin_of(tmp_path / "data")
        fields = {"email": email, "password": password, "next": "/docs"}
        headers = {"Host": "gate.example", "Sec-Fetch-Site": "same-origin"}
        async with gateway.http.post(
            f"{gateway.url}/login", data=fields, headers=headers, allow_redirects=False
        ) as answer:
            (cookie,) = answer.headers.getall("Set-Cookie")
        name, _, rest = cookie.partition("=")
        value, *attributes = [part.strip().lower() for part in rest.split(";")]
        assert name == SECURE_SESSION_COOKIE
        assert {"secure", "httponly", "path=/", "samesite=lax"} == set(attributes)
        # A sibling of the host can plant the plain one beside it: it does not count.
        both = f"{SESSION_COOKIE}=ses_planted; {SECURE_SESSION_COOKIE}={rest.partition(';')[0]}"
        for cookies in (both, "; ".join(reversed(both.split("; ")))):
            sent = {"Host": "gate.example", "Cookie": cookies}
            async with gateway.http.get(f"{gateway.url}/v1/auth/me", headers=sent) as answer:
                assert (answer.status, (await answer.json())["email"]) == (200, email)
        assert value


@attack(12)
async def test_no_form_of_the_sign_in_pages_is_taken_from_another_site(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        email, password = admin_of(tmp_path / "data")
        async with browser(gateway.url) as person:
            await person.sign_in(email, password)
            session = person.cookies[SESSION_COOKIE]
            for site in ("cross-site", "same-site", "none"):
                for path in ("/login", "/login/code", "/logout", "/oauth/consent"):
                    page = await person.submit(path, {"email": email, "password": password}, site=site)
                    assert page.status == 403, (site, path)
                    assert page.headers["X-Frame-Options"] == "DENY"
                    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
                    assert not [name for name in page.headers if name.lower().startswith("access-control")]
            assert await opened_by(gateway, session) == email


@attack(12)
async def test_no_socket_is_opened_for_a_page_of_another_site(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as door:
        made = await door.rest("POST", "/v1/mcp/servers", {"name": "Nobody", "base_url": "http://127.0.0.1:9/mcp"})
        client, server_id = Client(door), made.json()["id"]
        email, password = admin_of(tmp_path / "data")
        login = await door.rest("POST", "/v1/auth/login", {"email": email, "password": password})
        cookie = f"{SESSION_COOKIE}={login.json()['session_id']}"
        for origin in ("http://evil.example", "null"):
            async with client.socket(server_id, "", cookie=cookie, origin=origin) as socket, asyncio.timeout(30):
                assert await socket.get() == {"type": "websocket.close", "code": 1008}
        # A page at another port of this machine is of another site as well; so is one that does not say.
        for headers in ({"origin": "http://localhost:1"}, {"origin": "http://127.0.0.1:1"}, {}):
            async with client.socket(server_id, "", cookie=cookie, **headers) as socket, asyncio.timeout(30):
                assert await client.closed(socket) == 4401, headers
        async with client.socket(server_id, "", cookie=cookie, origin=f"http://{HOST}") as socket:
            assert (await client.update(socket))["server_id"] == server_id


@attack(19)
async def test_a_cursor_of_anothers_leads_through_ones_own_list_alone(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        application = gateway.application
        await another(gateway, "bob@acme.test", "bob's own words")
        for number in range(4):
            await gateway.rest("POST", "/v1/api-keys", {"name": f"key {number}"})
        _, first = await gateway.rest("GET", "/v1/audit?limit=2")
        cursor = first["next_cursor"]
        assert cursor
        mine, clock = application.database, application.ground.clock
        stranger = await add_user(mine, clock, await _other(gateway), "eve@other.test", role="admin")
        _, key = await add_key(mine, application._services.identity, stranger)
        status, found = await gateway.rest("GET", f"/v1/audit?limit=50&cursor={cursor}", key=key)
        org_id = (await gateway.rest("GET", "/v1/auth/me"))[1]["org_id"]
        assert status == 200
        assert org_id not in str(found)


async def _other(gateway: Running) -> str:
    return await add_organization(gateway.application.database, gateway.application.ground.clock, "other")
