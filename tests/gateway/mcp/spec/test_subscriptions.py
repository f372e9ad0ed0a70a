"""Subscriptions: what is told, to whom, under which id, and that nothing is told that was not asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway.mcp.echo import echo
from tests.gateway.mcp.exchange import Exchange
from tests.gateway.mcp.spec.conftest import ERAS, SLUGS, Caller, Stage
from tests.gateway.mcp.spec.server import NOTE, Spoken

requirement = pytest.mark.requirement
servers = pytest.mark.parametrize("server", ERAS)
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
ALL = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
CHANGES = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
RESOURCE_NOT_FOUND, INVALID_PARAMS = -32002, -32602


@asynccontextmanager
async def listening(caller: Caller, wanted: dict[str, Any], identifier: Any = "l1") -> AsyncIterator[Exchange]:
    stream = caller.begin("subscriptions/listen", {"notifications": wanted}, identifier)
    await stream.until(b"acknowledged")
    try:
        yield stream
    finally:
        stream.go()
        await asyncio.wait_for(stream.done(), 30)


async def change(stage: Stage, name: str) -> None:
    """Something else is listed: a server with everything comes and goes."""
    offer = {"resources": [{"uri": f"{name}://a", "name": "a"}], "prompts": [{"name": "p"}]}
    async with echo(**offer) as server:
        made = await stage.door.register(name, server.url)
        await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")


def heard(stream: Exchange) -> list[str]:
    return [one["method"] for one in stream.messages() if "method" in one][1:]


@requirement("subscriptions.acknowledged-first", "subscriptions.id-on-everything", "subscriptions.graceful-end")
@pytest.mark.parametrize("identifier", ["l1", 7])
async def test_a_subscription_from_its_beginning_to_its_end(stage: Stage, identifier: Any) -> None:
    caller = await stage.client("modern")
    async with listening(caller, ALL, identifier) as stream:
        await change(stage, "first")
        for method in CHANGES:
            await stream.until(method.encode())
        stage.door.app.path.notices.end_all()
        await asyncio.wait_for(stream.done(), 30)
        first, *notices, last = stream.messages()
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == ALL
        for message in (first, *notices):
            assert message["params"]["_meta"] == {SUBSCRIPTION: identifier}
        assert last == {
            "jsonrpc": "2.0",
            "id": identifier,
            "result": {"resultType": "complete", "_meta": {SUBSCRIPTION: identifier}},
        }


@requirement("subscriptions.only-what-was-asked")
@pytest.mark.parametrize("wanted", sorted(ALL))
async def test_nothing_is_told_that_was_not_asked_for(stage: Stage, wanted: str) -> None:
    caller = await stage.client("modern")
    method = f"notifications/{wanted.removesuffix('ListChanged')}/list_changed"
    async with listening(caller, {wanted: True}) as stream, listening(caller, {}) as mute:
        await change(stage, f"only-{wanted.lower()[:4]}")
        await stream.until(method.encode())
        assert set(heard(stream)) == {method}
        assert heard(mute) == []


@requirement("subscriptions.agreed-subset")
async def test_only_what_will_be_told_is_acknowledged(stage: Stage) -> None:
    caller = await stage.client("modern")
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": False,
        "unheardOf": True,
        "resourceSubscriptions": [f"new+{NOTE}", "nobody+x://y"],
    }
    async with listening(caller, wanted) as stream:
        agreed = stream.messages()[0]["params"]["notifications"]
        assert agreed == {"toolsListChanged": True, "resourceSubscriptions": [f"new+{NOTE}"]}


@requirement("subscriptions.several-at-once")
async def test_several_subscriptions_are_told_apart_by_their_ids(stage: Stage) -> None:
    caller = await stage.client("modern")
    async with listening(caller, ALL, "a") as one, listening(caller, {"toolsListChanged": True}, "b") as two:
        await change(stage, "several")
        for stream, identifier in ((one, "a"), (two, "b")):
            await stream.until(b"tools/list_changed")
            assert {message["params"]["_meta"][SUBSCRIPTION] for message in stream.messages()} == {identifier}


@requirement("subscriptions.malformed")
@pytest.mark.parametrize(
    "params", [{"notifications": 5}, {"notifications": {"resourceSubscriptions": 5}}, {"notifications": []}]
)
async def test_a_filter_of_another_form_is_refused(stage: Stage, params: dict[str, Any]) -> None:
    # One that is taken has no end.
    answer = await asyncio.wait_for((await stage.client("modern")).ask("subscriptions/listen", params), 30)
    assert answer["error"]["code"] == INVALID_PARAMS


async def watched(server: Spoken, uri: str) -> None:
    """Wait until the server is listened to with that resource."""

    def met() -> bool:
        if server.modern:
            wanted = [line.message["params"]["notifications"] for line in server.lines]
            return any(uri in one.get("resourceSubscriptions", []) for one in wanted)
        return bool(server.lines) and any(
            message["params"]["uri"] == uri for _, message in server.requests_of("resources/subscribe")
        )

    await server.until(met)


@requirement("resources.updates-modern", "bridge.updates")
@servers
async def test_a_modern_client_hears_of_the_resources_that_it_watches(stage: Stage, server: str) -> None:
    caller = await stage.client("modern")
    uri = f"{SLUGS[server]}+{NOTE}"
    async with listening(caller, {"resourceSubscriptions": [uri]}) as stream, listening(caller, ALL, "x") as other:
        upstream = stage.server(server)
        await watched(upstream, NOTE)
        await upstream.push("notifications/resources/updated", uri="note://another")
        await upstream.push("notifications/resources/updated", uri=NOTE)
        await stream.until(b"resources/updated")
        (told,) = [one for one in stream.messages() if one["method"] == "notifications/resources/updated"]
        assert told["params"] == {"uri": uri, "_meta": {SUBSCRIPTION: "l1"}}
        assert b"resources/updated" not in other.body


@requirement("resources.subscribe-legacy", "resources.unsubscribe-legacy", "bridge.updates")
@servers
async def test_a_legacy_client_hears_of_the_resources_that_it_watches(stage: Stage, server: str) -> None:
    caller = await stage.client("legacy")
    uri = f"{SLUGS[server]}+{NOTE}"
    stream = caller.speaker.send("GET")
    await stream.until(b"\n\n")
    assert await caller.result("resources/subscribe", {"uri": uri}) == {}
    upstream = stage.server(server)
    await watched(upstream, NOTE)
    await upstream.push("notifications/resources/updated", uri=NOTE)
    await stream.until(b"resources/updated")
    (told,) = [one for one in stream.messages() if one["method"] == "notifications/resources/updated"]
    assert told["params"] == {"uri": uri}
    assert await caller.result("resources/unsubscribe", {"uri": uri}) == {}
    await upstream.push("notifications/resources/updated", uri=NOTE)
    await change(stage, f"after-{server}")
    await stream.until(b"tools/list_changed")
    assert stream.body.count(b"resources/updated") == 1
    stream.go()
    await asyncio.wait_for(stream.done(), 30)


@requirement("resources.subscribe-unknown")
async def test_what_is_not_there_cannot_be_watched(stage: Stage) -> None:
    caller = await stage.client("legacy")
    for method in ("resources/subscribe", "resources/unsubscribe"):
        answer = await caller.ask(method, {"uri": "nobody+x://y"})
        assert answer["error"]["code"] == RESOURCE_NOT_FOUND


@requirement("tools.list-changed", "prompts.list-changed", "resources.list-changed", "bridge.list-changes")
@servers
async def test_a_servers_own_notice_makes_its_lists_be_read_anew(stage: Stage, server: str) -> None:
    upstream = stage.server(server)
    await upstream.until(lambda: bool(upstream.lines))
    before = len(upstream.requests_of("tools/list"))
    await upstream.push("notifications/tools/list_changed")
    await asyncio.wait_for(upstream.until(lambda: len(upstream.requests_of("tools/list")) > before), 30)
    legacy = await stage.client("legacy")
    await legacy.result("tools/list")
    stream = legacy.speaker.send("GET")
    await stream.until(b"\n\n")
    await change(stage, f"notice-{server}")
    for method in CHANGES:
        await stream.until(method.encode())
    stream.go()
    await asyncio.wait_for(stream.done(), 30)
