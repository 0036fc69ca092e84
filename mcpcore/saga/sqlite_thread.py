"""One SQLite connection in one thread of its own.

This module exists so that a commit which waits for the disk never makes the event loop wait. It
must never know what the tables mean.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mcpcore.errors import InvalidInput, JournalUnavailable

T = TypeVar("T")

BUSY_S = 5.0
"""How long to wait for another process that writes."""


class SqliteThread:
    """Runs functions on a connection, one after the other.

    Args:
        path: the file; made by the first use.
        prepare: makes the tables; gets the connection and the path.
    """

    def __init__(self, path: str, prepare: Callable[[sqlite3.Connection, str], None]) -> None:
        self.path = path
        self._prepare = prepare
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saga-sqlite")
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``work``, run in the thread. Cancelling does not stop it.

        Raises:
            InvalidInput: the file is no database of ours.
            JournalUnavailable: the disk is full, or another process holds the file for too long.
        """
        if self._closed:
            raise JournalUnavailable(f"{self.path}: closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        """Close the connection. Twice is harmless."""
        if self._closed:
            return
        self._closed = True

        def close() -> None:
            if self._db is not None:
                self._db.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._db is None:
                self._db = self._connect()
            return work(self._db)
        except sqlite3.OperationalError as error:
            raise JournalUnavailable(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(
                str(error), where=self.path, remedy="Is it the right file?"
            ) from error
        finally:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_S)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._prepare(db, self.path)
        except BaseException:
            db.close()
            raise
        return db
