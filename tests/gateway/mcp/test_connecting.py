"""A person connects an account: every door says where, and hears what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.cli import connect
from gateway.cli.client import GatewayClient
from gateway.cli.connect import TELL_SECONDS, wait_for_account
from gateway.cli.errors import CommandFailed
from tests.gateway.auth.browser import admin_of, browser
from tests.gateway.conftest import Running
from tests.gateway.mcp.guarded import guarded
from tests.gateway.mcp.test_accounts import back, registered, sent
from tests.support.clock import SettableClock
from tests.support.components.machine import CHECKOUT
from tests.support.identity import add_key, add_user

SECONDS = 60
"""A bound for what takes a second or two where the machine is free."""


async def standing(gateway: Running, server_id: str) -> dict[str, Any]:
    status, account = await gateway.rest("GET", f"/v1/mcp/servers/{server_id}/account")
    assert status == 200, account
    return account


async def by_tool(gateway: Running, name: str, **arguments: Any) -> dict[str, Any]:
    status, body = await gateway.rest("POST", f"/v1/tools/gatehouse__{name}", arguments)
    assert status == 200, body
    assert not body["isError"], body
    return body["structuredContent"]


async def test_every_door_says_where_to_connect_and_what_became_of_it(gateway: Running, tmp_path: Path) -> None:
    async with guarded() as server, browser(gateway.url) as person:
        server_id = await registered(gateway, server, kind="authorization_code")
        path = f"/v1/mcp/servers/{server_id}"
        status, asked = await gateway.rest("POST", f"{path}/account/connect")
        assert (status, asked["connect"]) == (200, f"{gateway.url}{path}/connect")
        assert (asked["connected"], asked["attempt"], asked["kind"]) == (False, None, "authorization_code")
        assert await by_tool(gateway, "accounts_connect", server="guarded") == asked
        await person.sign_in(*admin_of(tmp_path / "data"))
        issuer = server.url.removesuffix("/mcp")
        first = await sent(person, server_id, server)
        assert (await standing(gateway, server_id))["attempt"]["state"] == "waiting"
        # The person says no at the issuer.
        assert (await back(person, error="access_denied", state=first["state"], iss=issuer)).status == 403
        refused = await standing(gateway, server_id)
        assert (refused["connected"], refused["attempt"]["state"]) == (False, "failed")
        assert "access_denied" in refused["attempt"]["failure"]
        # What an issuer says is not repeated word for word, whatever it is.
        other = await sent(person, server_id, server)
        assert (await back(person, error="<b>call me</b>", state=other["state"], iss=issuer)).status == 403
        assert "call" not in (await standing(gateway, server_id))["attempt"]["failure"]
        wanted = await sent(person, server_id, server)
        good = {"code": "code-of-ada", "state": wanted["state"], "iss": issuer}
        assert (await back(person, **good)).status == 200
        connected = await standing(gateway, server_id)
        assert (connected["connected"], connected["attempt"]["state"]) == (True, "connected")
        # A state serves once, and a second try with it changes nothing of what became of it.
        assert (await back(person, **good)).status == 403
        assert await standing(gateway, server_id) == connected
        assert await by_tool(gateway, "accounts_get", server="guarded") == connected
        assert (await by_tool(gateway, "accounts_list"))["accounts"] == [connected]
        status, body = await gateway.rest("GET", "/v1/mcp/accounts")
        assert (body["accounts"], body["total"]) == ([connected], 1)
        status, rest = await gateway.rest("GET", "/v1/mcp/accounts?limit=1&offset=1")
        assert (rest["accounts"], rest["total"]) == ([], 1)


async def test_another_person_sees_nothing_of_an_account(gateway: Running, tmp_path: Path) -> None:
    async with guarded() as server, browser(gateway.url) as person:
        server_id = await registered(gateway, server, kind="authorization_code")
        await person.sign_in(*admin_of(tmp_path / "data"))
        wanted = await sent(person, server_id, server)
        issuer = server.url.removesuffix("/mcp")
        assert (await back(person, code="code-of-ada", state=wanted["state"], iss=issuer)).status == 200
        app = gateway.application
        org_id = (await gateway.rest("GET", "/v1/organizations"))[1]["organizations"][0]["id"]
        colleague = await add_user(app.database, app.ground.clock, org_id, "grace@acme.test")
        _, key = await add_key(app.database, app._services.identity, colleague)
        status, account = await gateway.rest("GET", f"/v1/mcp/servers/{server_id}/account", key=key)
        assert (status, account["connected"], account["attempt"]) == (200, False, None)
        status, listed = await gateway.rest("GET", "/v1/mcp/accounts", key=key)
        assert listed["accounts"] == [account]


async def test_there_is_nothing_to_connect_where_nobody_connects_accounts(gateway: Running) -> None:
    made = await gateway.register("Plain", base_url="http://127.0.0.1:9/mcp")
    path = f"/v1/mcp/servers/{made['id']}"
    status, _ = await gateway.rest("POST", f"{path}/account/connect")
    assert status == 404
    status, _ = await gateway.rest("PUT", f"{path}/login", {"kind": "static"})
    status, said = await gateway.rest("POST", f"{path}/account/connect")
    assert (status, "login is static" in str(said)) == (409, True)
    assert (await standing(gateway, made["id"]))["connect"] is None


@asynccontextmanager
async def connecting(gateway: Running, tmp_path: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`gatehouse accounts connect`, as a process of its own; ended with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    environment |= {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_DATA_DIR": str(tmp_path / "data")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "accounts", "connect", "guarded", *words),
        env=environment | {"PYTHONPATH": str(CHECKOUT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.mark.parametrize(
    ("answer", "code", "last"),
    [({"code": "code-of-ada"}, 0, "Connected."), ({"error": "access_denied"}, 1, "The issuer says access_denied.")],
)
async def test_the_command_says_where_to_go_and_waits_for_the_outcome(
    gateway: Running, tmp_path: Path, answer: dict[str, str], code: int, last: str
) -> None:
    async with guarded() as server, browser(gateway.url) as person:
        server_id = await registered(gateway, server, kind="authorization_code")
        await person.sign_in(*admin_of(tmp_path / "data"))
        async with connecting(gateway, tmp_path) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            url = (await process.stdout.readline()).decode().strip()
            assert url == f"{gateway.url}/v1/mcp/servers/{server_id}/connect"
            assert b"Waiting up to 300 s" in await process.stderr.readline()
            wanted = await sent(person, urlsplit(url).path.split("/")[-2], server)
            assert b"Sent to the issuer" in await process.stderr.readline()
            await back(person, state=wanted["state"], iss=server.url.removesuffix("/mcp"), **answer)
            out, err = await process.communicate()
            assert process.returncode == code, err
            assert last in (out + err).decode()


@pytest.mark.parametrize(("terminal", "yes", "opened"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_a_browser_is_opened_where_somebody_says_so(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, yes: bool, opened: int
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr(connect.webbrowser, "open", addresses.append)
    monkeypatch.setattr(connect.typer, "confirm", lambda *_, **__: yes)
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: terminal)
    connect.offer_to_open("http://gateway.test/connect")
    assert addresses == ["http://gateway.test/connect"] * opened


class Told(GatewayClient):
    """A gateway that says one after another of these; time passes with each."""

    def __init__(self, clock: SettableClock, *accounts: dict[str, Any], seconds: float = 0) -> None:
        self._clock, self._accounts, self._seconds = clock, list(accounts), seconds

    async def rest(self, *_: Any, **__: Any) -> Any:
        self._clock.advance(self._seconds)
        return self._accounts.pop(0) if len(self._accounts) > 1 else self._accounts[0]


class Impatient(SettableClock):
    """Sleeps in no time."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


async def test_waiting_has_an_end_and_tells_of_itself() -> None:
    clock, told = Impatient(), list[str]()
    waiting = {"connected": False, "attempt": {"state": "waiting", "expires_at": "1"}}
    client = Told(clock, {"connected": False, "attempt": None}, waiting)
    with pytest.raises(CommandFailed, match="not connected within 100 s"):
        await wait_for_account(client, "/account", {}, 100, clock, told.append)
    assert told[0].startswith("Sent to the issuer")
    assert [line.startswith("Still waiting") for line in told[1:]] == [True] * int(100 / TELL_SECONDS)
    assert clock.monotonic() == 100


@pytest.mark.parametrize("state", ["connected", "failed"])
async def test_an_attempt_that_had_ended_before_is_not_the_one_that_is_waited_for(state: str) -> None:
    clock = Impatient()
    ended = {"connected": state == "connected", "attempt": {"state": state, "failure": "no", "expires_at": "1"}}
    again = {"connected": True, "attempt": {"state": "connected", "failure": None, "expires_at": "2"}}
    found = await wait_for_account(Told(clock, ended, ended, again), "/account", ended, 100, clock, lambda _: None)
    assert found == again
