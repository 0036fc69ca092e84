"""Effects in a database of one's own: exactly once, in one transaction with the token.

This module exists so that a step which changes rows needs no idempotent service: the change and the
mark that it was made commit together, or not at all. The same tables bar what comes too late (a
step after its compensation), undo nothing that never was, and carry an outbox (messages that leave
if and only if the change commits) and an inbox (messages that take effect once).

For SQLite (``sqlite3``) and PostgreSQL (``psycopg``) by the shape of DB-API 2.0. The suite runs
SQLite always, and a PostgreSQL server where one is installed with psycopg; elsewhere it checks the
shape of the statements for it. It must never import a database driver.

Source: the barriers of dtm (Ye 2021, "sub-transaction barrier"); P. Helland 2007, "Life beyond
Distributed Transactions" (messages by identity).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgpack

from mcpcore.errors import StaleFence, StepFailed
from mcpcore.saga.call import Call
from mcpcore.saga.tokens import Fence
from mcpcore.saga.values import settle


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""
        ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run a statement."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> Any:
        """All rows that are left."""
        ...


class Connection(Protocol):
    """What is used of a DB-API connection."""

    def cursor(self) -> Any:
        """A cursor."""
        ...

    def commit(self) -> None:
        """Make the transaction durable."""
        ...

    def rollback(self) -> None:
        """Undo the transaction."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a database writes what they all have.

    Args:
        mark: the mark of a parameter.
        bytes_: the type of bytes.
        serial: the type of a key that counts up.
        begin: what begins a transaction that will write; empty if it begins by itself.
    """

    mark: str
    bytes_: str
    serial: str
    begin: str


SQLITE = Dialect("?", "BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "BEGIN IMMEDIATE")
POSTGRESQL = Dialect("%s", "BYTEA", "BIGSERIAL PRIMARY KEY", "")

Work: TypeAlias = Callable[[Any], Any]
"""What changes the database: gets a cursor of the transaction, must neither commit nor roll back,
nor do anything that a roll-back would not take back."""


class Message(NamedTuple):
    """A message in the outbox."""

    number: int
    """Rises with every message; its identity for whoever receives it."""
    topic: str
    body: bytes


class LocalEffects:
    """Effects, fences, outbox and inbox in one database.

    Args:
        connection: of the database with the data; used by one thread at a time. With ``sqlite3``
            make it with ``isolation_level=None``.
        dialect: which kind of database.
    """

    def __init__(self, connection: Connection, dialect: Dialect = SQLITE) -> None:
        self._connection = connection
        self._dialect = dialect

    def prepare(self) -> None:
        """Make the tables, if they are not there."""
        d = self._dialect
        with self.transaction() as cursor:
            for sql in (
                f"CREATE TABLE IF NOT EXISTS saga_effects (token TEXT PRIMARY KEY, barred INTEGER "
                f"NOT NULL, result {d.bytes_} NOT NULL)",
                "CREATE TABLE IF NOT EXISTS saga_fences (resource TEXT PRIMARY KEY, term BIGINT "
                "NOT NULL, sequence BIGINT NOT NULL)",
                f"CREATE TABLE IF NOT EXISTS saga_outbox (number {d.serial}, topic TEXT NOT NULL, "
                f"body {d.bytes_} NOT NULL)",
                "CREATE TABLE IF NOT EXISTS saga_inbox (message TEXT PRIMARY KEY)",
            ):
                cursor.execute(sql)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; commits at the end, and takes everything back if something is raised."""
        cursor = self._connection.cursor()
        try:
            if self._dialect.begin:
                cursor.execute(self._dialect.begin)
            yield cursor
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise
        finally:
            cursor.close()

    # --- a saga's effects -----------------------------------------------------------------------

    def do(self, call: Call, work: Work) -> Any:
        """Carry out a step, once; asked again, return what it returned.

        Raises:
            StepFailed: its compensation came first, so it must never happen.
        """
        with self.transaction() as cursor:
            if self._mark(cursor, call.token, barred=False):
                result = settle(work(cursor), f"result of {call.action}")
                sql = "UPDATE saga_effects SET result = ? WHERE token = ?"
                self._run(cursor, sql, msgpack.packb(result), call.token)
                return result
            sql = "SELECT barred, result FROM saga_effects WHERE token = ?"
            self._run(cursor, sql, call.token)
            barred, packed = cursor.fetchone()
            if barred:
                raise StepFailed(f"{call.action}: its compensation came first")
            return msgpack.unpackb(bytes(packed))

    def undo(self, call: Call, work: Work) -> bool:
        """Carry out a compensation, once, and only if its step was; bar the step if it was not.

        Returns:
            Whether there was something to undo.
        """
        with self.transaction() as cursor:
            if self._mark(cursor, call.do_token, barred=True):
                return False  # it never happened, and now it never will
            self._run(cursor, "SELECT barred FROM saga_effects WHERE token = ?", call.do_token)
            if cursor.fetchone()[0]:
                return False
            if self._mark(cursor, call.token, barred=False):
                work(cursor)
            return True

    def admit(self, cursor: Cursor, resource: str, fence: Fence) -> None:
        """Refuse whoever was replaced: for a resource that several sagas change, under a lock.

        Raises:
            StaleFence: somebody with a later fence was here; the transaction must not go on.
        """
        self._run(
            cursor,
            "INSERT INTO saga_fences VALUES (?, ?, ?) ON CONFLICT (resource) DO UPDATE SET "
            "term = excluded.term, sequence = excluded.sequence WHERE "
            "(saga_fences.term, saga_fences.sequence) <= (excluded.term, excluded.sequence)",
            resource,
            *fence,
        )
        if cursor.rowcount == 1:
            return
        self._run(cursor, "SELECT term, sequence FROM saga_fences WHERE resource = ?", resource)
        raise StaleFence(resource, str(fence), str(Fence(*cursor.fetchone())))

    # --- messages -------------------------------------------------------------------------------

    def send(self, cursor: Cursor, topic: str, body: bytes) -> None:
        """Put a message into the outbox: it leaves if, and only if, the transaction commits."""
        self._run(cursor, "INSERT INTO saga_outbox (topic, body) VALUES (?, ?)", topic, body)

    def relay(self, publish: Callable[[Message], None], *, limit: int = 100) -> int:
        """Publish what waits in the outbox, in order, and take it out; returns how many.

        If ``publish`` raises, its message and those after it stay. A crash in between publishes a
        message again: whoever receives it uses ``receive`` with its number.
        """
        with self.transaction() as cursor:
            sql = "SELECT number, topic, body FROM saga_outbox ORDER BY number LIMIT ?"
            self._run(cursor, sql, limit)
            waiting = [
                Message(number, topic, bytes(body)) for number, topic, body in cursor.fetchall()
            ]
        for message in waiting:
            publish(message)
            with self.transaction() as cursor:
                self._run(cursor, "DELETE FROM saga_outbox WHERE number = ?", message.number)
        return len(waiting)

    def receive(self, message: str, work: Work) -> bool:
        """Let a message take effect, once; False if it has before.

        Args:
            message: its identity: who sent it, and its number there.
        """
        with self.transaction() as cursor:
            sql = "INSERT INTO saga_inbox VALUES (?) ON CONFLICT DO NOTHING"
            self._run(cursor, sql, message)
            if cursor.rowcount != 1:
                return False
            work(cursor)
            return True

    # --- inside ---------------------------------------------------------------------------------

    def _mark(self, cursor: Cursor, token: str, *, barred: bool) -> bool:
        """Set a mark if there is none; whether there was none."""
        sql = "INSERT INTO saga_effects VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._run(cursor, sql, token, int(barred), msgpack.packb(None))
        return cursor.rowcount == 1

    def _run(self, cursor: Cursor, sql: str, *parameters: object) -> None:
        cursor.execute(sql.replace("?", self._dialect.mark), parameters)
