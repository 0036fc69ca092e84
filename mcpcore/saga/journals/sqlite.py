"""Journals in one SQLite file: the embedded default.

This module exists so that sagas survive the process with nothing to install and nothing to run. One
thread owns the connection; all appends that wait while it commits go into the next commit together,
so that one sync serves many sagas. It must never look into a row.

One engine for each file: an engine that opens it replaces the one before, which is refused from
then on. Tools may read, and write their decisions, beside it.

HAZARD: durable means what ``fsync`` means there. On a network file system SQLite promises little.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from mcpcore.errors import EngineReplaced, InvalidInput, JournalMoved
from mcpcore.saga.journals.contract import Head, Journal, Query, Story
from mcpcore.saga.sqlite_thread import SqliteThread
from mcpcore.saga.state import Status
from mcpcore.saga.tokens import Fence

POLL_S: Final = 0.25
"""How often an engine looks whether somebody else wrote."""
FORMAT: Final = 1
_OPEN_LENGTHS: Final = (
    "SELECT id, length FROM sagas WHERE status IN ('running', 'compensating', 'parked')"
)

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS saga_meta (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sagas (id TEXT PRIMARY KEY, definition TEXT, version TEXT, "
    "status TEXT, owner TEXT, started_ns INTEGER, changed_ns INTEGER, length INTEGER) "
    "WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS sagas_by_status ON sagas (status, started_ns)",
    "CREATE TABLE IF NOT EXISTS saga_entries (saga TEXT, number INTEGER, entry BLOB, "
    "PRIMARY KEY (saga, number)) WITHOUT ROWID",
    f"INSERT OR IGNORE INTO saga_meta VALUES ('format', {FORMAT}), ('term', 0), ('sequence', 0)",
)


class _Append(NamedTuple):
    head: Head
    expected: int
    rows: Sequence[bytes]
    done: asyncio.Future[Fence]


class SqliteJournal(Journal):
    """Journals in a file, made if it is not there.

    Args:
        path: the file.
        must_exist: refuse to make it.

    Raises:
        InvalidInput: (by the first call) the file is no journal, or of a newer version.
    """

    patrol_s: float | None = None

    def __init__(self, path: str | Path, *, must_exist: bool = False) -> None:
        self.path = str(path)
        if must_exist and not Path(path).is_file():
            raise InvalidInput("there is no such file", where=self.path)
        self._thread = SqliteThread(self.path, _prepare)
        self._term: int | None = None
        self._owner = ""
        self._waiting: list[_Append] = []
        self._flushing: asyncio.Task[None] | None = None
        self._lengths: dict[str, int] = {}
        """Of open sagas, as we wrote them or told of them last. Reading changes nothing here: who
        reads is not always the one who has to hear of it."""
        self._data_version = -1

    async def open(self, owner: str) -> None:
        """See ``Journal``."""

        def replace(db: sqlite3.Connection) -> int:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE saga_meta SET value = value + 1 WHERE key = 'term'")
            term: int = db.execute("SELECT value FROM saga_meta WHERE key = 'term'").fetchone()[0]
            db.execute("COMMIT")
            return term

        self._term = await self._thread.run(replace)
        self._owner = owner

    async def close(self) -> None:
        """See ``Journal``."""
        while self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self._thread.close()

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        """See ``Journal``."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Fence] = loop.create_future()
        self._waiting.append(_Append(head, expected, rows, done))
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush(), name="saga journal")
        return await done

    async def read(self, saga: str) -> Story | None:
        """See ``Journal``."""

        def read(db: sqlite3.Connection) -> Story | None:
            db.execute("BEGIN")
            found = db.execute("SELECT * FROM sagas WHERE id = ?", (saga,)).fetchone()
            rows = db.execute(
                "SELECT entry FROM saga_entries WHERE saga = ? ORDER BY number", (saga,)
            ).fetchall()
            db.execute("COMMIT")
            return None if found is None else Story(_head(found), [row[0] for row in rows])

        return await self._thread.run(read)

    async def heads(self, query: Query) -> list[Head]:
        """See ``Journal``."""
        where, values = ["1"], list[object]()
        if query.status:
            where.append(f"status IN ({', '.join('?' * len(query.status))})")
            values += [str(status) for status in query.status]
        for column, value in (("definition", query.definition), ("owner", query.owner)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if query.started_before_ns is not None:
            where.append("started_ns < ?")
            values.append(query.started_before_ns)
        values.append(-1 if query.limit is None else query.limit)
        sql = f"SELECT * FROM sagas WHERE {' AND '.join(where)} ORDER BY started_ns, id LIMIT ?"
        rows = await self._thread.run(lambda db: db.execute(sql, values).fetchall())
        return [_head(row) for row in rows]

    async def delete(self, saga: str) -> None:
        """See ``Journal``."""

        def delete(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM sagas WHERE id = ?", (saga,))
            db.execute("DELETE FROM saga_entries WHERE saga = ?", (saga,))
            db.execute("COMMIT")

        await self._thread.run(delete)
        self._lengths.pop(saga, None)

    async def gone(self, owners: Collection[str]) -> set[str]:
        """See ``Journal``: whoever has opened the file last has replaced all others."""
        return {owner for owner in owners if owner != self._owner}

    async def disturbed(self) -> set[str]:
        """See ``Journal``."""
        while True:
            await asyncio.sleep(POLL_S)
            # It changes when another connection writes, never by our own writing.
            version = (await self._thread.run(_data_version))[0]
            if version == self._data_version:
                continue
            self._data_version = version
            rows = await self._thread.run(_open_lengths)
            there = dict(rows)
            found = {saga for saga, length in rows if self._lengths.get(saga) != length}
            found |= self._lengths.keys() - there.keys()
            self._lengths = there
            if found:
                return found

    # --- inside ---------------------------------------------------------------------------------

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                answers: list[Fence | Exception]
                try:
                    answers = await self._thread.run(partial(self._commit, batch=batch))
                except Exception as error:  # noqa: BLE001 - whoever waits is told
                    answers = [error] * len(batch)
                for append, answer in zip(batch, answers, strict=True):
                    if append.done.done():
                        continue
                    if isinstance(answer, BaseException):
                        append.done.set_exception(answer)
                    else:
                        append.done.set_result(answer)
        finally:
            self._flushing = None

    def _commit(self, db: sqlite3.Connection, batch: list[_Append]) -> list[Fence | Exception]:
        """All appends in one transaction. Runs in the thread."""
        answers: list[Fence | Exception] = []
        db.execute("BEGIN IMMEDIATE")
        meta = dict(db.execute("SELECT key, value FROM saga_meta").fetchall())
        term, sequence = meta["term"], meta["sequence"]
        if self._term is not None and term != self._term:
            db.execute("ROLLBACK")
            return [EngineReplaced(self.path)] * len(batch)
        entries: list[tuple[str, int, bytes]] = []
        for head, expected, rows, _ in batch:
            numbered = [(head.saga, expected + n, row) for n, row in enumerate(rows)]
            if self._put_head(db, head, expected):
                sequence += 1
                entries += numbered
                answers.append(Fence(term, sequence))
            elif self._is_there(db, head, numbered):
                answers.append(Fence(term, sequence))
            else:
                answers.append(JournalMoved(head.saga, expected))
        db.executemany("INSERT INTO saga_entries VALUES (?, ?, ?)", entries)
        db.execute("UPDATE saga_meta SET value = ? WHERE key = 'sequence'", (sequence,))
        db.execute("COMMIT")
        for append, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Fence):
                if append.head.status.is_end:
                    self._lengths.pop(append.head.saga, None)
                else:
                    self._lengths[append.head.saga] = append.head.length
        return answers

    @staticmethod
    def _is_there(
        db: sqlite3.Connection, head: Head, numbered: list[tuple[str, int, bytes]]
    ) -> bool:
        """Whether an earlier attempt, of which nobody heard, had appended the same."""
        sql = "SELECT * FROM saga_entries WHERE saga = ? AND number >= ? ORDER BY number"
        return db.execute(sql, (head.saga, numbered[0][1])).fetchall() == numbered

    @staticmethod
    def _put_head(db: sqlite3.Connection, head: Head, expected: int) -> bool:
        if expected == 0:
            done = db.execute(
                "INSERT OR IGNORE INTO sagas VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*head[:3], str(head.status), *head[4:]),
            )
        else:
            done = db.execute(
                "UPDATE sagas SET version = ?, status = ?, owner = ?, changed_ns = ?, length = ? "
                "WHERE id = ? AND length = ?",
                (
                    head.version,
                    str(head.status),
                    head.owner,
                    head.changed_ns,
                    head.length,
                    head.saga,
                    expected,
                ),
            )
        return done.rowcount == 1


def _prepare(db: sqlite3.Connection, path: str) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    found = db.execute("SELECT value FROM saga_meta WHERE key = 'format'").fetchone()[0]
    if found != FORMAT:
        raise InvalidInput(
            f"a journal of format {found}, this version knows {FORMAT}",
            where=path,
            remedy="Use the version that wrote it",
        )


def _data_version(db: sqlite3.Connection) -> tuple[int]:
    found: tuple[int] = db.execute("PRAGMA data_version").fetchone()
    return found


def _open_lengths(db: sqlite3.Connection) -> list[tuple[str, int]]:
    return db.execute(_OPEN_LENGTHS).fetchall()


def _head(row: Sequence[object]) -> Head:
    saga, definition, version, status, owner, started_ns, changed_ns, length = row
    return Head(
        str(saga),
        str(definition),
        str(version),
        Status(str(status)),
        str(owner),
        int(str(started_ns)),
        int(str(changed_ns)),
        int(str(length)),
    )
