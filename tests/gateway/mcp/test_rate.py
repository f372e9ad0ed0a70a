"""Rate limits of calls: the bucket, what is counted together, and the share that processes have by Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.mcp.envelope import ProtocolError
from gateway.mcp.policies import rate
from gateway.mcp.policies.policy import Attempt
from gateway.mcp.policies.rate import CallLimitInvalid, MemoryBuckets, RatePolicy, parse_call_limits
from gateway.mcp.policies.rate_redis import RETRY_SECONDS, RedisBuckets
from registry.core.clock import SystemClock
from registry.identity.principal import Principal
from tests.gateway.mcp.door import McpError, opened
from tests.gateway.mcp.echo import echo
from tests.support.clock import SettableClock
from tests.support.components.machine import free_port


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def attempt(tool: str = "files__read", *, user: str = "u", org: str = "o") -> Attempt:
    slug, _, name = tool.partition("__")
    entry: Any = SimpleNamespace(name=name)
    server: Any = SimpleNamespace(slug=slug, id=slug)
    return Attempt(Principal(org, user, "user", frozenset()), "tools/call", tool, server, entry, {})


def refused(policy: RatePolicy, call: Attempt) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        policy.admit(call)
    return caught.value


def test_a_bucket_holds_a_minute_and_refills_steadily(clock: SettableClock) -> None:
    buckets = MemoryBuckets(clock)
    assert [buckets.take(("k",), 60) for _ in range(60)] == [0.0] * 60
    assert buckets.take(("k",), 60) == pytest.approx(1.0)
    clock.advance(0.5)
    assert buckets.take(("k",), 60) == pytest.approx(0.5)
    clock.advance(2.5)
    assert [buckets.take(("k",), 60) for _ in range(3)] == [0.0] * 3
    assert buckets.take(("k",), 60) > 0
    assert buckets.take(("another",), 60) == 0.0


def test_full_buckets_are_forgotten_when_there_are_too_many(
    clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "MOST_BUCKETS", 10)
    buckets = MemoryBuckets(clock)
    for number in range(10):
        buckets.take((str(number),), 60)
    clock.advance(2)
    buckets.take(("new",), 60)
    assert len(buckets._full_at) == 1


def test_each_principal_has_a_limit_of_its_own(clock: SettableClock) -> None:
    policy = RatePolicy(MemoryBuckets(clock), 2, {})
    for _ in range(2):
        assert policy.admit(attempt()) is None
    error = refused(policy, attempt("git__log"))
    assert error.code == -31002
    assert error.data == {"code": "RATE_LIMITED", "limit": "principal", "calls_per_minute": 2, "retry_after": 30}
    policy.admit(attempt(user="another"))
    # Whoever has used up everything can still stop everything.
    policy.admit(attempt("gatehouse__emergency_pause"))
    refused(policy, attempt("gatehouse__servers_list"))
    clock.advance(30)
    policy.admit(attempt())


@pytest.mark.requirement("tools.rate-limited")
def test_servers_and_tools_have_limits_by_their_names(clock: SettableClock) -> None:
    policy = RatePolicy(MemoryBuckets(clock), 0, parse_call_limits(["files=3", "files__write = 1"]))
    policy.admit(attempt("files__write"))
    assert refused(policy, attempt("files__write", user="another")).data["limit"] == "tool"
    policy.admit(attempt("files__read"))
    assert refused(policy, attempt("files__read")).data["limit"] == "server"
    policy.admit(attempt("files__read", org="another"))
    policy.admit(attempt("git__log"))


@pytest.mark.parametrize("entry", ["files", "files=", "=3", "files=0", "files=-1", "files=many"])
def test_a_limit_that_says_nothing_is_refused(entry: str) -> None:
    with pytest.raises(CallLimitInvalid, match="NAME=CALLS"):
        parse_call_limits([entry])


async def test_processes_share_a_limit_in_redis(redis_url: str) -> None:
    both = [RedisBuckets(redis_url, SystemClock()) for _ in range(2)]
    try:
        taken = await asyncio.gather(*(both[number % 2].take(("o", "u"), 10) for number in range(20)))
        assert sum(seconds == 0 for seconds in taken) == 10
        assert all(0 < seconds <= 6 for seconds in taken if seconds)
        policy = RatePolicy(both[0], 10, {"files": 1})
        waiting = policy.admit(attempt())
        assert waiting is not None
        await waiting
        again = policy.admit(attempt(user="another"))
        assert again is not None
        with pytest.raises(ProtocolError, match="this server"):
            await again
    finally:
        for buckets in both:
            await buckets.close()


async def test_without_redis_each_process_counts_half(clock: SettableClock) -> None:
    buckets = RedisBuckets(f"redis://127.0.0.1:{free_port()}", clock)
    taken = [await buckets.take(("k",), 10) for _ in range(6)]
    assert [seconds == 0 for seconds in taken] == [True] * 5 + [False]
    clock.advance(RETRY_SECONDS)
    assert await buckets.take(("k",), 10) > 0
    await buckets.close()


async def test_a_tools_limit_holds_at_every_address(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", call_limits=("echo__say=2",)) as door, echo() as made:
        await door.register("echo", made.url)
        picked = {"slug": "picked", "members": [{"server": "echo", "tools": [{"name": "say", "as": "talk"}]}]}
        assert (await door.rest("POST", "/v1/sets", picked)).status == 201
        await door.modern("/mcp", door.agent).call("echo__say")
        await door.modern("/servers/echo/mcp", door.agent).call("say")
        for path, name in (("/sets/picked/mcp", "talk"), ("/servers/echo/mcp", "say"), ("/mcp", "echo__say")):
            with pytest.raises(McpError) as refused:
                await door.modern(path, door.agent).call(name)
            assert refused.value.code == -31002
        assert len(made.received) == 2
