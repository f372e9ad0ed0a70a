"""The suite's scenarios of authorization servers: a client comes, a person allows it, and it has a token."""

from __future__ import annotations

from tests.conformance.baseline import complaints
from tests.conformance.required import AUTHORIZATION_SERVER
from tests.conformance.suite import Suite
from tests.gateway.auth.browser import browser
from tests.support.components.machine import free_port
from tests.support.gateway import RunningGateway


async def test_the_gateway_passes_as_an_authorization_server(suite: Suite, gateway: RunningGateway) -> None:
    port = free_port()
    about = {
        "client_name": "suite",
        "redirect_uris": [f"http://127.0.0.1:{port}/callback"],
        "token_endpoint_auth_method": "none",
    }
    made = gateway.rest("POST", "/oauth/register", about)
    assert made.status == 201, made.text
    first = gateway.first_run()

    async def visit(url: str) -> None:
        async with browser(gateway.url) as person:
            page = await person.open(url)
            page = await person.sign_in(first["admin_email"], first["admin_password"], page.field("next"))
            back = await person.submit("/oauth/consent", {"wish": page.field("wish"), "answer": "allow"})
            async with person.http.get(back.url) as taken:
                assert taken.status == 200, await taken.text()

    results = await suite.authorization(gateway.url, made.json()["client_id"], f"{gateway.url}/mcp", port, visit)
    said = complaints(results, AUTHORIZATION_SERVER, {})
    assert not said, "\n".join(said)
    assert results.keys() == set(AUTHORIZATION_SERVER)
