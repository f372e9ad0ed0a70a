"""What the README says about signing in, health, channels and jobs is typed as it stands there, and works."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator

import pytest

from gateway.cli import main
from tests.gateway.safety.scene import Upstream
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import RunningGateway

SECTIONS = ("Hear of trouble", "Let people in", "Sign in to servers", "See what works behind requests")
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
    with Upstream() as upstream, RunningGateway(tmp_path_factory.mktemp("readme") / "data") as running:
        made = running.rest("POST", "/v1/mcp/servers", {"name": "hello", "base_url": upstream.url})
        assert made.status == 201, made.text
        yield running


@pytest.mark.parametrize("section", SECTIONS)
def test_every_command_of_a_section_works(
    gateway: RunningGateway, section: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEHOUSE_URL", gateway.url)
    monkeypatch.setenv("GATEHOUSE_DATA_DIR", str(gateway.data_dir))
    monkeypatch.delenv("GATEHOUSE_API_KEY", raising=False)
    monkeypatch.setenv("HELLO_TOKEN", "Bearer of-my-own")
    for line in commands(section):
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert left.value.code == 0, (line, said)
        assert TOLD.get(line, "") in said.out, (line, said)


def test_what_is_expected_is_in_the_readme() -> None:
    assert TOLD.keys() <= {line for section in SECTIONS for line in commands(section)}
