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

    __slots__ = ("_last", "_max_offset_ns", "_set_ceiling", "now", "observe", "refusals", "tick")

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
        self._max_offset_ns = max_offset_ns
        refusals: dict[str, int] = {}
        self.refusals = refusals
        # The latest timestamp is max(physical << 32, counted): "counted" is the latest one issued
        # with a counter, which the fast paths need not touch.
        physical, counted = floor >> COUNTER_BITS, floor
        top, top_ns = ceiling, ceiling >> COUNTER_BITS

        def now() -> Timestamp:
            nonlocal physical
            wall = wall_ns()
            # Two ifs and no "and": on the hottest line of the library that is measurable.
            if wall > physical:  # noqa: SIM102
                if wall <= top_ns:
                    physical = wall
                    return Timestamp(wall << 32)
            return Timestamp(advance(issued() + 1, wall))

        def tick() -> int:
            nonlocal physical
            wall = wall_ns()
            if wall > physical:  # noqa: SIM102
                if wall <= top_ns:
                    physical = wall
                    return wall << 32
            return advance(issued() + 1, wall)

        def observe(
            remote: int, peer: str = "", floor_ns: int = 0, counter_step: int = 1
        ) -> Timestamp:
            nonlocal physical
            wall = wall_ns()
            if (
                physical < wall > (remote >> 32) + floor_ns
                and wall <= top_ns
                and remote >= 0 <= floor_ns
            ):
                physical = wall
                return Timestamp(wall << 32)
            t = remote + counter_step
            if floor_ns > 0:
                t = max(t, ((remote >> COUNTER_BITS) + floor_ns) << COUNTER_BITS)
            # Judged after the step, so that a full counter cannot carry us past the limit.
            ahead_ns = (t >> COUNTER_BITS) - wall
            if ahead_ns > max_offset_ns or remote < 0 or counter_step < 1 or floor_ns < 0:
                raise refuse(remote, peer, floor_ns, counter_step, ahead_ns)
            latest = physical << 32
            if counted > latest:
                latest = counted
            latest += counter_step
            return Timestamp(advance(t if t > latest else latest, wall))

        def advance(t: int, wall: int) -> int:
            nonlocal physical, counted
            if wall << 32 > t:
                t = wall << 32
            if t > top:
                raise ClockCeilingReached(t >> COUNTER_BITS, top_ns)
            physical, counted = t >> COUNTER_BITS, t
            return t

        def refuse(
            remote: int, peer: str, floor_ns: int, counter_step: int, ahead_ns: int
        ) -> Exception:
            if not 0 <= remote <= TIMESTAMP_MAX:
                return InvalidInput(f"{remote} is no timestamp", where=f"from {peer or 'a peer'}")
            if counter_step < 1:
                return InvalidInput(f"{counter_step} is below 1", where="counter_step")
            if floor_ns < 0:
                return InvalidInput(f"{floor_ns} is negative", where="floor_ns")
            name = peer if peer in refusals or len(refusals) < REFUSALS_NAMED_MAX else ""
            refusals[name] = refusals.get(name, 0) + 1
            return TimestampTooFarAhead(peer, ahead_ns, max_offset_ns)

        def set_ceiling(ceiling: int) -> None:
            nonlocal top, top_ns
            if not top <= ceiling <= TIMESTAMP_MAX:
                raise InvalidInput(f"{ceiling} lies below the ceiling in force", where="ceiling")
            top, top_ns = ceiling, ceiling >> COUNTER_BITS

        def issued() -> int:
            return max(physical << 32, counted)

        self.now = now
        self.tick = tick
        self.observe = observe
        self._set_ceiling = set_ceiling
        self._last = issued

    @property
    def last(self) -> Timestamp:
        """The latest timestamp issued; the floor, before the first."""
        return Timestamp(self._last())

    @property
    def max_offset_ns(self) -> int:
        """How far ahead of the physical clock an observed timestamp may lie."""
        return self._max_offset_ns

    def raise_ceiling(self, ceiling: int) -> None:
        """Allow timestamps up to ``ceiling``, which must be durable already.

        Raises:
            InvalidInput: lower than the ceiling in force: a bound once stored stays.
        """
        self._set_ceiling(ceiling)

    def __repr__(self) -> str:
        refused = sum(self.refusals.values())
        return f"HybridClock(last {self.last}, limit {self._max_offset_ns} ns, refused {refused})"
