"""Containers of stdio servers: one for each, as its server wants it now, and gone with it."""

from __future__ import annotations

import pytest

from registry.servers.contained import Contained, complaint, pack, unpack
from registry.servers.models import Server
from registry.workspaces.errors import EngineMissing, WorkspaceNotRunning
from registry.workspaces.programs import KEEP
from tests.registry.workspaces.conftest import Yard
from tests.support.identity import Person
from workspace_runtime.runtime import HOSTS_LABEL, NETWORK_LABEL, NotRunning, State

SERVER = "0d3f8a1e-8a5c-4a53-9e2b-5d1f3c7a9b10"
NAME = f"gatehouse-gw-server-{SERVER}"


async def start(yard: Yard, contained: Contained) -> None:
    """Up to where the program would run; none does in memory."""
    with pytest.raises(NotRunning, match="do not run in memory"):
        async with yard.programs.run(SERVER, contained, ["program"], {}):
            raise AssertionError("it ran")


async def test_a_container_is_made_started_again_and_changed(yard: Yard) -> None:
    await start(yard, Contained())
    assert yard.runtime.states() == {NAME: State.RUNNING}
    made = yard.runtime.containers[NAME]
    assert (made.image, made.labels[NETWORK_LABEL]) == ("workspace", "none")
    yard.runtime.die(NAME)
    await start(yard, Contained())
    assert (yard.runtime.states(), yard.runtime.starts) == ({NAME: State.RUNNING}, 2)
    await start(yard, Contained(network="allowlist", hosts=("example.org",)))
    changed = yard.runtime.containers[NAME]
    assert (changed.labels[NETWORK_LABEL], changed.labels[HOSTS_LABEL]) == ("allowlist", "example.org")


async def test_our_image_is_built_and_others_are_not(yard: Yard) -> None:
    yard.runtime.images.clear()
    with pytest.raises(WorkspaceNotRunning, match="no image other"):
        await start(yard, Contained(image="other"))
    await start(yard, Contained())
    assert yard.runtime.builds == 1


async def test_it_says_why_it_cannot_be_had(yard: Yard) -> None:
    yard.runtime.broken = True
    with pytest.raises(WorkspaceNotRunning, match="does not feel like it"):
        await start(yard, Contained())
    yard.runtime.down = True
    with pytest.raises(EngineMissing, match="start Docker"):
        await start(yard, Contained())
    yard.runtime.isolates = False
    with pytest.raises(WorkspaceNotRunning, match="has none"):
        await start(yard, Contained())


async def test_it_goes_with_its_server_and_no_sooner(yard: Yard, owner: Person) -> None:
    async with yard.database.transaction() as session:
        now = yard.clock.now()
        server = Server(id=SERVER, org_id=owner.principal.org_id, slug="one", name="one", transport="stdio",
                        command="program", container=pack(Contained()), created_at=now, updated_at=now)  # fmt: skip
        session.add(server)
    await start(yard, Contained())
    yard.clock.advance(2 * KEEP.total_seconds())
    await yard.round()
    assert yard.runtime.states() == {NAME: State.RUNNING}
    async with yard.database.transaction() as session:
        (await session.get_one(Server, SERVER)).deleted_at = yard.clock.now()
    await yard.round()
    assert (yard.runtime.containers, yard.runtime.volumes) == ({}, set())


async def test_one_whose_server_is_not_stored_yet_is_left_alone(yard: Yard) -> None:
    await start(yard, Contained())
    yard.clock.advance(KEEP.total_seconds() - 1)
    await yard.round()
    assert yard.runtime.states() == {NAME: State.RUNNING}
    yard.clock.advance(1)
    await yard.round()
    assert yard.runtime.states() == {}


def test_what_is_said_of_a_container() -> None:
    contained = Contained("other", "allowlist", ("example.org", "*.example.org:8443"))
    assert unpack(pack(contained)) == contained
    assert (pack(None), unpack(None)) == (None, None)
    assert complaint("allowlist", ("example.org",)) is None
    assert complaint("none", ("example.org",)) is not None
    assert complaint("allowlist", ()) is not None
    assert complaint("allowlist", ("http://x",)) is not None
