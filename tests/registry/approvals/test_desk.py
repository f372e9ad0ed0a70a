"""The desk on both databases: an answer is bound, holds for one call, and does not hold for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from registry.approvals.desk import ApprovalDesk
from registry.approvals.errors import ApprovalClosed, ApprovalNotFound, OwnApproval
from registry.approvals.rule import Rule
from registry.approvals.rulebook import Rulebook
from registry.approvals.service import ApprovalService
from registry.approvals.standing import Standing
from registry.approvals.views import ApprovalView, RuleDraft, Status
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.events import EventBus
from registry.core.security import Sealer
from registry.identity.principal import Principal
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, add_organization, add_user

SERVER = "00000000-0000-0000-0000-000000000001"


@dataclass
class Office:
    database: Database
    clock: SettableClock
    rulebook: Rulebook
    desk: ApprovalDesk
    service: ApprovalService
    agent: Principal
    person: Principal
    rule: Rule

    async def seek(self, who: Principal | None = None, arguments: bytes = b"{}", **more: bool) -> Standing:
        continuing = more.get("continuing", False)
        return await self.desk.seek(who or self.agent, SERVER, "echo__pay", arguments, self.rule, continuing=continuing)

    async def decide(self, approval_id: str, *, approve: bool = True, who: Principal | None = None) -> None:
        async with self.database.transaction() as session:
            await self.service.decide(session, who or self.person, approval_id, approve=approve)

    async def inbox(self, status: Status | None = None) -> list[ApprovalView]:
        async with self.database.reading() as session:
            return (await self.service.list(session, self.person, status)).approvals


@pytest.fixture
async def office(database: Database, events: EventBus) -> Office:
    clock = SettableClock()
    audit = AuditService(clock, MASTER)
    sealer = Sealer(MASTER, "approvals")
    rulebook = Rulebook(database, events, clock)
    org_id = await add_organization(database, clock, "first")
    person = (await add_user(database, clock, org_id, "a@b.c", role="admin")).principal
    service = ApprovalService(clock, audit, sealer)
    async with database.transaction() as session:
        made = await service.create_rule(session, person, RuleDraft(name="careful", expires_seconds=60))
    (rule,) = rulebook.of(org_id)
    assert rule.id == made.id
    agent = replace(person, key_id=7)
    return Office(
        database, clock, rulebook, ApprovalDesk(database, clock, audit, sealer, rulebook), service, agent, person, rule
    )


async def test_a_question_that_nobody_answers_expires(office: Office) -> None:
    asked = await office.seek()
    office.clock.advance(61)
    with pytest.raises(ApprovalClosed, match="expired"):
        await office.decide(asked.approval_id)
    assert [row.status for row in await office.inbox()] == ["expired"]
    assert await office.inbox("waiting") == []
    again = await office.seek()
    assert (again.status, again.approval_id == asked.approval_id) == ("waiting", False)


async def test_an_answer_holds_for_a_while_from_when_it_was_given(office: Office) -> None:
    asked = await office.seek()
    office.clock.advance(50)
    await office.decide(asked.approval_id)
    office.clock.advance(50)
    assert (await office.seek()).status == "passes"
    second = await office.seek()
    await office.decide(second.approval_id)
    office.clock.advance(61)
    assert (await office.seek()).status == "waiting"


async def test_no_is_an_answer_for_as_long(office: Office) -> None:
    asked = await office.seek()
    await office.decide(asked.approval_id, approve=False)
    assert (await office.seek()).status == "denied"
    office.clock.advance(61)
    assert (await office.seek()).status == "waiting"


async def test_a_call_that_goes_on_needs_no_second_approval(office: Office) -> None:
    asked = await office.seek()
    await office.decide(asked.approval_id)
    assert (await office.seek(continuing=True)).status == "passes"
    assert (await office.seek(continuing=True)).status == "passes"
    assert (await office.seek(arguments=b'{"other":1}', continuing=True)).status == "waiting"
    assert (await office.seek()).status == "waiting"


async def test_an_answer_is_bound_to_caller_and_arguments(office: Office) -> None:
    asked = await office.seek(arguments=b'{"amount":1}')
    await office.decide(asked.approval_id)
    assert (await office.seek(arguments=b'{"amount":2}')).status == "waiting"
    assert (await office.seek(replace(office.agent, key_id=8), b'{"amount":1}')).status == "waiting"
    assert (await office.seek(arguments=b'{"amount":1}')).status == "passes"


async def test_of_many_who_try_at_once_one_passes(office: Office) -> None:
    asked = await office.seek()
    await office.decide(asked.approval_id)
    done = await asyncio.gather(*(office.seek() for _ in range(8)))
    assert sorted(standing.status for standing in done) == ["passes", *["waiting"] * 7]
    assert len({standing.approval_id for standing in done if standing.status == "waiting"}) == 1


async def test_only_the_caller_answers_at_the_client_and_only_others_in_the_inbox(office: Office) -> None:
    asked = await office.seek()
    with pytest.raises(ApprovalNotFound):
        await office.desk.answer(replace(office.agent, key_id=8), asked.approval_id, approve=True)
    with pytest.raises(OwnApproval):
        await office.decide(asked.approval_id, who=office.agent)
    await office.desk.answer(office.agent, asked.approval_id, approve=True)
    with pytest.raises(ApprovalClosed):
        await office.desk.answer(office.agent, asked.approval_id, approve=True)


async def test_a_rule_for_the_inbox_is_not_answered_at_the_client(office: Office) -> None:
    office.rule = replace(office.rule, ask="inbox")
    asked = await office.seek()
    with pytest.raises(ApprovalNotFound):
        await office.desk.answer(office.agent, asked.approval_id, approve=True)


async def test_another_organisation_decides_nothing_here(office: Office) -> None:
    asked = await office.seek()
    clock = SettableClock()
    org_id = await add_organization(office.database, clock, "second")
    other = (await add_user(office.database, clock, org_id, "x@y.z", role="admin")).principal
    with pytest.raises(ApprovalNotFound):
        await office.decide(asked.approval_id, who=other)
    assert office.rulebook.of(org_id) == ()


async def test_rules_of_another_process_are_read(office: Office, database: Database) -> None:
    other = Rulebook(database, EventBus(), office.clock)
    assert other.of(office.agent.org_id) == ()
    await other.read()
    (rule,) = other.of(office.agent.org_id)
    assert (rule.id, rule.name, rule.expires_seconds) == (office.rule.id, "careful", 60)


async def test_long_arguments_are_shown_from_their_beginning_and_bound_as_a_whole(office: Office) -> None:
    long = b'{"text":"' + b"x" * 100_000
    asked = await office.seek(arguments=long + b'1"}')
    await office.decide(asked.approval_id)
    assert (await office.seek(arguments=long + b'2"}')).status == "waiting"
    (row,) = await office.inbox("approved")
    assert (len(row.arguments), row.arguments_bytes) == (64 * 1024, 100_012)
