"""The authenticator remembers briefly, forgets at once, and never waits for what it knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.auth import authenticator as module
from gateway.auth.authenticator import MAX_AGE_SECONDS, REFRESH_SECONDS, Authenticator
from registry.core.db import Database, Session
from registry.core.errors import Unauthenticated
from registry.core.events import EventBus
from registry.identity.models import ApiKey
from registry.identity.principal import Principal
from registry.identity.service import IdentityService
from tests.support.attacks import attack
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_key, add_organization, add_user, make_service


class CountingIdentity(IdentityService):
    """Counts look-ups, and can be told to hold them."""

    lookups = 0
    gate: asyncio.Event | None = None

    async def authenticate_key(self, session: Session, text: str) -> Principal:
        self.lookups += 1
        principal = await super().authenticate_key(session, text)
        if self.gate is not None:
            await self.gate.wait()
        return principal


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def identity(clock: SettableClock) -> CountingIdentity:
    service = make_service(clock)
    service.__class__ = CountingIdentity
    assert isinstance(service, CountingIdentity)
    return service


@pytest.fixture
async def person(database: Database, clock: SettableClock) -> Person:
    return await add_user(database, clock, await add_organization(database, clock, "acme"), "a@acme.test", role="admin")


@pytest.fixture
async def authenticator(
    database: Database, identity: CountingIdentity, events: EventBus, clock: SettableClock
) -> AsyncIterator[Authenticator]:
    made = Authenticator(database, identity, events, clock)
    yield made
    await settle(made)
    await made.close()


async def settle(authenticator: Authenticator) -> None:
    """Wait for the work that goes on in the background."""
    while tasks := [*authenticator._background, *authenticator._looking_up.values()]:
        await asyncio.wait(tasks)


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {text}".encode())]


async def test_each_kind_of_credential_becomes_the_person(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator
) -> None:
    _, key = await add_key(database, identity, person)
    async with database.transaction() as session:
        login = await identity.open_session(session, person.user.id)
    for headers in (
        bearer(key),
        [(b"x-api-key", key.encode())],
        [(b"x-session-id", login.session_id.encode())],
        [(b"cookie", b"gatehouse_session=" + login.session_id.encode())],
        bearer(login.access_token),
    ):
        assert (await authenticator.authenticate(headers, safe=True)).user_id == person.user.id


async def test_what_is_known_is_answered_without_waiting_and_for_a_second_only(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator, clock: SettableClock
) -> None:
    _, key = await add_key(database, identity, person)
    headers = bearer(key)
    assert authenticator.cached(headers) is None
    principal = await authenticator.authenticate(headers)
    assert authenticator.cached(headers) is principal
    assert identity.lookups == 1
    clock.advance(MAX_AGE_SECONDS)
    assert authenticator.cached(headers) is None
    await authenticator.authenticate(headers)
    assert identity.lookups == 2


async def test_a_busy_caller_never_waits(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator, clock: SettableClock
) -> None:
    _, key = await add_key(database, identity, person)
    headers = bearer(key)
    await authenticator.authenticate(headers)
    for round_ in range(5):
        clock.advance(REFRESH_SECONDS)
        assert all(authenticator.cached(headers) is not None for _ in range(10))
        await settle(authenticator)
        assert identity.lookups == round_ + 2


async def test_many_at_once_ask_once(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator
) -> None:
    _, key = await add_key(database, identity, person)
    principals = await asyncio.gather(*(authenticator.authenticate(bearer(key)) for _ in range(50)))
    assert len(set(map(id, principals))) == 1
    assert identity.lookups == 1


async def test_a_revoked_key_is_forgotten_at_once(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator
) -> None:
    key_id, key = await add_key(database, identity, person)
    _, other = await add_key(database, identity, person)
    await authenticator.authenticate(bearer(key))
    async with database.transaction() as session:
        await identity.revoke_key(session, person.principal, key_id)
    assert authenticator.cached(bearer(key)) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(bearer(key))
    await authenticator.authenticate(bearer(other))


@attack(18)
async def test_a_key_revoked_by_another_process_is_dropped_by_the_refresh(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator, clock: SettableClock
) -> None:
    key_id, key = await add_key(database, identity, person)
    await authenticator.authenticate(bearer(key))
    async with database.transaction() as session:
        # No event: that is what another process's revocation looks like.
        (await session.get_one(ApiKey, key_id)).revoked_at = clock.now()
    clock.advance(REFRESH_SECONDS)
    assert authenticator.cached(bearer(key)) is not None
    await settle(authenticator)
    assert authenticator.cached(bearer(key)) is None


async def test_what_was_read_before_a_revocation_is_not_remembered_after_it(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator
) -> None:
    key_id, key = await add_key(database, identity, person)
    other_database = Database(database.url.render_as_string(hide_password=False), EventBus())
    identity.gate = asyncio.Event()
    asking = asyncio.create_task(authenticator.authenticate(bearer(key)))
    while identity.lookups == 0:
        await asyncio.sleep(0)
    async with database.transaction() as session:
        await identity.revoke_key(session, person.principal, key_id)
    identity.gate.set()
    await asking
    assert authenticator.cached(bearer(key)) is None
    await other_database.close()


async def test_a_refusal_is_remembered_briefly(
    identity: CountingIdentity, authenticator: Authenticator, clock: SettableClock
) -> None:
    wrong = bearer("mcp_abcdefgh_" + "x" * 43)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(wrong)
    assert identity.lookups == 1
    clock.advance(MAX_AGE_SECONDS)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(wrong)
    assert identity.lookups == 2


async def test_guesses_neither_push_out_the_known_nor_fill_the_memory(
    database: Database,
    identity: CountingIdentity,
    person: Person,
    authenticator: Authenticator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_REFUSED", 5)
    _, key = await add_key(database, identity, person)
    await authenticator.authenticate(bearer(key))
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(bearer(f"guess{number}"))
    assert len(authenticator._refused) == 5
    assert authenticator.cached(bearer(key)) is not None


async def test_use_is_noted_once_a_minute(
    database: Database, identity: CountingIdentity, person: Person, authenticator: Authenticator, clock: SettableClock
) -> None:
    key_id, key = await add_key(database, identity, person)

    async def used() -> object:
        await authenticator.authenticate(bearer(key))
        await settle(authenticator)
        async with database.reading() as session:
            return (await session.get_one(ApiKey, key_id)).last_used_at

    first = await used()
    assert first == clock.now()
    clock.advance(30)
    assert await used() == first
    clock.advance(30)
    assert await used() == clock.now()


@attack(18)
async def test_credentials_stay_out_of_logs_and_errors(authenticator: Authenticator) -> None:
    with capture_logs() as logs:
        for text in ("mcp_abcdefgh_" + "canary" * 8, "ses_canarycanary", "canary.canary.canary"):
            with pytest.raises(Unauthenticated) as caught:
                await authenticator.authenticate(bearer(text))
            assert "canary" not in str(caught.value)
    assert "canary" not in str(logs)
