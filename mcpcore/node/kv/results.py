"""What the key-value machine answers.

This module exists so that a client reads an answer as the machine meant it. Every answer that
depends on the state carries ``revision``: the revision of the latest change the answer knows of,
which is where a watch goes on from (``Watch.after_revision``). It decides nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgpack

from mcpcore.node.kv.records import Event, KeyValue
from mcpcore.node.kv.wire import (
    OPTIONAL_BYTES,
    Codec,
    form,
    read_bytes,
    read_event,
    read_many,
    read_optional_record,
    read_record,
)


class PutDone(NamedTuple):
    """The key was set, at ``revision``."""

    revision: int
    previous: KeyValue | None = None
    """What it replaced, if that was wanted and there was something."""


class Deleted(NamedTuple):
    """What a deletion did; ``revision`` is the latest change, this one if ``count`` is not 0."""

    revision: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    previous: KeyValue | None = None
    """What was removed, if that was wanted and there was something."""
    more: bool = False
    """Whether keys with the prefix remain, because one command removes only so many."""


class Swapped(NamedTuple):
    """The key was as expected; it has the new value."""

    revision: int


class NotSwapped(NamedTuple):
    """The key was not as expected; nothing was changed."""

    revision: int
    current: KeyValue | None
    """The record that is there; None if there is none."""


class TxnDone(NamedTuple):
    """A transaction was carried out; ``revision`` is the latest change, its own if it made any."""

    revision: int
    succeeded: bool
    """Whether its comparisons held, so that ``then`` was done and not ``otherwise``."""
    answers: tuple[TxnAnswer, ...]
    """One for each operation, in order."""


class LeaseGranted(NamedTuple):
    """A new lease."""

    lease: int
    ttl_ms: int


class LeasesEnded(NamedTuple):
    """Leases are gone, and with them ``count`` keys."""

    revision: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class Found(NamedTuple):
    """The answer to ``Get``."""

    revision: int
    record: KeyValue | None
    """None: no such key."""


class Scanned(NamedTuple):
    """The answer to ``Scan``: records in the order of their keys."""

    revision: int
    records: tuple[KeyValue, ...]
    next_key: bytes | None
    """The first key that was left out; None if all are here."""


class LeaseFound(NamedTuple):
    """The answer to ``LeaseGet``."""

    lease: int
    ttl_ms: int
    keys: tuple[bytes, ...]
    """Sorted."""


class LeaseAlive(NamedTuple):
    """The answer to ``LeaseKeepAlive``: the lease runs for ``ttl_ms`` from when it was asked."""

    lease: int
    ttl_ms: int


class Changes(NamedTuple):
    """All changes of one revision that a watcher cares about."""

    revision: int
    events: tuple[Event, ...]


class Compacted(NamedTuple):
    """A watch cannot go on: some changes since its revision are no longer kept.

    Read the state anew (``Get``, ``Scan``) and watch after the revision of that answer.
    """

    oldest_revision: int
    """The oldest ``after_revision`` from which a watch would miss nothing here."""


class TooSlow(NamedTuple):
    """A watch was ended: changes came faster than its client fetched them. Nothing was skipped."""

    resume_after: int
    """Watch again with this as ``after_revision``."""


class RefusalCode(StrEnum):
    """Why nothing was done."""

    MALFORMED = "malformed"
    KEY_LENGTH = "key_length"
    VALUE_LENGTH = "value_length"
    LEASE_UNKNOWN = "lease_unknown"
    LEASE_TTL = "lease_ttl"
    LEASES_FULL = "leases_full"
    LEASE_KEYS_FULL = "lease_keys_full"
    TXN_SIZE = "txn_size"
    TXN_TWICE = "txn_twice"


class Refused(NamedTuple):
    """Nothing was done, and the same command would be refused again in the same state."""

    code: RefusalCode
    message: str
    """What was wrong and what to do, for people."""


TxnAnswer = PutDone | Deleted | Found
"""The answer to one operation of a transaction."""
Result = (
    PutDone
    | Deleted
    | Swapped
    | NotSwapped
    | LeaseGranted
    | LeasesEnded
    | Found
    | Scanned
    | LeaseFound
    | LeaseAlive
    | Changes
    | Compacted
    | TooSlow
    | Refused
    | TxnDone
)

_OPTIONAL_RECORD: Final = (type(None), tuple, KeyValue)

_Body = tuple[object, ...]


def _record_at_1(body: _Body) -> _Body:
    return (body[0], read_optional_record(body[1]))


def _deleted(body: _Body) -> _Body:
    return (body[0], body[1], read_optional_record(body[2]), body[3])


def _scanned(body: _Body) -> _Body:
    return (body[0], read_many(body[1], read_record), body[2])


def _lease_found(body: _Body) -> _Body:
    return (body[0], body[1], read_many(body[2], read_bytes))


def _changes(body: _Body) -> _Body:
    return (body[0], read_many(body[1], read_event))


def _refused(body: _Body) -> _Body:
    return (RefusalCode(str(body[0])), body[1])


def _write_txn(done: TxnDone) -> tuple[object, ...]:
    return (done.revision, done.succeeded, tuple(map(_ANSWERS.fields, done.answers)))


def _read_txn(body: _Body) -> _Body:
    return (body[0], body[1], read_many(body[2], _ANSWERS.read))


_PUT_DONE: Final = 1
_pack = msgpack.Packer().pack

_ANSWERS: Final[Codec[TxnAnswer]] = Codec(
    "answer in a transaction",
    (
        form(_PUT_DONE, PutDone, int, _OPTIONAL_RECORD, read=_record_at_1),
        form(2, Deleted, int, int, _OPTIONAL_RECORD, bool, read=_deleted),
        form(7, Found, int, _OPTIONAL_RECORD, read=_record_at_1),
    ),
)
_RESULTS: Final[Codec[Result]] = Codec(
    "result",
    (
        form(_PUT_DONE, PutDone, int, _OPTIONAL_RECORD, read=_record_at_1),
        form(2, Deleted, int, int, _OPTIONAL_RECORD, bool, read=_deleted),
        form(3, Swapped, int),
        form(4, NotSwapped, int, _OPTIONAL_RECORD, read=_record_at_1),
        form(5, LeaseGranted, int, int),
        form(6, LeasesEnded, int, int),
        form(7, Found, int, _OPTIONAL_RECORD, read=_record_at_1),
        form(8, Scanned, int, tuple, OPTIONAL_BYTES, read=_scanned),
        form(9, LeaseFound, int, int, tuple, read=_lease_found),
        form(10, LeaseAlive, int, int),
        form(11, Changes, int, tuple, read=_changes),
        form(12, Compacted, int),
        form(13, TooSlow, int),
        form(14, Refused, (str, RefusalCode), str, read=_refused),
        form(15, TxnDone, int, bool, tuple, read=_read_txn, write=_write_txn),
    ),
)

encode_result = _RESULTS.encode_own
"""The bytes of a result. Only this library makes results, so they are not checked."""


def encode_put_done(revision: int, previous: KeyValue | None) -> bytes:
    """What ``encode_result(PutDone(revision, previous))`` gives."""
    encoded: bytes = _pack((_PUT_DONE, revision, previous))
    return encoded


decode_result = _RESULTS.decode
"""The result in some bytes. Raises InvalidInput if there is none."""
