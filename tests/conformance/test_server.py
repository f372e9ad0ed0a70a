"""The suite's server scenarios: straight at the server first, then at the gateway before it, over all era pairs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.baseline import baseline, complaints, passed
from tests.conformance.required import LEGACY, MODERN, SERVER, SERVER_UNSCORED
from tests.conformance.suite import Results, Suite
from tests.support.gateway import RunningGateway, exchange
from tests.support.servers.conformance.process import ConformanceServer

GetServer = Callable[[str], ConformanceServer]


PASSED = {
    (LEGACY, "direct"): 30,
    (MODERN, "direct"): 37,
    (LEGACY, "to legacy"): 30,
    (MODERN, "to modern"): 37,
    (LEGACY, "to modern"): 30,
    # Two ask for what no server of the earlier era can say; the baseline names them.
    (MODERN, "to legacy"): 35,
}
"""Required scenarios without a failed check, by revision of the client and way to the server."""
NATIVE = {LEGACY: "to legacy", MODERN: "to modern"}


def judge(results: Results, revision: str, way: str) -> None:
    # Before a server of the other era, some of what is only reported is not begun; what is, is judged as well.
    names = (*SERVER[revision], *(SERVER_UNSCORED[revision] if way in ("direct", NATIVE[revision]) else ()))
    said = complaints(results, names, baseline(f"{revision} {way}"))
    assert not said, "\n".join(said)
    assert passed(results, SERVER[revision]) == PASSED[revision, way]


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_the_server_itself_passes(suite: Suite, server: GetServer, revision: str) -> None:
    results = await suite.server(server("both").url, revision)
    judge(results, revision, "direct")


@pytest.mark.parametrize(("era", "version"), [("legacy", MODERN), ("modern", LEGACY), ("modern", None)])
def test_a_server_of_one_era_refuses_the_other(server: GetServer, era: str, version: str | None) -> None:
    headers = {"Content-Type": "application/json", **({"MCP-Protocol-Version": version} if version else {})}
    answer = exchange(server(era).url, "POST", headers=headers, body=b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert (answer.status, "nsupported protocol version" in answer.text) == (400, True)


@pytest.mark.requirement("version.era-detected")
@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_the_gateway_passes(
    suite: Suite, server: GetServer, gateway: RunningGateway, revision: str, era: str
) -> None:
    results = await through_gateway(suite, gateway, server(era), revision)
    judge(results, revision, f"to {era}")


async def through_gateway(suite: Suite, gateway: RunningGateway, server: ConformanceServer, revision: str) -> Results:
    """Run against one server's own address, which the operator has opened: the suite can send no credential."""
    body = {"name": f"conformance-{revision}-{server.era}", "base_url": server.url, "public": True}
    answer = gateway.rest("POST", "/v1/mcp/servers", body)
    assert answer.status == 201, answer.text
    registered = answer.json()
    try:
        return await suite.server(f"{gateway.url}/servers/{registered['slug']}/mcp", revision)
    finally:
        gateway.rest("DELETE", f"/v1/mcp/servers/{registered['id']}")
