"""Signing in by a real OIDC provider: there and back, roles from its claims, its keys changed, and out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.gateway.auth.browser import Browser, browser
from tests.support.attacks import attack
from tests.support.components.machine import free_port
from tests.support.components.node import NpmPackage
from tests.support.running import running_gateway
from tests.support.servers.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider, go_through

CALLBACK = "/v1/auth/oidc/callback"
LOGIN = "/v1/auth/oidc/login?next=/v1/auth/me"


@contextmanager
def provided(
    tmp_path: Path, npm_package: Callable[[str], NpmPackage], **more: Any
) -> Iterator[tuple[OidcProvider, int, dict[str, Any]]]:
    """A provider, the port where it expects the gateway, and the gateway's settings."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    package = npm_package("oidc-provider")
    with OidcProvider(package, tmp_path / "provider", callback=base + CALLBACK, logged_out=f"{base}/bye") as provider:
        settings = {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_default_role": "viewer",
        }
        yield provider, port, settings | more


async def signed_in(person: Browser, name: str) -> dict[str, Any]:
    """The user that the gateway takes somebody for who has signed in at the provider."""
    sent = await person.open(LOGIN)
    assert not sent.url.startswith(person.base), sent
    back = await go_through(person.http, sent.url, name, person.base)
    page = await person.open(back)
    assert page.status == 200, page
    assert page.url.endswith("/v1/auth/me")
    async with person.http.get(f"{person.base}/v1/auth/me") as answer:
        return await answer.json()


@attack(20)
async def test_people_come_change_and_leave(tmp_path: Path, npm_package: Callable[[str], NpmPackage]) -> None:
    roles = {
        "oidc_scopes": "openid email profile groups",
        "oidc_role_claim": "groups",
        "oidc_roles": ("chiefs=admin", "staff=user"),
    }
    with provided(tmp_path, npm_package, **roles) as (provider, port, settings):
        async with running_gateway(tmp_path / "data", at=port, **settings) as gateway:
            base = gateway.url
            async with browser(base) as person:
                page = await person.open("/login?next=/oauth/authorize")
                assert 'href="/v1/auth/oidc/login?next=/oauth/authorize"' in page.text
                first = await signed_in(person, "ada")
                assert (first["email"], first["name"], first["roles"]) == ("ada@people.test", "ada", ["admin"])
            # The same person again, in another browser; and somebody with another group.
            async with browser(base) as other:
                assert (await signed_in(other, "ada"))["id"] == first["id"]
            async with browser(base) as other:
                assert (await signed_in(other, "grace"))["roles"] == ["user"]
            provider.restart()
            async with browser(base) as person:
                again = await signed_in(person, "mallory")
                assert again["roles"] == ["viewer"]
                session = next(value for name, value in person.cookies.items() if name == "gatehouse_session")
                headers = {"X-Session-ID": session}
                async with gateway.http.post(
                    f"{base}/v1/auth/oidc/logout",
                    json={"post_logout_redirect_uri": f"{base}/bye"},
                    headers=headers,
                ) as answer:
                    url = (await answer.json())["logout_url"]
                assert url.startswith(provider.issuer)
                assert "id_token_hint=" in url
                assert await go_through(person.http, url, "mallory", base) == f"{base}/bye"
                async with gateway.http.get(f"{base}/v1/auth/me", headers=headers) as answer:
                    assert answer.status == 401


def with_changes(back: str, **changes: str) -> str:
    """An answer of the provider's with other parameters."""
    parts = urlsplit(back)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **changes})).geturl()


@attack(20)
async def test_what_the_provider_gave_serves_its_person_once(
    tmp_path: Path, npm_package: Callable[[str], NpmPackage]
) -> None:
    with provided(tmp_path, npm_package) as (_, port, settings):
        base = f"http://127.0.0.1:{port}"
        async with (
            running_gateway(tmp_path / "data", at=port, **settings),
            browser(base) as ada,
            browser(base) as mallory,
        ):

            async def answer() -> str:
                """What the provider sends Ada back with."""
                return await go_through(ada.http, (await ada.open(LOGIN)).url, "ada", base)

            async def refused(person: Browser, back: str) -> bool:
                page = await person.open(back)
                return "failed=OIDC_LOGIN_FAILED" in page.url and "gatehouse_session" not in person.cookies

            stolen = await answer()
            code = dict(parse_qsl(urlsplit(stolen).query))["code"]
            assert await refused(mallory, stolen), "a state is of one browser"
            own = await go_through(mallory.http, (await mallory.open(LOGIN)).url, "mallory", base)
            # The code is good, the state is hers: only what was kept for the state tells that they do not belong.
            assert await refused(mallory, with_changes(own, code=code))
            assert await refused(ada, with_changes(await answer(), iss="http://evil.example"))
            assert await refused(ada, with_changes(await answer(), state="another"))
            good = await answer()
            assert (await ada.open(good)).url.endswith("/v1/auth/me")
            used = dict(parse_qsl(urlsplit(good).query))["code"]
            async with browser(base) as other:
                again = await go_through(other.http, (await other.open(LOGIN)).url, "mallory", base)
                assert await refused(other, with_changes(again, code=used)), "a code serves once"
