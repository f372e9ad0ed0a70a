"""What the README says about signing in, accounts, health, channels and jobs is typed as it stands there, and works."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from urllib.parse import urlencode

import pytest

from gateway.api.registry.accounts import CALLBACK_PATH
from gateway.cli import main
from tests.gateway.auth.browser import browser
from tests.gateway.mcp.guarded import guarded
from tests.gateway.safety.scene import InThread, Upstream
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import RunningGateway

SECTIONS = (
    "Hear of trouble",
    "Let people in",
    "Sign in to servers",
    "Connect your account",
    "See what works behind requests",
)
TOLD = {
    "gatehouse health config hello --interval 60 --uptime 99": "check_interval_seconds: 60",
    "gatehouse channels add webhook --to https://example.com/hook": "secret, shown this once: whsec_",
    "gatehouse channels add email --to admin@example.com --server hello": "Added notifications",
    "gatehouse health history hello --by 1h": "successful_checks: 1",
    "gatehouse users list": "admin@",
    "gatehouse organizations list": "max_servers",
    "gatehouse accounts set hello --header Authorization=HELLO_TOKEN": "Brought.",
    "gatehouse logins set hello static": "kind: static",
    "gatehouse logins show hello": "connected: True",
    "gatehouse logins remove hello": "Removed.",
    "gatehouse accounts connect tracker": "Connected.",
    "gatehouse accounts list": "tracker\tauthorization_code\t",
    "gatehouse call tracker__who": "ada",
    "gatehouse accounts remove tracker": "Forgotten.",
}
"""What some of them say."""


def commands(section: str) -> list[str]:
    """The lines of the first block of commands after a heading."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\*\*{section}\.\*\*.*?^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found, section
    return found[1].splitlines()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    place = tmp_path_factory.mktemp("readme") / "data"
    with Upstream() as upstream, InThread(guarded()) as tracker, RunningGateway(place) as running:
        for name, url in (("hello", upstream.url), ("tracker", tracker.url)):
            made = running.rest("POST", "/v1/mcp/servers", {"name": name, "base_url": url})
            assert made.status == 201, made.text
        yield running


def in_a_browser(gateway: RunningGateway, url: str) -> None:
    """A person opens the address that a command offers to open, signs in, and comes back from the issuer."""

    async def connect() -> None:
        first = gateway.first_run()
        async with browser(gateway.url) as person:
            await person.sign_in(first["admin_email"], first["admin_password"])
            asked = await person.open(url)
            issuer = asked.url.partition("/authorize")[0]
            answer = {"code": "code-of-ada", "state": asked.query["state"], "iss": issuer}
            assert (await person.open(f"{CALLBACK_PATH}?{urlencode(answer)}")).status == 200

    # The command's own loop runs in this thread.
    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, connect()).result(60)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_command_of_a_section_works(
    gateway: RunningGateway, section: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEHOUSE_URL", gateway.url)
    monkeypatch.setenv("GATEHOUSE_DATA_DIR", str(gateway.data_dir))
    monkeypatch.delenv("GATEHOUSE_API_KEY", raising=False)
    monkeypatch.setenv("HELLO_TOKEN", "Bearer of-my-own")
    # By its name, the package has the group of commands.
    monkeypatch.setattr(import_module("gateway.cli.accounts"), "offer_to_open", partial(in_a_browser, gateway))
    for line in commands(section):
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert left.value.code == 0, (line, said)
        assert TOLD.get(line, "") in said.out, (line, said)


def test_what_is_expected_is_in_the_readme() -> None:
    assert TOLD.keys() <= {line for section in SECTIONS for line in commands(section)}
