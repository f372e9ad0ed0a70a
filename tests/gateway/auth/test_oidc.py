"""Signing in by a real OIDC provider: there and back, roles from its claims, its keys changed, and out again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gateway.auth.browser import Browser, browser
from tests.support.attacks import attack
from tests.support.components.machine import free_port
from tests.support.components.node import NpmPackage
from tests.support.running import running_gateway
from tests.support.servers.oidc import CLIENT_ID, CLIENT_SECRET, OidcProvider, go_through

CALLBACK = "/v1/auth/oidc/callback"


async def signed_in(person: Browser, name: str) -> dict[str, Any]:
    """The user that the gateway takes somebody for who has signed in at the provider."""
    sent = await person.open("/v1/auth/oidc/login?next=/v1/auth/me")
    assert not sent.url.startswith(person.base), sent
    back = await go_through(person.http, sent.url, name, person.base)
    page = await person.open(back)
    assert page.status == 200, page
    assert page.url.endswith("/v1/auth/me")
    async with person.http.get(f"{person.base}/v1/auth/me") as answer:
        return await answer.json()


@attack(20)
async def test_people_come_change_and_leave(tmp_path: Path, npm_package: Callable[[str], NpmPackage]) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    package = npm_package("oidc-provider")
    with OidcProvider(package, tmp_path / "provider", callback=base + CALLBACK, logged_out=f"{base}/bye") as provider:
        settings = {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_scopes": "openid email profile groups",
            "oidc_role_claim": "groups",
            "oidc_roles": ("chiefs=admin", "staff=user"),
            "oidc_default_role": "viewer",
        }
        async with running_gateway(tmp_path / "data", at=port, **settings) as gateway:
            assert gateway.url == base
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
