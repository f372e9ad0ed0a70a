"""Registry API, Health Monitoring of a server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door

STATUS = "GET /v1/mcp/servers/{server_id}/health"
CONFIG = "/v1/mcp/servers/{server_id}/health/config"
METRICS = "GET /v1/mcp/servers/{server_id}/health/metrics"
ALERTS = "/v1/mcp/servers/{server_id}/health/alerts"
CHANNELS = "/v1/mcp/servers/{server_id}/health/notifications"
NOBODY = "http://127.0.0.1:9/mcp"


@covers("GET /v1/mcp/servers/{server_id}/health")
async def test_the_health_of_a_server_is_told(client: Client) -> None:
    found = await client.ask(STATUS)
    assert (found["server_id"], found["health_status"]) == (client.server, "healthy")
    assert set(found["checks"].values()) == {"healthy"}
    assert (found["error_message"], found["uptime_percentage"]) == (None, 100.0)
    assert found["response_time_ms"] > 0


@covers("GET /v1/mcp/servers/{server_id}/health")
async def test_what_is_wrong_with_a_server_is_told(client: Client) -> None:
    made = await client.ask("POST /v1/mcp/servers", {"name": "Nobody", "base_url": NOBODY})
    found = await client.ask(STATUS, server_id=made["id"])
    assert (found["health_status"], found["checks"]["connectivity"]) == ("unhealthy", "unhealthy")
    assert found["error_message"]
    assert found["uptime_percentage"] == 0


@covers("GET /v1/mcp/servers/{server_id}/health/config", "PUT /v1/mcp/servers/{server_id}/health/config")
async def test_how_a_server_is_watched_is_said(client: Client, door: Door) -> None:
    document = {
        "enabled": True,
        "check_interval_seconds": 300,
        "timeout_seconds": 30,
        "retry_count": 3,
        "alert_thresholds": {"response_time_ms": 5000, "uptime_percentage": 95.0},
    }
    before = await client.ask(f"GET {CONFIG}")
    assert {name: before[name] for name in document} == document
    sent = document | {"enabled": False, "check_interval_seconds": 60, "retry_count": 0}
    after = await client.ask(f"PUT {CONFIG}", sent)
    assert {name: after[name] for name in sent} == sent
    assert await client.ask(f"GET {CONFIG}") == after
    # What is left out stays as it is.
    partly = await client.ask(f"PUT {CONFIG}", {"alert_thresholds": {"response_time_ms": 100}})
    assert partly == after | {"alert_thresholds": {"response_time_ms": 100, "uptime_percentage": 95.0}}
    shown = (await client.ask("GET /v1/mcp/servers/{server_id}"))["server_metadata"]["health_config"]
    assert shown == {name: sent[name] for name in shown}
    for wrong in ({"check_interval_seconds": 0}, {"timeout_seconds": "soon"}, {"retry_count": -1}, {"colour": "red"}):
        await client.refused(f"PUT {CONFIG}", 422, wrong)
    backwards = {"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}
    await client.refused(f"PUT {CONFIG}", 422, {"maintenance_windows": [backwards]})
    await client.refused(f"PUT {CONFIG}", 403, {}, key=door.agent)


@covers("GET /v1/mcp/servers/{server_id}/health/metrics")
async def test_checks_are_told_over_time(client: Client) -> None:
    for _ in range(3):
        await client.ask("POST /v1/mcp/servers/{server_id}/capabilities/discover")
    found = await client.ask(METRICS)
    assert found["server_id"] == client.server
    assert (found["summary"]["total_checks"], found["summary"]["successful_checks"]) == (4, 4)
    assert (found["summary"]["failed_checks"], found["summary"]["uptime_percentage"]) == (0, 100.0)
    assert [(point["status"], point["uptime"]) for point in found["metrics"]] == [("healthy", True)] * 4
    for granularity in ("1m", "5m", "1h", "1d"):
        rolled = await client.ask(METRICS, query=f"granularity={granularity}")
        assert sum(point["checks"] for point in rolled["metrics"]) == 4
        assert rolled["summary"] == found["summary"]


@covers("GET /v1/mcp/servers/{server_id}/health/metrics")
async def test_a_period_is_kept_to(client: Client) -> None:
    now = datetime.now(UTC)

    def query(start: datetime, end: datetime, more: str = "") -> str:
        times = (start.strftime("%Y-%m-%dT%H:%M:%SZ"), end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        return f"start_time={times[0]}&end_time={times[1]}{more}"

    hours = timedelta(hours=1)
    before = await client.ask(METRICS, query=query(now - 2 * hours, now - hours))
    assert (before["summary"]["total_checks"], before["metrics"]) == (0, [])
    assert before["summary"]["uptime_percentage"] is None
    around = await client.ask(METRICS, query=query(now - hours, now + hours))
    assert around["summary"]["total_checks"] == 1
    assert around["period"]["start_time"] == (now - hours).strftime("%Y-%m-%dT%H:%M:%SZ")
    await client.refused(METRICS, 422, query=query(now, now - hours))
    await client.refused(METRICS, 422, query=query(now - 1000 * 24 * hours, now, "&granularity=1m"))
    await client.refused(METRICS, 422, query="granularity=2m")
    await client.refused(METRICS, 422, query="start_time=yesterday")


@covers("GET /v1/mcp/servers/{server_id}/health/alerts", "POST /v1/mcp/servers/{server_id}/health/alerts")
async def test_alerts_are_raised_and_resolved(client: Client, door: Door) -> None:
    assert (await client.ask(f"GET {ALERTS}"))["alerts"] == []
    sent = {
        "type": "custom_alert",
        "severity": "critical",
        "message": "Custom alert message",
        "metadata": {"custom_field": "value"},
    }
    made = await client.ask(f"POST {ALERTS}", sent)
    assert {name: made[name] for name in sent} == sent
    assert (made["server_id"], made["resolved_at"]) == (client.server, None)
    assert (await client.ask(f"GET {ALERTS}"))["alerts"] == [made]
    path = f"/v1/mcp/servers/{client.server}/health/alerts/{made['id']}/resolve"
    resolved = await door.rest("POST", path)
    assert (resolved.status, resolved.json()["resolved_at"] is not None) == (200, True)
    assert (await door.rest("POST", path)).status == 409
    assert (await client.ask(f"GET {ALERTS}", query="open_only=true"))["alerts"] == []
    await client.refused(f"POST {ALERTS}", 422, sent | {"severity": "loud"})
    await client.refused(f"POST {ALERTS}", 403, sent, key=door.agent)


@covers("GET /v1/mcp/servers/{server_id}/health/alerts")
async def test_a_server_that_is_down_has_one_alert(client: Client) -> None:
    made = await client.ask("POST /v1/mcp/servers", {"name": "Nobody", "base_url": NOBODY})
    for _ in range(2):
        await client.ask("POST /v1/mcp/servers/{server_id}/capabilities/discover", server_id=client.server)
        await client.send("POST /v1/mcp/servers/{server_id}/capabilities/discover", server_id=made["id"])
    (alert,) = (await client.ask(f"GET {ALERTS}", server_id=made["id"]))["alerts"]
    assert (alert["type"], alert["severity"]) == ("server_unreachable", "critical")


@covers("GET /v1/mcp/servers/{server_id}/health/notifications", "POST /v1/mcp/servers/{server_id}/health/notifications")
@pytest.mark.parametrize(
    ("kind", "config", "shown"),
    [
        ("email", {"recipients": ["admin@example.com"], "template": "health_alert"}, None),
        (
            "slack",
            {"webhook_url": "https://hooks.slack.com/services/T0/B0/secret", "channel": "#alerts"},
            {"webhook_url": "********", "channel": "#alerts"},
        ),
        (
            "webhook",
            {"url": "https://a.test/in"},
            {"url": "https://a.test/in", "secret": "********", "headers": "********"},
        ),
        (
            "pagerduty",
            {"routing_key": "R0"},
            {"routing_key": "********", "url": "https://events.pagerduty.com/v2/enqueue"},
        ),
        ("apprise", {"urls": ["json://a.test"]}, {"urls": "********"}),
    ],
)
async def test_channels_are_made_and_listed(
    client: Client, kind: str, config: dict[str, object], shown: dict[str, object] | None
) -> None:
    sent = {"name": "Notifications", "type": kind, "enabled": True, "config": config}
    made = await client.ask(f"POST {CHANNELS}", sent)
    assert (made["name"], made["type"], made["enabled"]) == ("Notifications", kind, True)
    assert made["config"] == (shown or config)
    made.pop("secrets")
    assert (await client.ask(f"GET {CHANNELS}"))["channels"] == [made]


@covers("POST /v1/mcp/servers/{server_id}/health/notifications")
async def test_channels_that_cannot_work_are_refused(client: Client, door: Door) -> None:
    for kind, config in (
        ("pigeon", {}),
        ("email", {"recipients": []}),
        ("email", {"recipients": ["nobody"]}),
        ("email", {"recipients": ["a@b.test\nBcc: c@d.test"]}),
        ("slack", {"webhook_url": "file:///etc/passwd"}),
        ("slack", {}),
        ("webhook", {"url": "https://a.test", "secret": "short"}),
        ("webhook", {"url": "https://a.test", "colour": "red"}),
    ):
        await client.refused(f"POST {CHANNELS}", 422, {"name": "a", "type": kind, "config": config})
    mail = {"name": "a", "type": "email", "config": {"recipients": ["a@b.test"]}}
    await client.refused(f"POST {CHANNELS}", 403, mail, key=door.agent)


@covers("WEBSOCKET /ws/health/{server_id}")
async def test_a_socket_tells_the_state_first_and_each_check_after_it(client: Client) -> None:
    assert client.server is not None
    async with client.socket(client.server, f"token={client.door.admin}") as socket:
        first = await client.update(socket)
        assert (first["server_id"], first["health_status"]) == (client.server, "healthy")
        await client.ask("POST /v1/mcp/servers/{server_id}/capabilities/discover")
        second = await client.update(socket)
        assert second["timestamp"] > first["timestamp"]


@covers("WEBSOCKET /ws/health/{server_id}")
async def test_a_socket_is_accepted_and_then_closed_for_who_may_not_follow(client: Client, door: Door) -> None:
    assert client.server is not None
    unknown = "00000000-0000-4000-8000-000000000000"
    for server_id, token, code in (
        (client.server, "", 4401),
        (client.server, "token=mcp_nobody", 4401),
        (unknown, f"token={door.admin}", 4404),
        ("server-123", f"token={door.admin}", 4404),
    ):
        async with client.socket(server_id, token) as socket:
            async with asyncio.timeout(30):
                assert [(await socket.get())["type"], (await socket.get())["code"]] == ["websocket.accept", code]


@covers("WEBSOCKET /ws/health/{server_id}")
async def test_a_socket_ends_when_its_server_or_its_key_does(client: Client, door: Door) -> None:
    assert client.server is not None
    key = (await door.rest("POST", "/v1/api-keys", {"name": "reader"})).json()
    async with client.socket(client.server, f"token={key['api_key']}") as socket:
        await client.update(socket)
        await door.rest("DELETE", f"/v1/api-keys/{key['id']}")
        assert await client.closed(socket) == 4401
    async with client.socket(client.server, f"token={door.admin}") as socket:
        await client.update(socket)
        await client.ask("DELETE /v1/mcp/servers/{server_id}")
        assert await client.closed(socket) == 4404
