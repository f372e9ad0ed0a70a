"""Canaries: a stored secret that turns up in another server's arguments is stopped, told and written down."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.mcp.secrets import Secrets
from registry.audit.models import AuditEntry
from registry.incidents.events import SecretStopped
from registry.servers.connection import Connection
from tests.gateway.mcp.door import Door, McpError
from tests.gateway.mcp.echo import echo, tool

TOKEN = "tk-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
WORDS = 'correct horse/battery+staple?\u00fc"\\'

FORMS: dict[str, Callable[[str], str]] = {
    "plain": json.dumps,
    "escaped": lambda text: '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"',
    "slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "url": lambda text: json.dumps(quote(text, safe="")),
    "base64": lambda text: json.dumps(base64.b64encode(text.encode()).decode()),
    "base64 within": lambda text: json.dumps(base64.b64encode(f"it is {text}, yes".encode()).decode()),
    "base64 for URLs": lambda text: json.dumps(base64.urlsafe_b64encode(b"?" + text.encode()).decode()),
}


def secrets(*values: str) -> Secrets:
    return Secrets(
        Connection(f"server-{number}", "org", f"s{number}", "streamable-http", headers=(("X-Api-Key", value),))
        for number, value in enumerate(values)
    )


@pytest.mark.parametrize("secret", [TOKEN, WORDS, "hunter2!", "pass/wrd"])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form_and_at_every_place(form: str, secret: str) -> None:
    watched = secrets("another-secret-of-somebody", secret)
    for before in range(40):
        text = f'{{"{"x" * before}": {FORMS[form](secret)}, "more": 1}}'.encode()
        assert watched.found(text, "elsewhere") == "server-1", before
        assert watched.found(text, "server-1") is None, "a server may be sent its own secret"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60), st.binary())
def test_any_secret_is_found_in_base64_whatever_is_around_it(secret: str, before: bytes) -> None:
    text = json.dumps({"data": base64.b64encode(before + secret.encode() + before).decode()}).encode()
    assert secrets(secret).found(text, "elsewhere") == "server-0"


def test_what_is_no_secret_is_not_looked_for() -> None:
    env = (("HOME_DIR", "/srv/data/projects"), ("REGION", "eu-central-1"), ("API_KEY", "short"), ("KEY", TOKEN))
    headers = (("User-Agent", "something long enough"), ("Authorization", f"Bearer {TOKEN[::-1]}"))
    watched = Secrets([Connection("a", "org", "a", "stdio", env=env, headers=headers)])
    for harmless in ("/srv/data/projects", "eu-central-1", "short", "something long enough", "Bearer of good news"):
        assert watched.found(json.dumps({"x": harmless}).encode(), "b") is None
    for secret in (TOKEN, TOKEN[::-1]):
        assert watched.found(json.dumps({"x": secret}).encode(), "b") == "a"


def test_a_secret_that_both_have_may_be_sent() -> None:
    assert secrets(TOKEN, TOKEN).found(json.dumps(TOKEN).encode(), "server-0") is None
    assert secrets(TOKEN, TOKEN).found(json.dumps(TOKEN).encode(), "server-2") == "server-0"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_secret_from_one_servers_result_does_not_reach_another(door: Door, era: str) -> None:
    """The first server, which is sent the token with each request, gives it away; somebody carries it on."""
    async with echo(tools=[tool("read_config")]) as first, echo(tools=[tool("post")], prompts=[{"name": "p"}]) as other:
        await door.register("first", first.url, headers={"Authorization": f"Bearer {TOKEN}"})
        await door.register("other", other.url)
        told: list[SecretStopped] = []
        door.app.ground.events.subscribe(SecretStopped, told.append)
        client = await door.either(era, "/mcp", door.agent)
        leaked = (await client.call("first__read_config", {"show": TOKEN}))["arguments"]["show"]
        assert leaked == TOKEN
        sent = base64.b64encode(f"config: {leaked}".encode()).decode()
        for arguments in ({"body": leaked}, {"body": {"deep": [sent]}}):
            with pytest.raises(McpError) as raised:
                await client.call("other__post", arguments)
            assert raised.value.code == -32602
            assert raised.value.error["data"] == {"code": "SECRET_IN_ARGUMENTS", "server": "other"}
        with pytest.raises(McpError):
            await client.result("prompts/get", {"name": "other__p", "arguments": {"x": leaked}})
        assert other.received == []
        assert [event.tool for event in told] == ["other__post", "other__post", "other__p"]
        async with door.app.database.reading() as session:
            rows = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "secrets.stop"))).all()
        assert [(row.outcome, row.target_type) for row in rows] == [("refused", "server")] * 3
        assert TOKEN not in json.dumps([row.detail for row in rows])
        await client.call("other__post", {"body": "harmless"})
