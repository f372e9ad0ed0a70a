"""One budget over two gateways on one PostgreSQL: no call too many, also when one of them is killed in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.budgets.ledger import LEASE_SECONDS
from registry.core.db import Database
from registry.core.events import EventBus
from tests.gateway.mcp.door import MODERN
from tests.gateway.mcp.echo import Echo, echo
from tests.registry.budgets.sums import Account, accounts
from tests.support.components.postgres import Postgres
from tests.support.gateway import RunningGateway

SECRET = "0123456789abcdef-fedcba9876543210-budgets"
EXCEEDED = -31001


@pytest.fixture
def database_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    name = postgres.create_database(template=postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def upstream() -> AsyncIterator[Echo]:
    async with echo() as made:
        yield made


def _gateway(directory: Path, database_url: str) -> RunningGateway:
    env = {
        "GATEHOUSE_DATABASE_URL": database_url,
        "GATEHOUSE_SECRET_KEY": SECRET,
        "GATEHOUSE_RATE_LIMITS": "off",
    }
    return RunningGateway(directory, env=env)


@pytest.fixture
async def pair(tmp_path: Path, database_url: str, upstream: Echo) -> AsyncIterator[list[RunningGateway]]:
    """Two gateways with the same server and the same limit of fifty calls."""
    first = await asyncio.to_thread(_gateway, tmp_path / "first", database_url)
    try:
        body = {"name": "echo", "base_url": upstream.url}
        assert (await asyncio.to_thread(first.rest, "POST", "/v1/mcp/servers", body)).status == 201
        limit = {"name": "fifty", "unit": "calls", "amount": 50, "action_on_exceed": "block"}
        assert (await asyncio.to_thread(first.rest, "POST", "/api/v1/budget/limits", limit)).status == 201
        second = await asyncio.to_thread(_gateway, tmp_path / "second", database_url)
        try:
            yield [first, second]
        finally:
            await asyncio.to_thread(second.stop)
    finally:
        await asyncio.to_thread(first.stop)


async def _call(client: aiohttp.ClientSession, url: str, key: str) -> Any:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "echo__say", "arguments": {}, "_meta": meta}
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "echo__say",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with client.post(f"{url}/mcp", json=message, headers=headers) as answer:
        return json.loads((await answer.text()).removeprefix("data: "))


async def _rush(gateways: list[RunningGateway], key: str, calls: int) -> list[Any]:
    """So many calls at once, spread over the gateways."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        work = [_call(client, gateways[number % len(gateways)].url, key) for number in range(calls)]
        return await asyncio.gather(*work, return_exceptions=True)


async def _ledger_when(database_url: str, settled: Any, seconds: float) -> Account:
    """The ledger as soon as it is as wanted; as it is at the end of the time if it never is."""
    database = Database(database_url, EventBus())
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            (account,) = await accounts(database)
            if settled(account) or asyncio.get_running_loop().time() > deadline:
                return account
            await asyncio.sleep(0.1)
    finally:
        await database.close()


async def test_of_two_hundred_calls_over_two_gateways_fifty_reach_the_server(
    pair: list[RunningGateway], database_url: str, upstream: Echo
) -> None:
    answers = await _rush(pair, pair[0].agent_key, 200)
    refused = [answer for answer in answers if "error" in answer]
    assert {answer["error"]["code"] for answer in refused} == {EXCEEDED}
    assert len(answers) - len(refused) == len(upstream.received) == 50
    account = await _ledger_when(database_url, lambda account: account.reserved == 0, 60)
    assert (account.spent, account.reserved) == (50, 0)


async def test_a_gateway_killed_in_the_middle_leaves_no_call_uncounted(
    pair: list[RunningGateway], database_url: str, upstream: Echo
) -> None:
    survivor, doomed = pair
    key = survivor.agent_key
    begun = asyncio.create_task(_rush([doomed], key, 40))
    while len(upstream.received) < 5:
        assert not begun.done(), begun.result()
        await asyncio.sleep(0)
    doomed.child.kill()
    answers = await _rush([survivor], key, 160)
    broken = [answer for answer in await begun if isinstance(answer, aiohttp.ClientError)]
    assert broken, "it was killed too late to matter"
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {EXCEEDED}
    now = await _ledger_when(database_url, lambda _account: True, 0)
    assert len(upstream.received) <= now.spent + now.reserved <= 50
    later = await _ledger_when(database_url, lambda account: account.reserved == 0, LEASE_SECONDS * 3)
    assert later.reserved == 0, "what the dead gateway held is still reserved"
    assert len(upstream.received) <= later.spent <= 50
