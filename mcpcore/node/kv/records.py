"""The nouns of the key-value machine: records, events, limits, the end of a prefix.

This module exists so that commands, results, store and watchers speak of the same few values.
Plain data; it decides nothing and must never import anything that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from mcpcore.errors import InvalidInput

KEY_BYTES_MAX: Final = 4096
"""A key has between 1 and this many bytes."""

TXN_OPERATIONS_MAX: Final = 128
"""Each list of a transaction has at most this many operations or comparisons (as in etcd)."""


class KeyValue(NamedTuple):
    """One record, with etcd's bookkeeping. A *revision* is the log index of a change."""

    key: bytes
    value: bytes
    create_revision: int
    """Where the key came into being, after it was last deleted."""
    mod_revision: int
    """Where the key last changed."""
    version: int
    """Changes since creation: 1 for a new record."""
    lease: int = 0
    """The lease that the record dies with; 0 if none."""


class EventKind(IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class Event(NamedTuple):
    """One change of one key."""

    kind: EventKind
    record: KeyValue
    """What the key became. After a delete only ``key`` and ``mod_revision`` say anything."""
    previous_revision: int
    """``mod_revision`` of the record that this change replaced; 0 if there was none."""


@dataclass(frozen=True, slots=True)
class KeyValueLimits:
    """What one group accepts.

    HAZARD: these decide whether a command is refused, so they must be equal on all members of a
    group. They are part of the snapshot and of the digest: a restored member follows its group, and
    a member that was configured differently is found by the first comparison of digests.

    Args:
        value_bytes: longest value.
        range_records: most records that one scan returns or one prefix deletion removes.
        range_bytes: keys and values in the answer to one scan; one record always fits.
        leases: most leases at a time.
        lease_keys: most keys that hang on one lease.
        lease_ttl_ms: longest time to live of a lease, in milliseconds.
    """

    value_bytes: int = 1 << 20
    range_records: int = 1000
    range_bytes: int = 4 << 20
    leases: int = 100_000
    lease_keys: int = 10_000
    lease_ttl_ms: int = 10 * 365 * 24 * 3600 * 1000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or not 0 < value < 1 << 63:
                raise InvalidInput(
                    f"must be a positive whole number, not {value!r}",
                    where=f"KeyValueLimits.{name}",
                )


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all keys that start with ``prefix``; None if there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
