"""The hybrid logical clock: issuing timestamps and folding in those of peers.

This module exists so that the paper's two rules (Kulkarni, Demirbas, Madappa, Avva, Leone 2014,
Figure 5) stand on one screen, as arithmetic on one integer. It decides; it stores nothing, sends
nothing and reads time only through the source it is handed. It must never import a clock.

On one integer the rules are short. Local event: ``t = max(last + 1, pt << 32)``. Receive event:
``t = max(last + 1, remote + 1, pt << 32)``. A counter that overflows carries into the physical
half: after four thousand million events in one nanosecond the clock runs one nanosecond ahead,
and stays strictly increasing.

The state lives in closure cells and not in attributes, because reading a cell is the cheapest
thing CPython can do with state and this is the hottest line of the library.

HAZARD: a clock belongs to one thread. Its read-modify-write is not atomic; two threads sharing one
can be given the same timestamp. Give each thread its own clock with its own node name, or hold a
lock around every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcpcore.clock.timestamp import COUNTER_BITS, TIMESTAMP_MAX, Timestamp
from mcpcore.errors import ClockCeilingReached, InvalidInput, TimestampTooFarAhead

MAX_OFFSET_NS = 500_000_000
"""How far ahead a peer may be by default: half a second."""

REFUSALS_NAMED_MAX = 256
"""Peers counted by name. Further ones are counted together under the empty name."""


class _Observe(Protocol):
    def __call__(
        self, remote: int, peer: str = "", floor_ns: int = 0, counter_step: int = 1
    ) -> Timestamp: ...


class HybridClock:
    """Issues timestamps that follow physical time and respect causality.

    Args:
        wall_ns: the physical clock, nanoseconds since the Unix epoch. May jump, freeze or run
            backward; timestamps will not.
        max_offset_ns: how far ahead of ``wall_ns`` an observed timestamp may lie. One bad clock
            could otherwise drag the whole cluster into the future.
        floor: every timestamp issued will be later than this one: the upper bound that the
            previous run left on disk.
        ceiling: no timestamp issued will be later than this one: the upper bound that is on disk
            now. Without one, a restart may repeat timestamps.

    Raises:
        InvalidInput: a negative ``max_offset_ns``, or a ceiling below the floor.
    """

    __slots__ = ("_last", "_set_ceiling", "max_offset_ns", "now", "observe", "refusals", "tick")

    now: Callable[[], Timestamp]
    """Issue the timestamp of a local event or of a message to send.

    Raises ClockCeilingReached: see :meth:`raise_ceiling`; nothing was issued.
    """

    tick: Callable[[], int]
    """As :attr:`now`, but a bare integer: two fifths cheaper, for the innermost loops."""

    observe: _Observe
    """Fold in a timestamp that a peer sent, and issue the timestamp of its receipt.

    The result is later than all we issued and than ``remote``.

    Args: ``remote``, the peer's timestamp; ``peer``, whom to blame; ``floor_ns``, a *proved* lower
    bound of the one-way delay, which lifts the physical half to at least ``remote`` plus it (the
    weighted increment; see ``mcpcore.clock.compensation``); ``counter_step``, how much the counter
    grows, 1 except for the literal weighting.

    Raises TimestampTooFarAhead (refused, counted in :attr:`refusals`, our clock did not move),
    ClockCeilingReached, InvalidInput (no timestamp at all).
    """

    refusals: dict[str, int]
    """How many timestamps of each peer were refused."""

    def __init__(
        self,
        wall_ns: Callable[[], int],
        *,
        max_offset_ns: int = MAX_OFFSET_NS,
        floor: int = 0,
        ceiling: int = TIMESTAMP_MAX,
    ) -> None:
        if max_offset_ns < 0:
            raise InvalidInput(f"{max_offset_ns} is negative", where="max_offset_ns")
        if not 0 <= floor <= ceiling <= TIMESTAMP_MAX:
            raise InvalidInput(
                f"floor {floor} and ceiling {ceiling} do not stand in order",
                where="ceiling",
                remedy="Store an upper bound later than the recovered one first",
            )
        self.max_offset_ns = max_offset_ns
        refusals: dict[str, int] = {}
        self.refusals = refusals
        last, top = floor, ceiling

        def now() -> Timestamp:
            nonlocal last
            t = wall_ns() << 32
            if last < t <= top:
                last = t
                return Timestamp(t)
            t = last + 1 if t <= last else t
            if t > top:
                raise ClockCeilingReached(t >> COUNTER_BITS, top >> COUNTER_BITS)
            last = t
            return Timestamp(t)

        def tick() -> int:
            nonlocal last
            t = wall_ns() << 32
            if last < t <= top:
                last = t
                return t
            t = last + 1 if t <= last else t
            if t > top:
                raise ClockCeilingReached(t >> COUNTER_BITS, top >> COUNTER_BITS)
            last = t
            return t

        def observe(
            remote: int, peer: str = "", floor_ns: int = 0, counter_step: int = 1
        ) -> Timestamp:
            nonlocal last
            wall = wall_ns()
            t = remote + counter_step
            if floor_ns > 0:
                t = max(t, ((remote >> COUNTER_BITS) + floor_ns) << COUNTER_BITS)
            # Judged after the step, so that a full counter cannot carry us past the limit.
            if (t >> COUNTER_BITS) - wall > max_offset_ns or remote < 0 or counter_step < 1:
                raise refuse(remote, peer, counter_step, (t >> COUNTER_BITS) - wall)
            if t <= last:
                t = last + counter_step
            physical = wall << 32
            if physical > t:
                t = physical
            if t > top:
                raise ClockCeilingReached(t >> COUNTER_BITS, top >> COUNTER_BITS)
            last = t
            return Timestamp(t)

        def refuse(remote: int, peer: str, counter_step: int, ahead_ns: int) -> Exception:
            if not 0 <= remote <= TIMESTAMP_MAX:
                return InvalidInput(f"{remote} is no timestamp", where=f"from {peer or 'a peer'}")
            if counter_step < 1:
                return InvalidInput(f"{counter_step} is below 1", where="counter_step")
            name = peer if peer in refusals or len(refusals) < REFUSALS_NAMED_MAX else ""
            refusals[name] = refusals.get(name, 0) + 1
            return TimestampTooFarAhead(peer, ahead_ns, max_offset_ns)

        def set_ceiling(ceiling: int) -> None:
            nonlocal top
            if not top <= ceiling <= TIMESTAMP_MAX:
                raise InvalidInput(f"{ceiling} lies below the ceiling in force", where="ceiling")
            top = ceiling

        def issued() -> int:
            return last

        self.now = now
        self.tick = tick
        self.observe = observe
        self._set_ceiling = set_ceiling
        self._last = issued

    @property
    def last(self) -> Timestamp:
        """The latest timestamp issued; the floor, before the first."""
        return Timestamp(self._last())

    def raise_ceiling(self, ceiling: int) -> None:
        """Allow timestamps up to ``ceiling``, which must be durable already.

        Raises:
            InvalidInput: lower than the ceiling in force: a bound once stored stays.
        """
        self._set_ceiling(ceiling)

    def __repr__(self) -> str:
        refused = sum(self.refusals.values())
        return f"HybridClock(last {self.last}, limit {self.max_offset_ns} ns, refused {refused})"
