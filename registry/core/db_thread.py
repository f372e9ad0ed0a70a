"""A thread of its own for what is written to SQLite in bulk, behind the calls that it is about.

The driver that the features use crosses to a thread and back for each statement. In a busy gateway each crossing waits
for the interpreter's lock, and meanwhile the system puts the waiting thread before the event loop again and again, in
vain. Here a whole transaction crosses once, without SQLAlchemy, and the thread asks the system not to be put first: it
is late by some milliseconds, and costs the calls under way little more than its own time.

Features reach it by `Database.behind`. Why it is there, and what it gave, is in docs/adr/0027.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

T = TypeVar("T")


class WritingThread:
    """Runs transactions one after the other.

    Args:
        connect: makes its one connection, in the thread; the connection begins no transaction by itself.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "gatehouse-writing", _give_way)

    async def run(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        """What `work` returns, once its transaction has been committed; rolled back if it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        connection = self._connection = self._connection or self._connect()
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                done = work(cursor)
            connection.commit()
        except BaseException:
            # A connection that failed may hold a lock, or a file that is gone: the next transaction gets a new one.
            self._disconnect()
            raise
        return done

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with closing(connection), suppress(sqlite3.Error):
                connection.rollback()

    async def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()


def _give_way() -> None:
    # It is Linux's; elsewhere, and where a sandbox forbids it, the thread is one like others.
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
