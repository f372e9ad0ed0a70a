"""The suite's client scenarios: its server, the gateway as that server's client, and the SDK's client behind it.

In those of authorization, the gateway is the OAuth client, and a person with a browser connects an account.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.conformance.baseline import baseline, complaints, passed
from tests.conformance.required import AUTH, AUTH_NOT_BUILT, AUTH_OLDEST, AUTH_UNSCORED, CLIENT, CLIENT_UNSCORED
from tests.conformance.signing_in import answering
from tests.conformance.suite import Check, Results, Suite
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import RunningGateway

OLDEST = "2025-03-26"
AT_ONCE = 3
"""Most of a scenario is the start of two programs."""


async def run_all(
    suite: Suite, command: Sequence[str], revision: str, names: Sequence[str], env: Mapping[str, str]
) -> Results:
    """What each scenario found, with this command as the client."""
    few = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> list[Check]:
        async with few:
            return await suite.client(shlex.join(command), name, revision, env)

    return dict(zip(names, await asyncio.gather(*map(run, names)), strict=True))


@pytest.mark.requirement("legacy-http.client-resumes", "schema.dialect-passes")
@pytest.mark.parametrize("revision", list(CLIENT))
async def test_the_gateway_passes_as_a_client(suite: Suite, gateway: RunningGateway, revision: str) -> None:
    names = (*CLIENT[revision], *CLIENT_UNSCORED[revision])
    env = {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_API_KEY": gateway.admin_key, "PYTHONPATH": str(CHECKOUT)}
    command = (sys.executable, "-m", "tests.conformance.client")
    results = await run_all(suite, command, revision, names, env)
    said = complaints(results, names, baseline(f"{revision} client"))
    assert not said, "\n".join(said)


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway at which one person may sign in as often as there are scenarios."""
    place = tmp_path_factory.mktemp("unlimited") / "data"
    with RunningGateway(place, env={"GATEHOUSE_RATE_LIMITS": "off"}) as running:
        yield running


@pytest.mark.requirement(
    "auth.metadata-found",
    "auth.resource-named",
    "auth.scope-chosen",
    "auth.step-up",
    "auth.issuer-compared",
    "auth.credentials-by-issuer",
    "auth.pkce",
)
@pytest.mark.parametrize("revision", list(AUTH))
async def test_the_gateway_passes_as_an_oauth_client(
    suite: Suite, unlimited: RunningGateway, tmp_path: Path, revision: str
) -> None:
    names = (*AUTH[revision], *AUTH_UNSCORED[revision])
    command = (sys.executable, "-I", str(Path(__file__).with_name("knock.py")), str(tmp_path / "s"))
    async with answering(unlimited, tmp_path / "s"):
        results = await run_all(suite, command, revision, names, {})
    said = complaints(results, names, baseline(f"{revision} authorization"))
    assert not said, "\n".join(said)
    assert passed(results, AUTH[revision]) == len(AUTH[revision])


async def test_the_gateway_signs_in_where_a_server_of_the_oldest_revision_issues_its_tokens(
    suite: Suite, unlimited: RunningGateway, tmp_path: Path
) -> None:
    command = (sys.executable, "-I", str(Path(__file__).with_name("knock.py")), str(tmp_path / "s"))
    async with answering(unlimited, tmp_path / "s"):
        results = await run_all(suite, command, OLDEST, AUTH_OLDEST, {})
    said = complaints(results, AUTH_OLDEST, {})
    assert not said, "\n".join(said)


def test_what_is_not_run_has_a_reason(suite: Suite) -> None:
    for revision, run in AUTH_UNSCORED.items():
        reported = {name for name in suite.unscored(revision, "client") if name.startswith("auth/")}
        assert reported == {*run, *AUTH_NOT_BUILT}
    assert all(AUTH_NOT_BUILT.values())
