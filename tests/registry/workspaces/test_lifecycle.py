"""Containers follow what is wanted of them: start, stop, wake, restart, and everything that goes wrong meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from registry.core.db import Session
from registry.core.leases import HeldLease, Lease
from registry.identity.models import User
from registry.workspaces import lifecycle
from registry.workspaces.errors import EngineMissing, WorkspaceNotRunning
from registry.workspaces.models import Workspace
from registry.workspaces.sweep import ASK_SECONDS, LEASE_SECONDS, RENEW_SECONDS
from tests.gateway.mcp.echo import echo
from tests.registry.workspaces.conftest import Yard
from tests.support.identity import Person
from workspace_runtime.runtime import GATEWAY_LABEL, Container, ContainerSpec, State


@pytest.fixture
async def workspace(yard: Yard, owner: Person) -> Workspace:
    made = await yard.create(owner, "one")
    await yard.lifecycle.settled()
    return await yard.see(made.id)


async def test_stop_and_start(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("stop", owner, workspace.id)
    assert (await yard.see(workspace.id)).status == "inactive"
    await yard.lifecycle.settled()
    assert yard.runtime.states() == {yard.name_of(workspace): State.EXITED}
    assert (await yard.see(workspace.id)).container_status == "stopped"
    await yard.steer("start", owner, workspace.id)
    await yard.lifecycle.settled()
    assert yard.runtime.states() == {yard.name_of(workspace): State.RUNNING}
    assert await yard.events(owner, workspace.id) == ["create", "started", "stop", "stopped", "start", "started"]


async def test_restart_starts_the_container_anew(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("restart", owner, workspace.id)
    # It may be over before anybody looks.
    assert (await yard.see(workspace.id)).container_status in {"restarting", "running"}
    await yard.lifecycle.settled()
    assert (yard.runtime.starts, (await yard.see(workspace.id)).container_status) == (2, "running")


async def test_deleting_takes_the_container_and_keeps_the_files(
    yard: Yard, owner: Person, workspace: Workspace
) -> None:
    await yard.steer("remove", owner, workspace.id)
    await yard.lifecycle.settled()
    assert (yard.runtime.containers, yard.runtime.volumes) == ({}, {yard.name_of(workspace)})
    seen = await yard.see(workspace.id)
    assert (seen.status, seen.container_status, seen.container_id) == ("deleted", "stopped", None)


async def test_the_image_is_built_when_it_is_missing(yard: Yard, owner: Person) -> None:
    yard.runtime.images.clear()
    made = await asyncio.gather(*(yard.create(owner, name) for name in ("one", "two", "three")))
    await yard.lifecycle.settled()
    assert yard.runtime.builds == 1
    assert {(await yard.see(one.id)).container_status for one in made} == {"running"}


async def test_a_start_that_fails_is_told_and_tried_again_later(yard: Yard, owner: Person) -> None:
    yard.runtime.broken = True
    made = await yard.create(owner, "one")
    await yard.lifecycle.settled()
    seen = await yard.see(made.id)
    assert (seen.container_status, seen.failures) == ("failed", 1)
    assert seen.problem == "the container ended: it does not feel like it"
    await yard.round()
    assert (await yard.see(made.id)).failures == 1
    yard.clock.advance(5)
    await yard.round()
    assert (await yard.see(made.id)).failures == 2
    yard.runtime.broken = False
    yard.clock.advance(10)
    await yard.round()
    seen = await yard.see(made.id)
    assert (seen.container_status, seen.problem, seen.failures) == ("running", None, 0)


async def test_a_container_that_is_there_already_is_taken_over(yard: Yard, owner: Person) -> None:
    labels = {GATEWAY_LABEL: "gw"}
    made = await yard.runtime.create(ContainerSpec("gatehouse-gw-1", "1", "gw", "workspace", "v", labels=labels))
    await yard.runtime.start(made.id)
    workspace = await yard.create(owner, "one")
    await yard.lifecycle.settled()
    assert ((await yard.see(workspace.id)).container_id, yard.runtime.starts) == (made.id, 1)


# -- calls


async def test_a_call_wakes_what_sleeps(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("stop", owner, workspace.id)
    await yard.lifecycle.settled()
    async with echo(modern=True) as server:
        assert server.listener is not None
        yard.runtime.server = ("127.0.0.1", server.listener.port)
        made = await asyncio.gather(*(yard.lifecycle.connect(workspace.id, asyncio.Protocol) for _ in range(5)))
        for transport, _ in made:
            transport.close()
    seen = await yard.see(workspace.id)
    assert (seen.status, seen.container_status, yard.runtime.starts) == ("active", "running", 2)
    assert (await yard.events(owner, workspace.id))[-2:] == ["woken", "started"]


async def test_two_calls_wake_once_however_slow_one_of_them_is(
    yard: Yard, owner: Person, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.steer("stop", owner, workspace.id)
    await yard.lifecycle.settled()
    get, begun, go_on = Session.get, asyncio.Event(), asyncio.Event()

    async def slowly(session: Session, entity: Any, *args: Any, **options: Any) -> Any:
        if entity is User and not begun.is_set():
            begun.set()
            await go_on.wait()
        return await get(session, entity, *args, **options)

    monkeypatch.setattr(Session, "get", slowly)
    slow = asyncio.create_task(yard.lifecycle.wake(workspace.id))
    await begun.wait()
    quick = asyncio.create_task(yard.lifecycle.wake(workspace.id))
    # It waits for the slow one, or has not waited and is done before long.
    await asyncio.wait([quick], timeout=0.5)
    go_on.set()
    await asyncio.gather(slow, quick)
    assert (await yard.events(owner, workspace.id))[-2:] == ["woken", "started"]


async def test_a_call_finds_out_that_the_container_is_gone(yard: Yard, workspace: Workspace) -> None:
    async with echo(modern=True) as server:
        assert server.listener is not None
        yard.runtime.server = ("127.0.0.1", server.listener.port)
        yard.runtime.die(yard.name_of(workspace))
        transport, _ = await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
        transport.close()
        yard.runtime.containers.clear()
        transport, _ = await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
        transport.close()
    assert yard.runtime.starts == 3


async def test_a_call_waits_no_longer_than_it_should(
    yard: Yard, owner: Person, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.steer("stop", owner, workspace.id)
    await yard.lifecycle.settled()
    monkeypatch.setattr(lifecycle, "WAKE_SECONDS", 0.01)
    yard.runtime.slow = asyncio.Event()
    with pytest.raises(WorkspaceNotRunning, match=r"did not start in 0 s\. It is still starting\. Try again"):
        await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
    # The start goes on for the next one.
    yard.runtime.slow.set()
    await yard.lifecycle.settled()
    assert (await yard.see(workspace.id)).container_status == "running"


async def test_a_call_is_told_why_it_does_not_run(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("stop", owner, workspace.id)
    await yard.lifecycle.settled()
    yard.runtime.broken = True
    with pytest.raises(WorkspaceNotRunning, match="it does not feel like it"):
        await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
    yard.runtime.down = True
    with pytest.raises(EngineMissing, match="does not answer"):
        await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
    await yard.deactivate(owner)
    with pytest.raises(WorkspaceNotRunning, match="deactivated"):
        await yard.lifecycle.connect(workspace.id, asyncio.Protocol)


async def test_a_budget_that_is_used_up_keeps_it_asleep(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("stop", owner, workspace.id)
    await yard.lifecycle.settled()
    yard.refusals = ["the minutes of this month are used up"]
    with pytest.raises(WorkspaceNotRunning, match="used up"):
        await yard.lifecycle.connect(workspace.id, asyncio.Protocol)
    seen = await yard.see(workspace.id)
    assert (seen.status, seen.container_status) == ("inactive", "stopped")
    assert seen.problem == "the minutes of this month are used up"
    assert yard.runtime.states() == {yard.name_of(workspace): State.EXITED}


# -- what nobody told of


async def test_a_gateway_that_starts_finds_what_runs(yard: Yard, owner: Person, workspace: Workspace) -> None:
    other = Yard(yard.database, yard.clock, yard.runtime)
    await other.round()
    async with echo(modern=True) as server:
        assert server.listener is not None
        yard.runtime.server = ("127.0.0.1", server.listener.port)
        transport, _ = await other.lifecycle.connect(workspace.id, asyncio.Protocol)
        transport.close()
    assert yard.runtime.starts == 1
    await other.lifecycle.stop()


async def test_an_engine_that_was_restarted_gets_its_containers_back(
    yard: Yard, owner: Person, workspace: Workspace
) -> None:
    yard.runtime.die(yard.name_of(workspace))
    yard.runtime.down = True
    with pytest.raises(Exception, match="does not answer"):
        await yard.round()
    assert (await yard.see(workspace.id)).status == "active"
    yard.runtime.down = False
    await yard.round()
    assert yard.runtime.states() == {yard.name_of(workspace): State.RUNNING}
    assert (await yard.events(owner, workspace.id))[-2:] == ["exited", "started"]


async def test_what_nobody_uses_is_put_to_sleep(yard: Yard, owner: Person, workspace: Workspace) -> None:
    yard.clock.advance(599)
    await yard.round()
    assert (await yard.see(workspace.id)).status == "active"
    yard.lifecycle.begin(workspace.id)
    yard.clock.advance(599)
    await yard.round()
    assert (await yard.see(workspace.id)).status == "active", "a call is under way"
    yard.lifecycle.end(workspace.id)
    yard.clock.advance(599)
    await yard.round()
    assert (await yard.see(workspace.id)).status == "active", "the call has ended just now"
    yard.clock.advance(600)
    await yard.round()
    assert yard.runtime.states() == {yard.name_of(workspace): State.EXITED}
    assert (await yard.events(owner, workspace.id))[-2:] == ["sleep", "stopped"]


async def test_containers_without_a_workspace_are_removed_and_others_left(
    yard: Yard, owner: Person, workspace: Workspace
) -> None:
    for gateway, number in (("gw", 99), ("other", 98)):
        await yard.runtime.create(ContainerSpec(f"c{number}", str(number), gateway, "workspace", "v"))
    await yard.round()
    assert set(yard.runtime.containers) == {yard.name_of(workspace), "c98"}


async def test_deactivating_the_owner_stops_all_of_theirs(yard: Yard, owner: Person, colleague: Person) -> None:
    mine = [await yard.create(owner, name) for name in ("one", "two")]
    other = await yard.create(colleague, "one")
    await yard.lifecycle.settled()
    await yard.deactivate(owner)
    await yard.round()
    assert {(await yard.see(one.id)).container_status for one in mine} == {"stopped"}
    assert (await yard.see(other.id)).container_status == "running"


async def test_what_is_used_is_written_down(yard: Yard, owner: Person, workspace: Workspace) -> None:
    yard.charged.clear()
    yard.runtime.cpu_seconds = 2.0
    yard.clock.advance(30)
    await yard.round()
    yard.runtime.cpu_seconds = 5.0
    yard.clock.advance(40)
    await yard.round()
    async with yard.database.reading() as session:
        (hour,) = (await yard.service.usage(session, owner.principal, workspace.id)).hours
    assert (hour.seconds, hour.cpu_seconds, hour.memory_gb_seconds) == (70.0, 5.0, 0.000_07)
    assert yard.charged == [(f"workspace:{workspace.id}", 0.5), (f"workspace:{workspace.id}", 40 / 60)]
    yard.refusals = ["no more minutes"]
    yard.clock.advance(30)
    await yard.round()
    assert yard.runtime.states() == {yard.name_of(workspace): State.EXITED}


async def test_the_files_of_what_was_deleted_go_after_a_week(yard: Yard, owner: Person, workspace: Workspace) -> None:
    await yard.steer("remove", owner, workspace.id)
    await yard.lifecycle.settled()
    for seconds, left in ((6 * 86400, 1), (86400, 0)):
        yard.clock.advance(seconds)
        await yard.round()
        assert len(yard.runtime.volumes) == left
    assert (await yard.see(workspace.id)).container_status == "removed"


async def test_one_process_at_a_time_looks_after_them(yard: Yard, owner: Person, workspace: Workspace) -> None:
    other = Yard(yard.database, yard.clock, yard.runtime)
    await yard.round()
    yard.runtime.die(yard.name_of(workspace))
    await other.round()
    assert yard.runtime.states() == {yard.name_of(workspace): State.EXITED}
    await yard.round()
    assert yard.runtime.states() == {yard.name_of(workspace): State.RUNNING}
    await other.lifecycle.stop()


async def test_what_a_dead_process_looked_after_is_taken_over_within_ten_seconds(
    yard: Yard, workspace: Workspace
) -> None:
    other = Yard(yard.database, yard.clock, yard.runtime)
    await yard.round()
    yard.runtime.die(yard.name_of(workspace))  # and so does the process that holds the lease
    waited = ASK_SECONDS  # the other may have looked just before
    while yard.runtime.states() == {yard.name_of(workspace): State.EXITED}:
        yard.clock.advance(ASK_SECONDS)
        waited += ASK_SECONDS
        assert waited < 10
        await other.round()
    await other.lifecycle.stop()


async def test_a_round_that_takes_long_keeps_the_lease(
    yard: Yard, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, go_on = asyncio.Event(), asyncio.Event()
    listed = yard.runtime.list

    async def slowly(labels: Mapping[str, str]) -> list[Container]:
        stuck.set()
        await go_on.wait()
        return await listed(labels)

    await yard.round()
    monkeypatch.setattr(yard.runtime, "list", slowly)
    yard.sweep.start()
    await stuck.wait()
    other = Lease(yard.database, yard.clock, "workspaces.sweep", LEASE_SECONDS)
    async with asyncio.timeout(30):
        for _ in range(5):
            yard.clock.advance(RENEW_SECONDS)
            while await left_of_lease(yard) <= LEASE_SECONDS - 2 * RENEW_SECONDS:
                await asyncio.sleep(0.01)
            assert not await other.hold()
    go_on.set()
    await yard.sweep.stop()
    assert await other.hold(), "who stops lets go at once"


async def left_of_lease(yard: Yard) -> float:
    """Seconds."""
    async with yard.database.reading() as session:
        held = await session.get_one(HeldLease, "workspaces.sweep")
    return (held.expires_at - yard.clock.now()).total_seconds()
