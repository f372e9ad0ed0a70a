"""`/metrics`: what it tells after calls of every outcome, who may read it, and that its series have a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metrics import Metrics
from gateway.observability.names import METRICS
from gateway.observability.tally import MOST_SERVERS, Tally
from registry.usage.calls import Call
from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.echo import echo
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.made import call
from tests.support import faulty as faults
from tests.support.faulty import faulty


def values(text: str) -> dict[str, float]:
    """Every sample, as its text says it."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def scrape(door: Door, key: str | None = None, **headers: str) -> Any:
    made = {"Authorization": f"Bearer {key}"} if key else {}
    return await door.send("GET", "/metrics", made | {name.replace("_", "-"): text for name, text in headers.items()})


async def key_for(door: Door, permission: str) -> str:
    made = await door.rest("POST", "/v1/api-keys", {"name": "some", "permissions": [permission]})
    assert made.status == 201, made.body
    return next(str(value) for value in made.json().values() if str(value).startswith("mcp_") and len(str(value)) > 40)


async def test_calls_of_every_outcome_are_told(door: Door) -> None:
    async with echo() as good, faulty({"hang": faults.hang, "reset": faults.reset_before}, modern=True) as bad:
        await door.register("good", good.url)
        await door.register("bad", bad.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        for name in ["good__say"] * 3 + ["bad__reset"] * 6:
            await speaker.call(name).done()
        await speaker.call("gatehouse__servers_get", {"server": "nope"}).done()
        reader = await Speaker.of(door, "legacy", "/mcp")
        await reader.call("good__say").done()
        looker = await Speaker.of(door, "modern", "/mcp", await key_for(door, "mcp:tools:list"))
        assert (await looker.call("good__say").done()).status == 403
        told = values((await scrape(door)).body.decode())
    assert told["gatehouse_calls_total{outcome=ok,server=good}"] == 4
    assert told["gatehouse_calls_total{outcome=unknown,server=bad}"] == 5
    assert told["gatehouse_calls_total{outcome=not_sent,server=bad}"] == 1
    assert told["gatehouse_calls_total{outcome=tool_error,server=gatehouse}"] == 1
    assert told["gatehouse_call_duration_seconds_count{server=good}"] == 5
    assert told["gatehouse_call_duration_seconds_bucket{le=+Inf,server=good}"] == 5
    assert told["gatehouse_call_bytes_total{direction=in,server=good}"] > 100
    assert told["gatehouse_upstream_requests_total{server=good}"] == 4
    assert told["gatehouse_upstream_requests_total{server=bad}"] == 5
    assert told["gatehouse_breaker_state{server=bad}"] == 2
    assert told["gatehouse_breaker_opened_total{server=bad}"] == 1
    assert told["gatehouse_breaker_state{server=good}"] == 0
    assert told["gatehouse_upstream_connections{server=good,state=in_use}"] == 0
    assert told["gatehouse_upstream_connections{server=bad,state=idle}"] == 0
    assert told["gatehouse_sessions{}"] == 1
    assert told["gatehouse_calls_in_flight{}"] == 0
    assert told["process_resident_memory_bytes{}"] > 0
    assert told["gatehouse_calls_total{outcome=denied,server=good}"] == 1
    assert told["gatehouse_refusals_total{rule=permission}"] == 1


async def test_every_metric_of_the_list_is_told_and_no_other(door: Door) -> None:
    async with echo() as good:
        await door.register("good", good.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        await speaker.call("good__say").done()
        families = list(text_string_to_metric_families((await scrape(door)).body.decode()))
    told = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert {name for name in told if not name.startswith("process_")} == METRICS.keys()
    for family in families:
        metric = METRICS.get(family.name + ("_total" if family.type == "counter" else ""))
        if metric is not None:
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            assert all(sample.labels.keys() - {"le"} == set(metric.labels) for sample in family.samples)


async def test_what_is_under_way_shows(door: Door) -> None:
    async with faulty({"hang": faults.hang}, modern=True) as bad:
        await door.register("bad", bad.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        calls = [speaker.call("bad__hang") for _ in range(3)]
        await bad.until(lambda: bad.calls == 3)
        told = values((await scrape(door)).body.decode())
        for one in calls:
            one.go()
            await one.done()
    assert told["gatehouse_calls_in_flight{}"] == 3
    assert told["gatehouse_upstream_calls{server=bad,state=under_way}"] == 3
    assert told["gatehouse_upstream_connections{server=bad,state=in_use}"] == 3


async def test_who_may_read(door: Door) -> None:
    assert (await scrape(door)).status == 200
    for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
        assert (await scrape(door, **{header: "127.0.0.1"})).status == 401
    door.client = "192.0.2.7"
    assert (await scrape(door)).status == 401
    assert (await scrape(door, door.agent)).status == 403
    key = await key_for(door, "gateway:metrics")
    answer = await scrape(door, key)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await door.rest("GET", "/v1/mcp/servers", key=key)).status == 403


@pytest.mark.parametrize(
    ("settings", "status"),
    [({"metrics": "off"}, 404), ({"metrics": "key"}, 401), ({"trusted_proxies": ("10.0.0.1",)}, 401)],
)
async def test_settings_close_it(tmp_path: Path, settings: dict[str, Any], status: int) -> None:
    async with opened(tmp_path / "data", **settings) as door:
        assert (await scrape(door)).status == status


def test_ten_thousand_servers_add_a_bounded_number_of_series() -> None:
    tally = Tally()
    calls: list[Call] = [call(n)._replace(server_slug=f"s{n}", outcome="denied", error_code=-n) for n in range(10_000)]
    tally.observe(calls)
    assert len(tally.servers) == MOST_SERVERS + 1
    assert sum(sum(entry.outcomes.values()) for entry in tally.servers.values()) == 10_000
    assert tally.servers["other"].outcomes["denied"] == 10_000 - MOST_SERVERS
    assert tally.refusals == {"other": 10_000}

    class Nothing:
        def guards(self) -> list[Any]:
            return []

        def connections(self) -> list[Any]:
            return []

    text = Metrics(tally, Nothing(), lambda: None, dict).render().decode()
    assert len([line for line in text.splitlines() if line.startswith("gatehouse_")]) < 3000


def test_durations_fall_into_their_buckets() -> None:
    tally = Tally()
    tally.observe([call(1)._replace(duration_us=us) for us in (1, 1000, 1001, 60_000_000, 60_000_001)])
    buckets = tally.servers["s"].buckets
    assert (buckets[0], buckets[1], buckets[-2], buckets[-1]) == (2, 1, 1, 1)
    assert tally.servers["s"].microseconds == 120_002_003
