"""Accounts at servers: the gateway's own, people's own, renewed in time, never mixed, never the caller's token."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import update

from registry.accounts.finding import CLIENT_PATH
from registry.accounts.models import ServerAccount
from tests.gateway.auth.browser import Browser, Page, admin_of, browser
from tests.gateway.conftest import Running
from tests.gateway.mcp.guarded import Guarded, guarded
from tests.support.attacks import attack
from tests.support.running import running_gateway

CALLBACK = "/v1/mcp/connect/callback"


async def call(gateway: Running, tool: str, key: str | None = None) -> tuple[bool, str]:
    """Whether the call was answered, and what was said."""
    status, body = await gateway.rest("POST", f"/v1/tools/{tool}", {}, key=key)
    text = str(body)
    return status == 200, text


async def registered(gateway: Running, server: Guarded, **login: Any) -> str:
    """The id of a server with this login."""
    made = await gateway.register("Guarded", base_url=server.url)
    status, body = await gateway.rest("PUT", f"/v1/mcp/servers/{made['id']}/login", login)
    assert status == 200, body
    assert "whisper" not in str(body)
    return made["id"]


async def discovered(gateway: Running, server_id: str) -> None:
    status, body = await gateway.rest("POST", f"/v1/mcp/servers/{server_id}/capabilities/discover")
    assert status == 200, body
    assert "who" in body["capabilities"]["tools"], body


async def sent(person: Browser, server_id: str, server: Guarded) -> dict[str, str]:
    """The parameters with which a person is sent to the server's issuer."""
    page = await person.open(f"/v1/mcp/servers/{server_id}/connect")
    assert page.url.startswith(server.url.removesuffix("mcp") + "authorize?"), page
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def back(person: Browser, **answer: str) -> Page:
    return await person.open(f"{CALLBACK}?{urlencode(answer)}")


@attack(16)
async def test_the_gateway_has_an_account_of_its_own(gateway: Running) -> None:
    async with guarded() as server:
        issuer = server.url.removesuffix("/mcp")
        login = {"kind": "client_credentials", "issuer": issuer, "client_id": "here", "client_secret": "whisper"}
        server_id = await registered(gateway, server, **login)
        await discovered(gateway, server_id)
        answered, said = await call(gateway, "guarded__who", gateway.agent_key)
        assert (answered, "the gateway" in said) == (True, True), said
        assert server.forms[0]["resource"] == server.url
        assert len(server.forms) == 1, "one token serves all calls"
        # A token near its end is renewed before it is used.
        server.lifetime = 10
        server.tokens.clear()
        await gateway.rest("PUT", f"/v1/mcp/servers/{server_id}/login", login | {"client_id": "other"})
        assert (await call(gateway, "guarded__who"))[0]
        assert (await call(gateway, "guarded__who"))[0]
        assert all(gateway.key not in str(seen) and gateway.agent_key not in str(seen) for seen in server.seen)
        status, _ = await gateway.rest("DELETE", f"/v1/mcp/servers/{server_id}/login")
        assert status == 204
        status, _ = await gateway.rest("GET", f"/v1/mcp/servers/{server_id}/login")
        assert status == 404


@attack(16)
async def test_a_person_connects_an_account_once(gateway: Running, tmp_path: Path) -> None:
    async with guarded() as server, browser(gateway.url) as person, browser(gateway.url) as stranger:
        server_id = await registered(gateway, server, kind="authorization_code")
        answered, said = await call(gateway, "guarded__who")
        page = await person.open(f"/v1/mcp/servers/{server_id}/connect")
        assert page.url.startswith(f"{gateway.url}/login?next=/v1/mcp/servers/")
        await person.sign_in(*admin_of(tmp_path / "data"))
        wanted = await sent(person, server_id, server)
        assert (wanted["code_challenge_method"], wanted["resource"]) == ("S256", server.url)
        issuer = server.url.removesuffix("/mcp")
        good = {"code": "code-of-ada", "state": wanted["state"], "iss": issuer}
        assert (await back(stranger, **good)).status == 401
        assert (await back(person, **good)).status == 200
        assert server.forms[0]["redirect_uri"] == gateway.url + CALLBACK
        assert (await back(person, **good)).status == 403, "a state serves once"
        for wrong in ({"iss": "http://evil.example"}, {"iss": None}, {"code": None, "error": "access_denied"}):
            again = await sent(person, server_id, server)
            answer = good | {"state": again["state"]} | wrong
            assert (await back(person, **{k: v for k, v in answer.items() if v is not None})).status == 403
        await discovered(gateway, server_id)
        answered, said = await call(gateway, "guarded__who")
        assert (answered, "ada" in said) == (True, True), said
        # Somebody else in the organisation has no account, and does not get this one.
        status, body = await gateway.rest("GET", f"/v1/mcp/servers/{server_id}/login")
        assert (body["connected"], body["issuer"]) == (True, issuer)
        # The token is over: it is renewed with the refresh token, which serves once.
        server.tokens.clear()
        service = gateway.application._services.accounts
        async with gateway.application.database.transaction() as session:
            await session.execute(update(ServerAccount).values(expires_at=gateway.application.ground.clock.now()))
        service._read.clear()
        calls = await asyncio.gather(*(call(gateway, "guarded__who") for _ in range(10)))
        assert all(answered and "ada" in said for answered, said in calls), calls
        assert len([form for form in server.forms if form["grant_type"] == "refresh_token"]) == 1
        status, _ = await gateway.rest("DELETE", f"/v1/mcp/servers/{server_id}/account")
        assert status == 204
        answered, said = await call(gateway, "guarded__who")
        assert not answered
        assert f"/v1/mcp/servers/{server_id}/connect" in said


@attack(16)
async def test_two_people_bring_headers_and_each_sees_only_their_own(gateway: Running) -> None:
    async with guarded() as server:
        ada, grace = server.issue("ada")["access_token"], server.issue("grace")["access_token"]
        server_id = await registered(gateway, server, kind="static")
        path = f"/v1/mcp/servers/{server_id}/account"
        for bad in ({"Host": "x"}, {"X\r\nY": "x"}, {"X": "a\r\nb"}, {"Mcp-Session-Id": "x"}, {"Content-Length": "0"}):
            status, _ = await gateway.rest("PUT", path, {"headers": bad})
            assert status == 422, bad
        status, _ = await gateway.rest("PUT", path, {"headers": {"Authorization": f"Bearer {ada}"}})
        assert status == 204
        await discovered(gateway, server_id)
        # Another person, as the registry knows them.
        service = gateway.application._services.accounts
        me = (await gateway.rest("GET", "/v1/auth/me"))[1]["id"]
        assert dict(await service.headers(server_id, me)) == {"Authorization": f"Bearer {ada}"}
        with pytest.raises(Exception, match="brought no account"):
            await service.headers(server_id, "00000000-0000-0000-0000-000000000001")
        assert grace not in str(await service.headers(server_id, me))
        text = (tmp := gateway.application.ground.settings.data_dir / "gatehouse.db").read_bytes()
        wal = tmp.with_name("gatehouse.db-wal")
        stored = text + (wal.read_bytes() if wal.exists() else b"")
        assert ada.encode() not in stored


async def test_a_private_key_stands_in_the_place_of_a_secret(gateway: Running) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with guarded() as server:
        made = await gateway.register("Guarded", base_url=server.url)
        path = f"/v1/mcp/servers/{made['id']}/login"
        login = {"kind": "client_credentials", "issuer": server.url.removesuffix("/mcp"), "client_id": "here"}
        for wrong in ({"client_id": None}, {"client_secret": "whisper"}, {"kind": "static"}, {"private_key": "none"}):
            status, said = await gateway.rest("PUT", path, login | {"private_key": key} | wrong)
            assert (status, "private_key" in str(said)) == (422, True), wrong
            assert key not in str(said)
        status, said = await gateway.rest("PUT", path, login | {"private_key": key})
        assert (status, "PRIVATE" in str(said)) == (200, False)
        await call(gateway, "guarded__who")
        await gateway.rest("POST", f"/v1/mcp/servers/{made['id']}/capabilities/discover")
        shown = server.forms[0]
        assert (shown["client_id"], shown["grant_type"], "client_secret" in shown) == (
            "here",
            "client_credentials",
            False,
        )
        assert "PRIVATE" not in str(server.forms)
        stored = gateway.application.ground.settings.data_dir / "gatehouse.db"
        written = b"".join(each.read_bytes() for each in stored.parent.glob("gatehouse.db*"))
        assert key.splitlines()[1].encode() not in written


async def test_a_token_that_was_revoked_is_renewed_and_the_call_repeated(gateway: Running) -> None:
    async with guarded() as server:
        login = {"kind": "client_credentials", "issuer": server.url.removesuffix("/mcp")}
        server_id = await registered(gateway, server, **login, client_id="here", client_secret="whisper")
        assert (await discovered(gateway, server_id)) is None
        assert (await call(gateway, "guarded__who"))[0]
        # Its end is far away, but the server knows nothing of it any more.
        server.tokens.clear()
        answered, said = await call(gateway, "guarded__who")
        assert (answered, len(server.forms)) == (False, 1), "one as new as this is not asked for again"
        assert "refused the gateway's credentials (HTTP 401)" in said
        await grown_older(gateway)
        calls = await asyncio.gather(*(call(gateway, "guarded__who") for _ in range(5)))
        assert all(answered and "the gateway" in said for answered, said in calls), calls
        assert len(server.forms) == 2, "one renewal serves all"


async def test_a_token_that_was_renewed_while_it_was_read_is_read_again(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded() as server:
        login = {"kind": "client_credentials", "issuer": server.url.removesuffix("/mcp")}
        server_id = await registered(gateway, server, **login, client_id="here", client_secret="whisper")
        await discovered(gateway, server_id)
        assert (await call(gateway, "guarded__who"))[0]
        service = gateway.application._services.accounts
        find, begun, go_on = service._find, asyncio.Event(), asyncio.Event()

        async def slowly(server_id: str, user_id: str | None) -> Any:
            found = await find(server_id, user_id)
            if not begun.is_set():
                begun.set()
                await go_on.wait()
            return found

        monkeypatch.setattr(service, "_find", slowly)
        reading = asyncio.create_task(service.headers(server_id, None))
        await begun.wait()
        server.tokens.clear()
        await grown_older(gateway)
        answered, said = await call(gateway, "guarded__who")
        assert answered, said
        go_on.set()
        ((_, shown),) = await reading
        assert shown.removeprefix("Bearer ") in server.tokens


async def test_an_account_that_cannot_be_renewed_is_said_to_be_over(gateway: Running, tmp_path: Path) -> None:
    async with guarded() as server, browser(gateway.url) as person:
        server_id = await registered(gateway, server, kind="authorization_code")
        await person.sign_in(*admin_of(tmp_path / "data"))
        wanted = await sent(person, server_id, server)
        issuer = server.url.removesuffix("/mcp")
        assert (await back(person, code="code-of-ada", state=wanted["state"], iss=issuer)).status == 200
        await discovered(gateway, server_id)
        assert (await call(gateway, "guarded__who"))[0]
        server.tokens.clear()
        server.refresh.clear()
        await grown_older(gateway)
        requests = len(server.forms)
        for _ in range(2):
            answered, said = await call(gateway, "guarded__who")
            assert (answered, f"/v1/mcp/servers/{server_id}/connect" in said) == (False, True), said
        assert [form["grant_type"] for form in server.forms[requests:]] == ["refresh_token"] * 2
        wanted = await sent(person, server_id, server)
        assert (await back(person, code="code-of-ada", state=wanted["state"], iss=issuer)).status == 200
        assert (await call(gateway, "guarded__who"))[0]


async def grown_older(gateway: Running) -> None:
    """All accounts, by an hour."""
    application = gateway.application
    before = application.ground.clock.now() - timedelta(hours=1)
    async with application.database.transaction() as session:
        await session.execute(update(ServerAccount).values(updated_at=before))


@pytest.mark.requirement("auth.client-document")
async def test_the_gateway_has_a_document_as_a_client(tmp_path: Path) -> None:
    own = "https://gateway.example"
    settings = {"public_url": own, "egress_allow": ["127.0.0.0/8"], "allowed_hosts": ["127.0.0.1"]}
    async with running_gateway(tmp_path / "public", **settings) as gateway, guarded() as server:
        server.metadata = {"client_id_metadata_document_supported": True}
        made = await gateway.register("Guarded", base_url=server.url)
        path = f"/v1/mcp/servers/{made['id']}/login"
        status, login = await gateway.rest("PUT", path, {"kind": "authorization_code"})
        assert (status, login["client_id"]) == (200, f"{own}{CLIENT_PATH}")
        status, document = await gateway.rest("GET", CLIENT_PATH)
        assert status == 200
        assert document["client_id"] == login["client_id"]
        assert document["redirect_uris"] == [own + CALLBACK]
        assert "refresh_token" in document["grant_types"]
        assert document["token_endpoint_auth_method"] == "none"


async def test_issuers_that_are_not_what_they_say_are_refused(gateway: Running) -> None:
    async with guarded() as server:
        made = await gateway.register("Guarded", base_url=server.url)
        path = f"/v1/mcp/servers/{made['id']}/login"
        server.issuer = "http://evil.example"
        status, _ = await gateway.rest("PUT", path, {"kind": "authorization_code"})
        assert status == 502
        status, _ = await gateway.rest("PUT", path, {"kind": "authorization_code"}, key=gateway.agent_key)
        assert status == 403
