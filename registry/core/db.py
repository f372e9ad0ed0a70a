"""The database: engine, declarative base, column types and the transaction.

SQLite (WAL) and PostgreSQL behave alike to the features above. This is the only package that commits; a feature gets
a `Session` as an argument and never ends its transaction. Migrations live in `registry.migrations`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import structlog
from sqlalchemy import JSON, DateTime, Dialect, MetaData, Uuid, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import await_only

from registry.core.db_thread import WritingThread
from registry.core.errors import Conflict, GatehouseError, Unavailable
from registry.core.events import Event, EventBus

log = structlog.get_logger(__name__)

Session = AsyncSession
T = TypeVar("T")

_EVENTS = "gatehouse_events"
_READ_ONLY = "gatehouse_read_only"
_TURN = "gatehouse_turn"
_BUSY_SECONDS = 10
_MEMORY = ("", ":memory:")
_URL_FORMS = "Use sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/NAME."

JSONDict = JSON().with_variant(JSONB(), "postgresql")
"""Column type for JSON documents."""


class DatabaseUrlInvalid(GatehouseError):
    status = 500
    code = "DATABASE_URL_INVALID"
    title = "Database URL invalid"


class DatabaseUnavailable(Unavailable):
    """The database is locked, full or gone. What was asked has not been done."""

    code = "DATABASE_UNAVAILABLE"


class ChangedMeanwhile(Conflict):
    """Another transaction took what had to be unique, after this one had looked. Nothing has been done."""


class UTCDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC times on both databases; refuses naive ones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times must be timezone-aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        # SQLite has no time zones: what was bound above comes back naive, in UTC.
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """Base of all records. Ids are UUID strings unless a document types them as integers."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime(),
        dict[str, Any]: JSONDict,
        list[str]: JSONDict,
    }


def new_id() -> str:
    return str(uuid.uuid4())


def as_uuid(text: str) -> str | None:
    """The id in its one spelling; `None` for text that is no id, which then finds nothing on either database."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


class UuidKey:
    """Mixin: a UUID string as primary key."""

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True, default=new_id)


def on_postgresql(session: Session | OrmSession) -> bool:
    """Whether it is PostgreSQL rather than SQLite, for the few statements that differ."""
    bind = session.bind
    assert bind is not None, "sessions are made with their engine"
    return bind.dialect.name == "postgresql"


def insert_into(session: Session | OrmSession, record: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """The database's own INSERT, which can say what becomes of a row that is there already."""
    return postgresql.insert(record) if on_postgresql(session) else sqlite.insert(record)


def emit(session: Session, happened: Event) -> None:
    """Publish `happened` once the session's transaction has been committed, and not at all if it is rolled back."""
    session.info.setdefault(_EVENTS, []).append(happened)


def emitted(session: OrmSession) -> Sequence[Event]:
    """What waits to be published once the session's transaction has been committed: for hooks of the commit."""
    return session.info.get(_EVENTS, ())


class Database:
    """One engine and the ways to use it: `transaction`, `reading`, and for records in bulk `behind`.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://…`.
        events: where events of committed transactions go.
    """

    def __init__(self, url: str, events: EventBus) -> None:
        """Raises `DatabaseUrlInvalid` for an address that is none, or of another database."""
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise DatabaseUrlInvalid(f"GATEHOUSE_DATABASE_URL is not a database address. {_URL_FORMS}") from None
        self._events = events
        self.engine = _create_engine(self.url)
        self._sessions = async_sessionmaker(self.engine, sync_session_class=_Writing, expire_on_commit=False)
        self._line = asyncio.Lock() if self.engine.dialect.name == "sqlite" else None
        on_file = self._line is not None and (self.url.database or "") not in _MEMORY
        self._thread = WritingThread(partial(_connect_sqlite, self.url)) if on_file else None

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Session]:
        """A session that is committed at the end of the block, or rolled back if the block raises."""
        async with self._sessions() as session:
            try:
                with _Turn(self._line) as session.info[_TURN]:
                    async with session.begin():
                        yield session
            except OperationalError as error:
                raise _unavailable(error.orig) from error
            except IntegrityError as error:
                if not _not_unique(error):
                    raise
                raise ChangedMeanwhile(
                    "Somebody else has just taken a name that must be unique: look again, and try another one."
                ) from error
            for happened in session.info.pop(_EVENTS, ()):
                self._events.publish(happened)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Session]:
        """A session for reading only. On SQLite it takes no write lock, so readers never wait for each other."""
        async with self._sessions() as session:
            await session.connection(execution_options={_READ_ONLY: True})
            yield session

    @property
    def writes_behind(self) -> bool:
        """Whether there is `behind` here: on SQLite, in a file."""
        return self._thread is not None

    async def behind(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        """Run `work` in a thread, as a transaction of its own, at the least cost to whatever else the process does.

        It is for plain statements in bulk, and may touch only what nobody else does meanwhile.
        """
        assert self._thread is not None, "asked without looking at writes_behind"
        try:
            with _Turn(self._line) as turn:
                await turn.wait()
                return await self._thread.run(work)
        except sqlite3.OperationalError as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        if self._thread is not None:
            await self._thread.close()
        await self.engine.dispose()


class _Turn:
    """A transaction's place in the line of those who write, from its first statement to its end.

    Left to SQLite, whoever waits looks again now and then, and some never find it free. This line is the process's
    own: other processes still meet at SQLite's lock. PostgreSQL needs none.
    """

    def __init__(self, line: asyncio.Lock | None) -> None:
        self._line = line
        self._taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None and self._taken:
            self._line.release()

    def take(self) -> None:
        if not self._taken:
            await_only(self.wait())

    async def wait(self) -> None:
        if self._line is None:
            return
        try:
            async with asyncio.timeout(_BUSY_SECONDS):
                self._taken = await self._line.acquire()
        except TimeoutError:
            raise _unavailable("others have been writing for longer than anybody waits") from None


class _Writing(OrmSession):
    """Waits for its turn before it takes a connection, so that those who wait leave the pool to those who read."""

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        turn: _Turn | None = self.info.get(_TURN)
        if turn is not None:
            turn.take()
        return super().get_bind(*args, **kwargs)


def _unavailable(error: object) -> DatabaseUnavailable:
    log.error("the database refused", error=str(error))
    return DatabaseUnavailable("The database cannot be used right now: try again, or see /health and the log.")


def _not_unique(error: IntegrityError) -> bool:
    cause: Any = error.orig
    if getattr(cause, "sqlstate", None) == "23505":
        return True
    return getattr(cause, "sqlite_errorname", None) in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


def _create_engine(url: URL) -> AsyncEngine:
    if url.drivername == "postgresql+asyncpg":
        return create_async_engine(url, pool_size=10, max_overflow=10, pool_pre_ping=True)
    if url.drivername != "sqlite+aiosqlite":
        raise DatabaseUrlInvalid(f"GATEHOUSE_DATABASE_URL begins with {url.drivername!r}. {_URL_FORMS}")
    if url.database and url.database not in _MEMORY:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    event.listen(engine.sync_engine, "close", _roll_back_sqlite)
    return engine


def _connect_sqlite(url: URL) -> sqlite3.Connection:
    """A connection of the standard library's, which is told what those of the engine are told."""
    arguments, options = cast("tuple[Any, dict[str, Any]]", sqlite.dialect().create_connect_args(url))
    connection = sqlite3.connect(*arguments, **options)
    _prepare_sqlite(connection, None)
    return connection


def _roll_back_sqlite(connection: Any, _record: object) -> None:
    """End what a cancelled task left open, before its connection is closed.

    SQLite keeps a closed connection, and its lock on the database, for as long as a cursor of it is alive: in a
    traceback, say. This joins the driver's queue without waiting, because it may be a cancelled task that closes.
    """
    driver = connection.driver_connection
    if driver._connection is not None:  # noqa: SLF001 - the driver offers no other way that does not wait
        driver._tx.put_nowait((None, driver._connection.rollback))  # noqa: SLF001


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling starts transactions too late to be serialisable; `_begin_sqlite` does it.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # FULL: what was acknowledged survives a power cut, not only a killed process.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_SECONDS * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts by reading and writes later would fail as busy where it could have waited.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
