"""The suite's client scenarios: its server, the gateway as that server's client, and the SDK's client behind it.

Those of authorization are not here: they test how a client obtains a token by OAuth.
"""

from __future__ import annotations

import shlex
import sys

import pytest

from tests.conformance.baseline import baseline, complaints
from tests.conformance.required import CLIENT, CLIENT_UNSCORED
from tests.conformance.suite import Suite
from tests.support.components.machine import CHECKOUT
from tests.support.gateway import RunningGateway


@pytest.mark.parametrize("revision", list(CLIENT))
async def test_the_gateway_passes_as_a_client(suite: Suite, gateway: RunningGateway, revision: str) -> None:
    command = shlex.join([sys.executable, "-m", "tests.conformance.client"])
    env = {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_API_KEY": gateway.admin_key, "PYTHONPATH": str(CHECKOUT)}
    required = (*CLIENT[revision], *CLIENT_UNSCORED[revision])
    results = {name: await suite.client(command, name, revision, env) for name in required}
    assert complaints(results, required, baseline(f"{revision} client")) == []
