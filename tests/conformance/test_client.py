"""The suite's client scenarios: its server, the gateway as that server's client, and the SDK's client behind it.

Those of authorization are not here: they test how a client obtains a token by OAuth.
"""

from __future__ import annotations

import asyncio
import shlex
import sys

import pytest

from tests.conformance.baseline import baseline, complaints
from tests.conformance.required import CLIENT, CLIENT_UNSCORED
from tests.conformance.suite import Check, Suite
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import RunningGateway

AT_ONCE = 3
"""Most of a scenario is the start of two programs."""


@pytest.mark.requirement("legacy-http.client-resumes", "schema.dialect-passes")
@pytest.mark.parametrize("revision", list(CLIENT))
async def test_the_gateway_passes_as_a_client(suite: Suite, gateway: RunningGateway, revision: str) -> None:
    command = shlex.join([sys.executable, "-m", "tests.conformance.client"])
    env = {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_API_KEY": gateway.admin_key, "PYTHONPATH": str(CHECKOUT)}
    required = (*CLIENT[revision], *CLIENT_UNSCORED[revision])
    few = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> list[Check]:
        async with few:
            return await suite.client(command, name, revision, env)

    results = dict(zip(required, await asyncio.gather(*map(run, required)), strict=True))
    said = complaints(results, required, baseline(f"{revision} client"))
    assert not said, "\n".join(said)
