"""What SQLite needs beside its dialect: settings, transactions that can be told apart, writers in line, clean ends.

`registry.core.db` makes the engine and asks nobody else to know which database it is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

READ_ONLY = "gatehouse_read_only"
"""Execution option of a connection that takes no write lock."""
BUSY_SECONDS = 10.0
_WRITING = "gatehouse_writing"


class NoTurn(Exception):
    """Others have been writing for longer than anybody waits."""


def sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(url)
    writers = _Writers()
    for name, listener in (
        ("connect", _prepare),
        ("begin", writers.begin),
        ("commit", writers.end),
        ("rollback", writers.end),
        ("checkin", writers.gone),
        ("close", writers.gone),
        ("close", _roll_back),
    ):
        event.listen(engine.sync_engine, name, listener)
    return engine


class _Writers:
    """One transaction writes at a time. Left to SQLite, whoever waits looks again now and then, and some never find it
    free; here they stand in line. Other processes still meet at SQLite's own lock.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    def begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql("BEGIN")
            return
        await_only(self._take_turn())
        connection.info[_WRITING] = True
        # A transaction that starts by reading and writes later would fail as busy where it could have waited.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise NoTurn from None

    def end(self, connection: Connection) -> None:
        """Before it is committed or rolled back: the next one finds SQLite's lock free in a moment."""
        self._pass_on(connection.info)

    def gone(self, _connection: Any, record: Any) -> None:
        """Whatever became of the transaction, its connection is not in use any more."""
        self._pass_on(record.info)

    def _pass_on(self, info: dict[Any, Any]) -> None:
        if info.pop(_WRITING, False):
            self._turn.release()


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own transaction handling starts transactions too late to be serialisable; `_Writers` does it.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # FULL: what was acknowledged survives a power cut, not only a killed process.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000:.0f}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _roll_back(connection: Any, _record: object) -> None:
    """End what a cancelled task left open, before its connection is closed.

    SQLite keeps a closed connection, and its lock on the database, for as long as a cursor of it is alive: in a
    traceback, say. This joins the driver's queue without waiting, because it may be a cancelled task that closes.
    """
    driver = connection.driver_connection
    if driver._connection is not None:  # noqa: SLF001 - the driver offers no other way that does not wait
        driver._tx.put_nowait((None, driver._connection.rollback))  # noqa: SLF001
