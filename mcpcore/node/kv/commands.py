"""What can be asked of the key-value machine: commands, which go through the log, and requests.

This module exists so that a client, a node and a log agree on the bytes. Writing to the store is a
*command*: proposed, committed, applied on every member. Reading it is a *request*: answered by one
member. It decides nothing; in particular it knows no limits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import msgpack

from mcpcore.node.kv.records import prefix_end
from mcpcore.node.kv.wire import (
    EXPECTATION,
    OPTIONAL_BYTES,
    OPTIONAL_NUMBER,
    Codec,
    form,
    read_many,
    read_number,
)


class Put(NamedTuple):
    """Set a key. Answers ``PutDone``."""

    key: bytes
    value: bytes
    lease: int = 0
    """The lease to hang the key on; 0 takes it off any lease."""
    want_previous: bool = False
    """Whether the answer brings the record that was replaced."""


class Delete(NamedTuple):
    """Remove a key if it is there. Answers ``Deleted``."""

    key: bytes
    want_previous: bool = False
    """Whether the answer brings the record that was removed."""


class DeletePrefix(NamedTuple):
    """Remove the keys that start with ``prefix``, in order, as many as one command may.

    Answers ``Deleted``; if that says ``more``, ask again. An empty prefix means every key.
    """

    prefix: bytes


class CompareAndSet(NamedTuple):
    """Set or remove a key if it is in the expected state. Answers ``Swapped`` or ``NotSwapped``."""

    key: bytes
    expected: bytes | int | None
    """Bytes: the value. A number: ``mod_revision``, 0 for no such key. None: no such key."""
    value: bytes | None
    """The new value; None removes the key."""
    lease: int = 0


class Target(IntEnum):
    """What of a record a comparison looks at; of a key that is not there, all are 0 or empty."""

    VALUE = 0
    VERSION = 1
    CREATE_REVISION = 2
    MOD_REVISION = 3
    LEASE = 4


class Relation(IntEnum):
    """How it must stand to what is expected."""

    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    GREATER = 3


class Compare(NamedTuple):
    """One condition of a transaction.

    The value of a key that is not there stands in no relation to anything, not even ``NOT_EQUAL``
    (as in etcd); ask ``VERSION`` for 0 to find out whether a key is there.
    """

    key: bytes
    target: Target
    relation: Relation
    expected: bytes | int
    """Bytes for ``Target.VALUE``, a number for all others."""

    @classmethod
    def unchanged(cls, key: bytes, mod_revision: int) -> Compare:
        """The key was not changed since that revision; 0: it is still not there."""
        return cls(key, Target.MOD_REVISION, Relation.EQUAL, mod_revision)


class Txn(NamedTuple):
    """Do several things at one revision, which of two lists depends on the comparisons.

    All or nothing: if one operation of the list were refused, none is done. Later operations see
    what earlier ones did. No key may be written twice in one list, and a list has at most
    ``TXN_OPERATIONS_MAX`` operations. Answers ``TxnDone``, with one answer for each operation.
    """

    compare: tuple[Compare, ...]
    then: tuple[TxnOperation, ...]
    """Done if all comparisons hold."""
    otherwise: tuple[TxnOperation, ...] = ()
    """Done if one does not."""


class LeaseGrant(NamedTuple):
    """Make a lease. Answers ``LeaseGranted``; its id is the log index of the command."""

    ttl_ms: int


class LeaseRevoke(NamedTuple):
    """End a lease and remove its keys. Answers ``LeasesEnded``."""

    lease: int


class LeaseExpire(NamedTuple):
    """End the leases that ran out, those that still exist, and remove their keys.

    Proposed by the leader alone, on word of its ``LeaseTimer``, and only while it leads in the term
    in which the timer was started. Never forwarded. Answers ``LeasesEnded``.
    """

    leases: tuple[int, ...]


class Get(NamedTuple):
    """Read one key. Answers ``Found``."""

    key: bytes


class Scan(NamedTuple):
    """Read the keys in [start, end), in order. Answers ``Scanned``.

    To go on where an answer ended, ask again with ``start=answer.next_key``.
    """

    start: bytes = b""
    end: bytes | None = None
    """The first key that is not wanted; None: no end."""
    limit: int = 0
    """Most records wanted; 0: as many as one answer may bring."""
    keys_only: bool = False
    """Leave the values out (they come as empty)."""

    @classmethod
    def of_prefix(cls, prefix: bytes, limit: int = 0, *, keys_only: bool = False) -> Scan:
        """Everything that starts with ``prefix``."""
        return cls(prefix, prefix_end(prefix), limit, keys_only)


class LeaseGet(NamedTuple):
    """Read what a lease is and which keys hang on it. Answers ``LeaseFound``."""

    lease: int


class LeaseKeepAlive(NamedTuple):
    """Let a lease run its full time again. Answered by the node of the leader, ``LeaseAlive``."""

    lease: int


class Watch(NamedTuple):
    """Hear of changes. Answered by a node with ``Changes``, ``Compacted`` and ``TooSlow``."""

    key: bytes
    """A key, or the beginning of keys."""
    prefix: bool = False
    """Whether ``key`` is a beginning. An empty beginning means every key."""
    after_revision: int | None = None
    """Changes after this revision; None: after the latest one the node has applied."""


TxnOperation = Put | Delete | Get
"""What a transaction is made of."""
OtherCommand = Delete | DeletePrefix | CompareAndSet | LeaseGrant | LeaseRevoke | LeaseExpire | Txn
"""Every command but ``Put``."""
Command = Put | OtherCommand
Request = Get | Scan | LeaseGet | LeaseKeepAlive | Watch


def _read_leases(body: tuple[object, ...]) -> tuple[object, ...]:
    return (read_many(body[0], read_number),)


def _write_txn(txn: Txn) -> tuple[object, ...]:
    return (
        tuple(map(_read_compare, txn.compare)),
        tuple(map(_OPERATIONS.fields, txn.then)),
        tuple(map(_OPERATIONS.fields, txn.otherwise)),
    )


def _read_txn(body: tuple[object, ...]) -> tuple[object, ...]:
    return (
        read_many(body[0], _read_compare),
        read_many(body[1], _OPERATIONS.read),
        read_many(body[2], _OPERATIONS.read),
    )


def _read_compare(value: object) -> Compare:
    if not isinstance(value, tuple) or len(value) != 4:
        raise ValueError(f"{value!r} is no comparison")
    key, target, relation, expected = value
    wanted = bytes if target == Target.VALUE else int
    if type(key) is not bytes or type(expected) is not wanted:
        raise ValueError(f"a comparison of {target!r} with {expected!r}")
    return Compare(key, Target(target), Relation(relation), expected)


# Tags are for ever: they stand in logs.
_OPERATIONS: Final[Codec[TxnOperation]] = Codec(
    "operation of a transaction",
    (
        form(1, Put, bytes, bytes, int, bool),
        form(2, Delete, bytes, bool),
        form(3, Get, bytes),
    ),
)
_COMMANDS: Final[Codec[Command]] = Codec(
    "command",
    (
        form(1, Put, bytes, bytes, int, bool),
        form(2, Delete, bytes, bool),
        form(3, DeletePrefix, bytes),
        form(4, CompareAndSet, bytes, EXPECTATION, OPTIONAL_BYTES, int),
        form(5, LeaseGrant, int),
        form(6, LeaseRevoke, int),
        form(7, LeaseExpire, tuple, read=_read_leases),
        form(8, Txn, tuple, tuple, tuple, read=_read_txn, write=_write_txn),
    ),
)
_REQUESTS: Final[Codec[Request]] = Codec(
    "request",
    (
        form(1, Get, bytes),
        form(2, Scan, bytes, OPTIONAL_BYTES, int, bool),
        form(3, LeaseGet, int),
        form(4, LeaseKeepAlive, int),
        form(5, Watch, bytes, bool, OPTIONAL_NUMBER),
    ),
)

encode_command = _COMMANDS.encode
"""The bytes of a command, to be proposed. Raises InvalidInput on a field of the wrong type."""
decode_command = _COMMANDS.decode
"""The command in some bytes. Raises InvalidInput if there is none."""
PUT_HEAD: Final = encode_command(Put(b"k", b""))[:2]
"""How every put that ``encode_command`` makes begins: an array of five, and the tag."""


def read_put(command: bytes) -> tuple[bytes, bytes, int, bool] | None:
    """The fields of a put, without a ``Put`` around them, from bytes that begin with ``PUT_HEAD``.

    None: they are no put; ``decode_command`` says what is wrong.
    """
    try:
        _, key, value, lease, want_previous = msgpack.unpackb(command, use_list=False)
    except Exception:  # noqa: BLE001 - msgpack raises several unrelated classes
        return None
    if (
        type(key) is bytes
        and type(value) is bytes
        and type(lease) is int
        and type(want_previous) is bool
    ):
        return key, value, lease, want_previous
    return None


encode_request = _REQUESTS.encode
"""The bytes of a request. Raises InvalidInput on a field of the wrong type."""
decode_request = _REQUESTS.decode
"""The request in some bytes. Raises InvalidInput if there is none."""
