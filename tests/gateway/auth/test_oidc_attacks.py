"""What comes back from an identity provider and must not be believed; and tokens of other issuers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.gateway.auth.browser import Browser, Page, browser
from tests.support.attacks import attack
from tests.support.issuer import FakeIssuer, fake_issuer, new_key
from tests.support.running import Running, running_gateway

CALLBACK = "/v1/auth/oidc/callback"
AUDIENCE = "https://gatehouse.example/api"


@dataclass
class Scene:
    gateway: Running
    issuer: FakeIssuer
    claims: dict[str, Any] = field(default_factory=dict)

    async def sent(self, person: Browser) -> dict[str, str]:
        """The parameters with which a browser is sent to the provider."""
        page = await person.open("/v1/auth/oidc/login?next=/v1/auth/me")
        assert page.url.startswith(f"{self.issuer.url}/authorize"), page
        wanted = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
        assert wanted["redirect_uri"] == self.gateway.url + CALLBACK
        assert wanted["code_challenge_method"] == "S256"
        # What an honest provider would say, unless the test says otherwise.
        honest = {
            "aud": "gatehouse",
            "nonce": wanted["nonce"],
            "email": "ada@people.test",
            "email_verified": True,
            "name": "Ada",
        }
        self.issuer.answer = lambda _form: honest | self.claims
        return wanted

    async def back(self, person: Browser, **answer: str) -> Page:
        return await person.open(f"{CALLBACK}?{urlencode(answer)}")

    async def outcome(self, **claims: Any) -> Page:
        """How a sign-in ends whose id token has these claims."""
        self.claims = claims
        async with browser(self.gateway.url) as person:
            wanted = await self.sent(person)
            return await self.back(person, code="c", state=wanted["state"])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with fake_issuer() as issuer:
        settings = {
            "oidc_issuer": issuer.url,
            "oidc_client_id": "gatehouse",
            "oidc_client_secret": "s",
            "jwt_issuers": (f"{issuer.url}|{AUDIENCE}",),
        }
        async with running_gateway(tmp_path / "data", **settings) as gateway:
            yield Scene(gateway, issuer)


def refused(page: Page, code: str = "OIDC_LOGIN_FAILED") -> bool:
    return "/login?failed=" in page.url and page.query["failed"] == code


@attack(20)
async def test_an_answer_serves_once_and_in_the_browser_that_was_sent(scene: Scene) -> None:
    assert (await scene.outcome()).status == 200
    async with browser(scene.gateway.url) as person, browser(scene.gateway.url) as mallory:
        wanted = await scene.sent(person)
        # Mallory's own code and state in the victim's browser, and the victim's in Mallory's.
        hers = await scene.sent(mallory)
        assert refused(await scene.back(person, code="hers", state=hers["state"]))
        assert refused(await scene.back(mallory, code="c", state=wanted["state"]))
        # Tried once, a state is over, for the right browser too.
        assert refused(await scene.back(person, code="c", state=wanted["state"]))
        assert "gatehouse_session" not in person.cookies | mallory.cookies
    async with browser(scene.gateway.url) as person:
        wanted = await scene.sent(person)
        answer = {"code": "c", "state": wanted["state"]}
        assert (await scene.back(person, **answer)).status == 200
        assert refused(await scene.back(person, **answer))
        asked = len(scene.issuer.forms)
        for state in ("", "unknown"):
            assert refused(await scene.back(person, code="c", state=state))
        assert len(scene.issuer.forms) == asked, "no code goes anywhere without its state"
        wanted = await scene.sent(person)
        assert refused(await scene.back(person, error="access_denied", state=wanted["state"]))
        wanted = await scene.sent(person)
        mixed_up = {"code": "c", "state": wanted["state"], "iss": "http://evil.example"}
        assert refused(await scene.back(person, **mixed_up))


@attack(20)
async def test_id_tokens_that_are_not_the_answer_are_refused(scene: Scene) -> None:
    past = int(time.time()) - 3600
    for claims in (
        {"nonce": None},
        {"nonce": "another"},
        {"iss": "http://evil.example"},
        {"aud": "somebody"},
        {"aud": ["gatehouse", "somebody"]},
        {"azp": "somebody"},
        {"exp": past},
        {"iat": None},
        {"nbf": past + 7200},
        {"sub": None},
        {"sub": ""},
    ):
        page = await scene.outcome(**claims)
        assert "/login?failed=" in page.url, claims
    honest = scene.issuer.keys["one"]
    scene.issuer.token = lambda claims: jwt.encode(  # type: ignore[method-assign]
        claims | {"iss": scene.issuer.url, "sub": "ada", "iat": int(time.time()), "exp": int(time.time()) + 60},
        new_key(),
        algorithm="RS256",
        headers={"kid": "one"},
    )
    assert "/login?failed=" in (await scene.outcome()).url
    assert scene.issuer.keys["one"] is honest


@attack(20)
async def test_nobody_takes_over_a_user_by_an_email_that_is_not_theirs(scene: Scene) -> None:
    status, me = await scene.gateway.rest("GET", "/v1/auth/me")
    assert status == 200
    assert refused(await scene.outcome(email=me["email"], email_verified=False), "NOT_ADMITTED")
    assert refused(await scene.outcome(email=me["email"], email_verified="true"), "NOT_ADMITTED")
    assert (await scene.outcome(email=me["email"])).status == 200


@attack(20)
async def test_a_provider_with_addresses_of_no_kind_is_not_followed(scene: Scene) -> None:
    scene.issuer.metadata = {"authorization_endpoint": "javascript:alert(1)"}
    async with scene.gateway.http.get(f"{scene.gateway.url}/v1/auth/oidc/login", allow_redirects=False) as answer:
        assert answer.status == 503


@attack(20)
async def test_metadata_of_another_issuer_is_not_believed(scene: Scene) -> None:
    scene.issuer.metadata = {"issuer": "http://evil.example"}
    async with scene.gateway.http.get(f"{scene.gateway.url}/v1/auth/oidc/login", allow_redirects=False) as answer:
        assert answer.status == 503


@attack(17)
async def test_tokens_of_a_trusted_issuer_open_and_confused_ones_do_not(scene: Scene) -> None:
    issuer = scene.issuer
    good = {"aud": AUDIENCE, "email": "ada@people.test", "email_verified": True}

    async def opens(token: str) -> bool:
        status, _ = await scene.gateway.rest("GET", "/v1/auth/me", key=token)
        assert status in (200, 401)
        return status == 200

    assert await opens(issuer.token(good, typ="at+jwt"))
    # The issuer changes its key: the new one is found.
    issuer.keys["two"] = new_key()
    assert await opens(issuer.token(good, kid="two"))
    public = json.dumps(issuer.public_key()).encode()
    now = int(time.time())
    whole = good | {"iss": issuer.url, "sub": "ada", "iat": now, "exp": now + 60}
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt"}).encode()).rstrip(b"=").decode()
    payload = base64.urlsafe_b64encode(json.dumps(whole).encode()).rstrip(b"=").decode()
    stranger = new_key()
    own = {"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(public).decode()}, "jku": f"{issuer.url}/evil"}
    confused = {
        "none": f"{header}.{payload}.",
        "RS to HS": jwt.encode(whole, base64.b64encode(public), algorithm="HS256", headers={"kid": "one"}),
        "its own key": jwt.encode(whole, stranger, algorithm="RS256", headers={"kid": "one"} | own),
        "kid traversal": jwt.encode(whole, stranger, algorithm="RS256", headers={"kid": "../../dev/null"}),
        "an id token": issuer.token(good | {"nonce": "n"}),
        "of another kind": issuer.token(good, typ="logout+jwt"),
        "foreign audience": issuer.token(good | {"aud": "gatehouse"}),
        "no audience": issuer.token(good | {"aud": None}),
        "expired": issuer.token(good | {"exp": now - 100}),
        "no end": issuer.token(good | {"exp": None}),
        "not yet": issuer.token(good | {"nbf": now + 1000}),
        "unknown issuer": issuer.token(good | {"iss": "http://evil.example"}),
        "cut": issuer.token(good)[:-4],
    }
    for what, token in confused.items():
        assert not await opens(token), what
    assert "/evil" not in issuer.asked
