"""The upper bound on disk: why a restart never repeats a timestamp.

This module exists so that "no timestamp is ever issued above what the disk already says" is one
small piece of arithmetic. It decides when a later bound is due and what a restart may assume; the
caller stores the bytes and calls :meth:`HybridClock.raise_ceiling` *after* they are durable. It
must never touch a disk.

HAZARD: raising the ceiling before the store is durable gives up the whole promise: a crash in
between, and the next run may issue the same timestamps again for other events.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from mcpcore.clock.timestamp import COUNTER_BITS, COUNTER_MAX, PHYSICAL_NS_MAX, Timestamp
from mcpcore.errors import ClockBoundMissing, InvalidInput

_MAGIC = b"hlcb"
_RECORD_BYTES = len(_MAGIC) + 12 + 4


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a restarted clock may assume.

    Args:
        floor: hand it to :class:`HybridClock`; every timestamp will be later.
        wait_ns: how long the wall clock still needs to pass the floor. Waiting is not needed for
            order; without it the first timestamps run ahead of physical time by that much, and
            peers may refuse them. A wait longer than ``ahead_ns`` means that the wall clock stands
            behind where it stood in the previous run.
    """

    floor: Timestamp
    wait_ns: int


@dataclass(frozen=True, slots=True)
class UpperBound:
    """How far each stored bound reaches ahead.

    Args:
        ahead_ns: the reach. Longer means fewer stores and a longer wait after a crash. Stores
            happen about every half of it.

    Raises:
        InvalidInput: ``ahead_ns`` is not positive.
    """

    ahead_ns: int = 3_000_000_000

    def __post_init__(self) -> None:
        if self.ahead_ns <= 0:
            raise InvalidInput(f"{self.ahead_ns} is not positive", where="ahead_ns")

    def due(self, last: int, ceiling: int, wall_ns: int) -> Timestamp | None:
        """The bound to store now, or None while at least half of the reach is left.

        Args:
            last: the clock's latest timestamp.
            ceiling: the bound on disk, or the recovered floor when none of this run is there yet.
            wall_ns: physical time now.
        """
        at_ns = max(last >> COUNTER_BITS, wall_ns, 0)
        if (ceiling >> COUNTER_BITS) - at_ns > self.ahead_ns // 2:
            return None
        reach_ns = min(at_ns + self.ahead_ns, PHYSICAL_NS_MAX)
        return max(Timestamp.of(reach_ns, COUNTER_MAX), Timestamp(ceiling))

    def recover(self, stored: Timestamp | None, *, wall_ns: int, fresh: bool = False) -> Recovery:
        """What to assume at start.

        Args:
            stored: the bound found on disk, or the latest timestamp that any peer has seen from
                this node; None if there is neither.
            wall_ns: physical time now.
            fresh: this node never issued a timestamp.

        Raises:
            ClockBoundMissing: nothing stored, and not fresh.
        """
        if stored is None:
            if not fresh:
                raise ClockBoundMissing
            return Recovery(Timestamp(0), 0)
        return Recovery(stored, max(0, stored.physical_ns + 1 - wall_ns))


def encode_bound(bound: Timestamp) -> bytes:
    """The record to store: 20 bytes with a checksum. Replace the old one atomically."""
    body = _MAGIC + bound.to_bytes12()
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode_bound(record: bytes) -> Timestamp:
    """Read a stored record.

    Raises:
        InvalidInput: torn, rotten, or another file altogether. Treat it as missing, never as zero.
    """
    if len(record) != _RECORD_BYTES or not record.startswith(_MAGIC):
        raise InvalidInput(
            f"{len(record)} bytes that are no clock bound",
            where="stored upper bound",
            remedy="Treat the bound as missing",
        )
    body, check = record[:-4], record[-4:]
    if zlib.crc32(body) != int.from_bytes(check, "big"):
        raise InvalidInput(
            "the checksum does not match",
            where="stored upper bound",
            remedy="Treat the bound as missing",
        )
    return Timestamp.from_wire(body[len(_MAGIC) :])
