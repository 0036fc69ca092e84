"""Cells in an SQLite file; it may be the file of the journal."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mcpcore.saga.cells.contract import Cells
from mcpcore.saga.sqlite_thread import SqliteThread


class SqliteCells(Cells):
    """Cells in a file. Several processes may share it."""

    def __init__(self, path: str | Path) -> None:
        self._thread = SqliteThread(str(path), _prepare)

    async def close(self) -> None:
        """Close the file. Twice is harmless."""
        await self._thread.close()

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        """See ``Cells``."""

        def swap(db: sqlite3.Connection) -> bytes | None:
            db.execute("BEGIN IMMEDIATE")
            held = _get(db, key)
            if held == expected and new is None:
                db.execute("DELETE FROM saga_cells WHERE key = ?", (key,))
            elif held == expected:
                db.execute("REPLACE INTO saga_cells VALUES (?, ?)", (key, new))
            db.execute("COMMIT")
            return held

        return await self._thread.run(swap)

    async def get(self, key: str) -> bytes | None:
        """See ``Cells``."""
        return await self._thread.run(lambda db: _get(db, key))


def _prepare(db: sqlite3.Connection, path: str) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS saga_cells (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
    )


def _get(db: sqlite3.Connection, key: str) -> bytes | None:
    row = db.execute("SELECT value FROM saga_cells WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])
