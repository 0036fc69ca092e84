"""Single values: multi-value, last-writer-wins, most restrictive; and flags.

This module exists so that concurrent writes meet by a stated rule. A write replaces exactly what it
saw; only concurrent writes are left to the rule. So a writer whose clock is behind never loses to
what it overwrote. It must never read a clock: timestamps are handed in.

Source: Shapiro et al. 2011; Almeida, Shoker, Baquero 2018, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from mcpcore.clock import Order, Reading, Timestamp, compare_with_uncertainty
from mcpcore.crdt.causal import ABSENT, PRESENT, STAMPED, VALUE, Causal, Entry
from mcpcore.crdt.context import Dot
from mcpcore.crdt.values import Value, fields, pack, parse
from mcpcore.crdt.view import CausalView
from mcpcore.errors import InvalidInput


class MVRegister(CausalView):
    """A register that shows every value of concurrent writes."""

    __slots__ = ()
    TAG = "mv"

    def set(self, replica: str, value: Value) -> Causal:
        """Write a value over all that are seen here. Returns the delta."""
        return self._write(replica, VALUE, pack(value))

    def values(self) -> tuple[Value, ...]:
        """The values that no write has seen, each once, in one order everywhere; maybe none."""
        found = {entry.payload for _, entry in self._entries(VALUE)}
        return tuple(parse(payload) for payload in sorted(found))


@dataclass(frozen=True, slots=True)
class Write:
    """One write to a last-writer-wins register."""

    value: Value
    reading: Reading
    dot: Dot

    @property
    def replica(self) -> str:
        """Who wrote."""
        return self.dot[0]


class LWWRegister(CausalView):
    """A register whose latest concurrent write wins, and which says when that was a guess.

    The order is: what saw the other; else the later timestamp; else the larger replica id. A loser
    whose uncertainty overlaps the winner's is kept and reported by :meth:`conflicts` until the next
    write, because the clocks cannot tell which of the two was really last.

    HAZARD: a clock that runs far ahead wins over concurrent writes until it is mended. Refuse
    timestamps from the future where they come in (``Limits.ahead_ns_max``), as
    :class:`mcpcore.clock.HybridClock` does.
    """

    __slots__ = ()
    TAG = "lww"

    def set(self, replica: str, value: Value, at: Reading | Timestamp) -> Causal:
        """Write a value at a time of the hybrid clock. Returns the delta."""
        reading = at if isinstance(at, Reading) else Reading(at, 0)
        if reading.uncertainty_ns < 0 or not isinstance(reading.timestamp, Timestamp):
            raise InvalidInput(f"{at!r} is no reading of a clock", where="register")
        row = (reading.timestamp.to_bytes12(), reading.uncertainty_ns, value)
        return self._write(replica, STAMPED, pack(row))

    def writes(self) -> list[Write]:
        """All writes that no other has seen, the winner last."""
        found = [read_write(dot, entry) for dot, entry in self._entries(STAMPED)]
        return sorted(found, key=lambda write: (write.reading.timestamp, write.dot))

    def value(self) -> Value:
        """The winner's value; None if nothing was written."""
        writes = self.writes()
        return writes[-1].value if writes else None

    def winner(self) -> Write | None:
        """The winning write."""
        writes = self.writes()
        return writes[-1] if writes else None

    def conflicts(self) -> list[Write]:
        """The losers that may really have been last: another value, too close in time to tell."""
        writes = self.writes()
        return [
            lost
            for lost in writes[:-1]
            if pack(lost.value) != pack(writes[-1].value)
            and compare_with_uncertainty(lost.reading, writes[-1].reading) is Order.UNCERTAIN
        ]


def read_write(dot: Dot, entry: Entry) -> Write:
    """A STAMPED entry as what it says."""
    stamp, uncertainty_ns, value = fields(entry.payload)
    reading = Reading(Timestamp.from_wire(stamp), uncertainty_ns)
    return Write(value, reading, dot)


class _Scalar(CausalView):
    """A number that writes can only make more restrictive, until it is reset."""

    __slots__ = ()

    def tighten(self, replica: str, value: int | float) -> Causal:
        """Bring in one more bound; it replaces the looser ones seen here. Returns the delta.

        A bound that is looser than what is here is kept too: a concurrent reset may take the
        tighter one away, and has not seen this.
        """
        if type(value) not in (int, float):
            raise InvalidInput(f"{value!r} is no number", where="scalar")
        entry = Entry(self.path, VALUE, pack(value))
        looser = [dot for dot, bound in self._bounds() if self._tightest(value, bound) == value]
        return self.state.mutate(replica, looser, [entry])

    def value(self) -> int | float | None:
        """The tightest bound; None if there is none."""
        bounds = [bound for _, bound in self._bounds()]
        return reduce(self._tightest, bounds) if bounds else None

    def _bounds(self) -> list[tuple[Dot, int | float]]:
        found = [(dot, parse(entry.payload)) for dot, entry in self._entries(VALUE)]
        return [(dot, bound) for dot, bound in found if isinstance(bound, int | float)]

    def _tightest(self, a: int | float, b: int | float) -> int | float:
        raise NotImplementedError


class MinScalar(_Scalar):
    """A bound that joins to the least: a rate limit, a time to live."""

    __slots__ = ()
    TAG = "min"

    def _tightest(self, a: int | float, b: int | float) -> int | float:
        return min(a, b)


class MaxScalar(_Scalar):
    """A bound that joins to the greatest: a least version, a least key length."""

    __slots__ = ()
    TAG = "max"

    def _tightest(self, a: int | float, b: int | float) -> int | float:
        return max(a, b)


class EWFlag(CausalView):
    """A flag, off at first, in which enabling wins over concurrent disabling."""

    __slots__ = ()
    TAG = "ew"

    def enable(self, replica: str) -> Causal:
        """Switch on. Returns the delta."""
        return self._write(replica, PRESENT)

    def disable(self, replica: str) -> Causal:
        """Switch off what is seen here. Returns the delta."""
        return self.state.mutate(replica, self.state.at(self.path), ())

    def value(self) -> bool:
        """Whether it is on."""
        return self._present(self.path)


class DWFlag(CausalView):
    """A flag, off at first, in which disabling wins over concurrent enabling."""

    __slots__ = ()
    TAG = "dw"

    def enable(self, replica: str) -> Causal:
        """Switch on. Returns the delta."""
        return self._write(replica, PRESENT)

    def disable(self, replica: str) -> Causal:
        """Switch off, and with it every enabling that has not seen this. Returns the delta."""
        return self._write(replica, ABSENT)

    def value(self) -> bool:
        """Whether it is on."""
        return self._present(self.path) and not self._has(ABSENT, self.path)
