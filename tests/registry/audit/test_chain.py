"""Whatever is done to the records past the gateway, the verifier names it; on both databases, for both kinds."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from registry.audit.chain import LOOK_SECONDS, Head
from registry.audit.service import AuditService
from registry.audit.verify import CHANGES_TABLE, AuditVerifier, Report
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.core.events import EventBus
from registry.usage.calls import Call
from registry.usage.service import CALLS_TABLE, UsageService
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user
from tests.support.tampering import unguard

KEY = hashlib.sha256(b"a key of the test's own").digest()
TABLES = {"audit_entries": "action", "calls": "name"}


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def admin(database: Database, clock: SettableClock) -> Person:
    org_id = await add_organization(database, clock, "acme")
    return await add_user(database, clock, org_id, "a@acme.test", role="admin")


class Log:
    """A gateway process's writers."""

    def __init__(self, database: Database, clock: SettableClock, who: Person, key: bytes = KEY) -> None:
        self.database = database
        self.clock = clock
        self.who = who
        self.key = key
        self.audit = AuditService(clock, key)
        self.usage = UsageService(database, clock, key)

    def call(self, name: str) -> Call:
        at = int(self.clock.now().timestamp() * 1e6)
        org_id, user_id = self.who.user.org_id, self.who.user.id
        return Call(
            at, org_id, user_id, None, "s", "files", "tools/call", name, "ok", None, 1500, 10, 20, 0.25, "req-1"
        )

    async def write(self, count: int) -> None:
        """As many records of each kind."""
        for number in range(count):
            async with self.database.transaction() as session:
                detail = {"number": number, "share": 2.0, "large": 1e300, "text": "ü", "list": [1.5, None]}
                await self.audit.record(session, self.who.principal, f"test.{number}", detail=detail)
        await self.usage.write([self.call(f"files__{number}") for number in range(count)])

    async def verify(self, known: Sequence[Head] = (), *, remembers: bool = False) -> Report:
        own = [self.usage.chain] if remembers else []
        verifier = AuditVerifier(self.database, self.clock, self.key, (CHANGES_TABLE, CALLS_TABLE), own)
        return await verifier.verify(self.who.principal, known)


@pytest.fixture
async def log(database: Database, clock: SettableClock, admin: Person) -> Log:
    made = Log(database, clock, admin)
    await made.write(6)
    return made


async def _tamper(database: Database, *statements: str) -> None:
    async with database.engine.begin() as connection:
        await unguard(connection)
        for statement in statements:
            await connection.execute(text(statement))


async def _row(database: Database, table: str, seq: int) -> str:
    async with database.engine.connect() as connection:
        found = await connection.execute(text(f"SELECT id FROM {table} WHERE chain_seq = {seq}"))
        return str(found.scalar_one())


def _named(report: Report) -> set[tuple[str, str, int | None]]:
    return {(problem.kind, problem.table, problem.seq) for problem in report.problems}


async def test_what_was_written_is_found_whole_and_belongs_to_who_may_read_it(
    log: Log, database: Database, clock: SettableClock
) -> None:
    report = await log.verify()
    assert report.ok, report.problems
    assert (report.rows, report.unlinked, sorted(head.seq for head in report.heads)) == (12, 0, [6, 6])
    assert (await log.verify(report.heads, remembers=True)).ok
    member = await add_user(database, clock, log.who.user.org_id, "m@acme.test")
    with pytest.raises(Forbidden, match="audit:read"):
        await Log(database, clock, member).verify()


@pytest.mark.parametrize(
    "statement",
    [
        *(f"UPDATE {table} SET chain_seq = 9" for table in TABLES),
        *(f"DELETE FROM {table} WHERE chain_seq = 1" for table in TABLES),
        "DELETE FROM audit_chains",
    ],
)
async def test_the_database_refuses_to_change_records(log: Log, database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="is append-only"):
        async with database.engine.begin() as connection:
            await connection.execute(text(statement))
    assert (await log.verify()).rows == 12


@pytest.mark.parametrize("table", TABLES)
async def test_a_changed_row_is_named(log: Log, database: Database, table: str) -> None:
    row = await _row(database, table, 3)
    await _tamper(database, f"UPDATE {table} SET {TABLES[table]} = 'innocent' WHERE chain_seq = 3")
    report = await log.verify()
    assert _named(report) == {("changed", table, 3)}
    assert str(report.problems[0].row).replace("-", "") == row.replace("-", "")
    assert report.found == 1


@pytest.mark.parametrize("table", TABLES)
async def test_a_removed_row_is_named_by_the_one_behind_it(log: Log, database: Database, table: str) -> None:
    await _tamper(database, f"DELETE FROM {table} WHERE chain_seq IN (3, 4)")
    report = await log.verify()
    assert _named(report) == {("missing", table, 5)}
    assert "places 3 to 4" in report.problems[0].message


async def test_exchanged_rows_are_named(log: Log, database: Database) -> None:
    """Their contents change places, or they themselves do."""
    await _tamper(
        database,
        "UPDATE calls SET chain_seq = 1000 WHERE chain_seq = 2",
        "UPDATE calls SET chain_seq = 2 WHERE chain_seq = 4",
        "UPDATE calls SET chain_seq = 4 WHERE chain_seq = 1000",
    )
    report = await log.verify()
    assert {(problem.kind, problem.row) for problem in report.problems} >= {("misplaced", "4")}
    await _tamper(
        database,
        "UPDATE audit_entries SET chain_seq = 1000 WHERE chain_seq = 2",
        "UPDATE audit_entries SET chain_seq = 2 WHERE chain_seq = 3",
        "UPDATE audit_entries SET chain_seq = 3 WHERE chain_seq = 1000",
    )
    assert {("changed", "audit_entries", 2), ("changed", "audit_entries", 3)} <= _named(await log.verify())


@pytest.mark.parametrize("table", TABLES)
async def test_a_cut_end_shows_and_no_head_can_be_made_for_it(log: Log, database: Database, table: str) -> None:
    await _tamper(database, f"DELETE FROM {table} WHERE chain_seq > 4")
    assert _named(await log.verify()) == {("truncated", table, 5)}
    kind = "changes" if table == "audit_entries" else "calls"
    async with database.engine.connect() as connection:
        found = await connection.execute(text(f"SELECT chain_hash FROM {table} WHERE chain_seq = 4"))
        head = bytes(found.scalar_one()).hex()
    await _tamper(database, f"UPDATE audit_chains SET seq = 4, head = '{head}' WHERE kind = '{kind}'")
    assert ("head", table, None) in _named(await log.verify())


async def test_rows_that_were_put_in_are_named(log: Log, database: Database) -> None:
    names = ", ".join((*Call._fields, "chain_id"))
    values = ", ".join(Call._fields)
    await _tamper(database, f"INSERT INTO calls ({names}) SELECT {values}, 7 FROM calls WHERE chain_seq = 1")
    await _tamper(database, f"INSERT INTO calls ({names}) SELECT {values}, NULL FROM calls WHERE chain_seq = 1")
    await _tamper(
        database,
        f"INSERT INTO calls ({names}, chain_seq, chain_hash) SELECT {values}, chain_id, 7, chain_hash FROM calls "
        "WHERE chain_seq = 6",
    )
    kinds = {problem.kind: problem.row for problem in (await log.verify()).problems}
    assert kinds == {"chain_missing": "7", "unlinked": "8", "changed": "9", "added": "9"}


async def test_a_chain_that_others_have_seen_cannot_be_removed(
    log: Log, database: Database, clock: SettableClock
) -> None:
    clock.advance(LOOK_SECONDS)
    other = Log(database, clock, log.who)
    await other.write(2)
    assert (await log.verify()).ok
    for table in TABLES:
        await _tamper(database, f"DELETE FROM {table} WHERE chain_id = {log.usage.chain.id}")
    await _tamper(database, f"DELETE FROM audit_chains WHERE id = {log.usage.chain.id}")
    report = await other.verify()
    assert {(problem.kind, problem.chain) for problem in report.problems} == {("chain_missing", log.usage.chain.id)}


async def test_an_earlier_state_put_back_shows_to_who_kept_the_heads(log: Log, database: Database) -> None:
    async with database.engine.connect() as connection:
        before = (await connection.execute(text("SELECT id, seq, head, seal, advanced_at FROM audit_chains"))).all()
    await log.usage.write([log.call("files__late")])
    kept = (await log.verify()).heads
    await _tamper(database, "DELETE FROM calls WHERE chain_seq > 6")
    for row in before:
        await _tamper(
            database,
            f"UPDATE audit_chains SET seq = {row.seq}, head = '{row.head}', seal = '{row.seal}' WHERE id = {row.id}",
        )
    assert (await log.verify()).ok
    for report in (await log.verify(kept), await log.verify(remembers=True)):
        assert _named(report) == {("truncated", "calls", 7)}


async def test_a_head_of_another_secret_is_not_believed(log: Log, database: Database, clock: SettableClock) -> None:
    stranger = Log(database, clock, log.who, b"another key")
    assert {problem.kind for problem in (await stranger.verify()).problems} == {"head"}


async def test_a_rewritten_row_with_a_fitting_hash_shows_at_the_next(log: Log, database: Database) -> None:
    forged = hashlib.sha256(b"anything").hexdigest()
    literal = f"x'{forged}'" if database.url.get_backend_name() == "sqlite" else f"'\\x{forged}'::bytea"
    await _tamper(database, f"UPDATE calls SET name = 'x', chain_hash = {literal} WHERE chain_seq = 3")
    assert _named(await log.verify()) == {("changed", "calls", 3), ("changed", "calls", 4)}


async def test_rows_from_before_the_chains_are_counted_and_not_vouched_for(
    database: Database, clock: SettableClock, admin: Person
) -> None:
    log = Log(database, clock, admin)
    columns = ", ".join(Call._fields)
    old = log.call("files__old")
    marks = ", ".join(f":{name}" for name in Call._fields)
    async with database.engine.begin() as connection:
        await connection.execute(text(f"INSERT INTO calls ({columns}) VALUES ({marks})"), old._asdict())
    clock.advance(1)
    await log.write(1)
    report = await log.verify()
    assert (report.ok, report.unlinked, report.rows) == (True, 1, 3)


async def test_processes_write_at_once_each_into_its_own_chain(
    database: Database, database_url: str, clock: SettableClock, admin: Person
) -> None:
    others = [Database(database_url, EventBus()) for _ in range(3)]
    logs = [Log(other, clock, admin) for other in others]
    try:
        # Within a process, transactions that end at once share a chain.
        await asyncio.gather(*(log.write(5) for log in logs for _ in range(1)), *(_change(log) for log in logs * 5))
        report = await logs[0].verify()
        assert report.ok, report.problems
        assert sorted(head.seq for head in report.heads) == [5, 5, 5, 10, 10, 10]
    finally:
        for other in others:
            await other.close()


async def _change(log: Log) -> None:
    async with log.database.transaction() as session:
        await log.audit.record(session, log.who.principal, "test.at_once")


async def test_a_batch_whose_commit_was_never_confirmed_is_stored_once(
    log: Log, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [log.call(f"files__again{number}") for number in range(3)]
    with monkeypatch.context() as patch:

        def lost() -> None:
            raise OperationalError("COMMIT", None, ConnectionError("the connection broke"))

        patch.setattr(log.usage.chain, "confirm", lost)
        with pytest.raises(OperationalError):
            await log.usage.write(batch)
    await log.usage.write([*batch, log.call("files__more")])
    await log.usage.write([log.call("files__last")])
    report = await log.verify(remembers=True)
    assert report.ok, report.problems
    async with database.engine.connect() as connection:
        names = (await connection.execute(text("SELECT name FROM calls WHERE chain_seq > 6 ORDER BY id"))).scalars()
        assert list(names) == [*(call.name for call in batch), "files__more", "files__last"]
