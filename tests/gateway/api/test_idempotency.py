"""The first result again, for 48 hours; one effect however many ask at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from registry.core.idempotency import KEPT, IdempotencyRecord, IdempotencyStore
from registry.identity.models import ApiKey
from tests.gateway.api.support import Facade, client_of
from tests.support.identity import MASTER, Person

KEY = {"Idempotency-Key": "a-1"}


async def _count(facade: Facade) -> int:
    async with facade.database.reading() as session:
        return await session.scalar(select(func.count()).select_from(ApiKey)) or 0


async def test_fifty_at_once_have_one_effect(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/api-keys", json={"name": "x"}, headers=KEY) for _ in range(50))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await _count(facade) == 2


async def test_another_body_is_a_conflict(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        assert (await client.post("/v1/api-keys", json={"name": "x"}, headers=KEY)).status_code == 201
        answer = await client.post("/v1/api-keys", json={"name": "y"}, headers=KEY)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert (await client.post("/v1/api-keys", json={"name": "y"}, headers={"Idempotency-Key": "b"})).is_success
    assert await _count(facade) == 3


async def test_it_lasts_48_hours(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        first = await client.post("/v1/api-keys", json={"name": "x"}, headers=KEY)
        facade.clock.advance(KEPT.total_seconds() - 1)
        again = await client.post("/v1/api-keys", json={"name": "x"}, headers=KEY)
        assert again.content == first.content
        facade.clock.advance(1)
        later = await client.post("/v1/api-keys", json={"name": "other"}, headers=KEY)
        assert later.status_code == 201
        assert later.content != first.content


async def test_what_failed_may_be_tried_again(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        bad = {"name": "x", "permissions": ["nonsense"]}
        assert (await client.post("/v1/api-keys", json=bad, headers=KEY)).status_code == 422
        assert (await client.post("/v1/api-keys", json={"name": "x"}, headers=KEY)).status_code == 201


async def test_keys_of_two_callers_are_two_keys(facade: Facade, admin: Person, member: Person) -> None:
    app = facade.build()
    async with client_of(app, await facade.key_of(admin)) as one, client_of(app, await facade.key_of(member)) as two:
        first = await one.post("/v1/api-keys", json={"name": "x"}, headers=KEY)
        second = await two.post("/v1/api-keys", json={"name": "x"}, headers=KEY)
    assert first.json()["user_id"] == admin.user.id
    assert second.json()["user_id"] == member.user.id


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
async def test_a_bad_key_is_refused(facade: Facade, admin: Person, key: str) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        answer = await client.post("/v1/api-keys", json={"name": "x"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert await _count(facade) == 1


async def test_what_is_kept_can_be_read_by_nobody_else_and_is_purged(facade: Facade, admin: Person) -> None:
    async with client_of(facade.build(), await facade.key_of(admin)) as client:
        secret = (await client.post("/v1/api-keys", json={"name": "x"}, headers=KEY)).json()["api_key"]
    async with facade.database.reading() as session:
        record = (await session.scalars(select(IdempotencyRecord))).one()
        assert record.sealed_body
        assert secret not in record.sealed_body
    store = IdempotencyStore(facade.clock, MASTER)
    async with facade.database.transaction() as session:
        assert await store.purge(session) == 0
        facade.clock.advance(KEPT.total_seconds())
        assert await store.purge(session) == 1
