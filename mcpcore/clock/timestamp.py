"""What a timestamp is: one integer, physical nanoseconds above, a logical counter below.

This module exists so that "later" is integer comparison everywhere: in a sort, in a B-tree, in a
dictionary of versions. It knows the encodings and nothing about clocks. It must never read one,
nor import anything that acts.

The layout is ``physical_ns << 32 | counter``: 64 bits of nanoseconds since the Unix epoch (until
the year 2554) and 32 bits of counter. The paper's pair (l, c) compares as that one integer does,
because lexicographic order on fixed-width fields *is* the order of their concatenation.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import SupportsInt

import msgpack

from mcpcore.errors import InvalidInput

COUNTER_BITS = 32
COUNTER_MAX = (1 << COUNTER_BITS) - 1
PHYSICAL_NS_MAX = (1 << 64) - 1
TIMESTAMP_MAX = PHYSICAL_NS_MAX << COUNTER_BITS | COUNTER_MAX

MSGPACK_EXT_TYPE = 72
"""The msgpack extension type of a timestamp: the letter H."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_S = 1_000_000_000
_TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{9})Z-([0-9]{10})"
)


class Timestamp(int):
    """A moment in hybrid logical time; an ``int`` that knows its two halves.

    Comparing, hashing and sorting are those of the integer, so a timestamp equals the bare number
    it stands for. Arithmetic yields bare numbers. ``Timestamp(n)`` believes ``n``, because a clock
    makes millions of them; use :meth:`of`, :meth:`from_bytes` or :meth:`parse` for anything that
    comes from outside.
    """

    __slots__ = ()

    @classmethod
    def of(cls, physical_ns: int, counter: int = 0) -> Timestamp:
        """Put the two halves together.

        Raises:
            InvalidInput: a half does not fit its field.
        """
        if not 0 <= physical_ns <= PHYSICAL_NS_MAX:
            raise InvalidInput(
                f"{physical_ns} ns is outside 0..2**64-1",
                where="physical_ns",
                remedy="Hand in nanoseconds since the Unix epoch",
            )
        if not 0 <= counter <= COUNTER_MAX:
            raise InvalidInput(f"{counter} is outside 0..2**32-1", where="counter")
        return cls(physical_ns << COUNTER_BITS | counter)

    @property
    def physical_ns(self) -> int:
        """Nanoseconds since the Unix epoch: the paper's *l*."""
        return int(self) >> COUNTER_BITS

    @property
    def counter(self) -> int:
        """Position among the events of one nanosecond: the paper's *c*."""
        return int(self) & COUNTER_MAX

    # --- bytes ----------------------------------------------------------------------------------

    def to_bytes12(self) -> bytes:
        """All of it, big-endian: bytes compare as timestamps do."""
        return int(self).to_bytes(12, "big")

    def to_bytes8(self) -> bytes:
        """The physical half alone, big-endian, for stores whose keys are 64-bit.

        What it gives up: timestamps of one nanosecond become equal. Order is kept otherwise
        (``a <= b`` implies that the bytes of ``a`` are not above those of ``b``), and reading back
        yields the earliest timestamp of that nanosecond.
        """
        return self.physical_ns.to_bytes(8, "big")

    @classmethod
    def from_wire(cls, data: bytes) -> Timestamp:
        """Read either byte form; the length tells which.

        Raises:
            InvalidInput: neither 8 nor 12 bytes.
        """
        if len(data) == 12:
            return cls(int.from_bytes(data, "big"))
        if len(data) == 8:
            return cls(int.from_bytes(data, "big") << COUNTER_BITS)
        raise InvalidInput(f"a timestamp takes 8 or 12 bytes, not {len(data)}")

    # --- text -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        """``2026-11-23T01:02:03.000000004Z-0000000005``; text sorts as timestamps do."""
        seconds, nanoseconds = divmod(self.physical_ns, _NS_PER_S)
        moment = _EPOCH + timedelta(seconds=seconds)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z-{self.counter:010d}"

    def __repr__(self) -> str:
        if 0 <= self <= TIMESTAMP_MAX:
            return f"Timestamp.parse('{self}')"
        return f"Timestamp({int(self)})"

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """Read the text form back, exactly.

        Raises:
            InvalidInput: not that form, or not a moment that exists.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InvalidInput(
                f"{text!r} is no timestamp",
                remedy="The form is 2026-11-23T01:02:03.000000004Z-0000000005",
            )
        try:
            moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        except ValueError as error:
            raise InvalidInput(f"{text!r} is no timestamp: {error}") from error
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
        return cls.of(seconds * _NS_PER_S + int(found[2]), int(found[3]))

    # --- datetime -------------------------------------------------------------------------------

    def to_datetime(self) -> datetime:
        """The physical half in UTC, cut to the microsecond that ``datetime`` can hold."""
        return _EPOCH + timedelta(microseconds=self.physical_ns // 1000)

    @classmethod
    def from_datetime(cls, moment: datetime) -> Timestamp:
        """The first timestamp of an aware datetime's microsecond.

        Raises:
            InvalidInput: ``moment`` has no time zone, or lies outside 1970..2554.
        """
        if moment.utcoffset() is None:
            raise InvalidInput(f"{moment!r} has no time zone", remedy="Attach one, such as UTC")
        return cls.of((moment - _EPOCH) // timedelta(microseconds=1) * 1000)

    # --- msgpack --------------------------------------------------------------------------------

    def to_msgpack(self) -> msgpack.ExtType:
        """The extension value: type 72, twelve bytes."""
        return msgpack.ExtType(MSGPACK_EXT_TYPE, self.to_bytes12())


def msgpack_default(value: object) -> object:
    """For ``msgpack.packb(..., default=msgpack_default, strict_types=True)``.

    Without ``strict_types`` msgpack takes a small timestamp for the number it is and drops its
    type.

    Raises:
        TypeError: something else that msgpack cannot pack; the signal msgpack expects.
    """
    if isinstance(value, Timestamp):
        return value.to_msgpack()
    raise TypeError(f"cannot pack a {type(value).__name__}")


def msgpack_ext_hook(code: int, data: bytes) -> object:
    """For ``msgpack.unpackb(..., ext_hook=msgpack_ext_hook)``; other types stay as they came.

    Raises:
        InvalidInput: our type with a wrong length.
    """
    if code == MSGPACK_EXT_TYPE:
        return Timestamp.from_wire(data)
    return msgpack.ExtType(code, data)


def as_timestamp(value: SupportsInt) -> Timestamp:
    """A number from outside as a timestamp.

    Raises:
        InvalidInput: outside the 96 bits.
    """
    number = int(value)
    if not 0 <= number <= TIMESTAMP_MAX:
        raise InvalidInput(f"{number} is outside 0..2**96-1", where="timestamp")
    return Timestamp(number)
