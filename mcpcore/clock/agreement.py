"""Combining peers: what time the majority believes, and who stands apart.

This module exists so that one wrong clock, or any minority of them, moves nobody. It judges
intervals and names; it must never read a clock, nor talk to a peer.

Two steps. *Selection*: each clock claims that the true time lies within ``source_error_ns`` of it;
Marzullo's function (Marzullo and Owicki 1983) gives the smallest interval that holds every point a
majority of the claims contains; a clock whose claim misses it is a falseticker. *Combination*: the
cluster's time is the median of the clocks that remain. The median of lower bounds and the median
of upper bounds enclose the median of the clocks themselves, so its bounds stay proofs.

HAZARD: at most a minority may lie. A majority that agrees on a wrong time *is* the cluster's time.

HAZARD: nodes that see different sets of good clocks compute different medians. Bounds are
comparable between nodes only while they combine the same clocks; the view lists whom each counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mcpcore.clock.interval import Interval
from mcpcore.clock.offset import OffsetEstimate
from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Falseticker:
    """A clock that the majority contradicts.

    Args:
        off_ns: how far its claim lies from what the majority holds possible; negative if behind.
    """

    node: str
    off_ns: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """The cluster's time against our steady clock.

    Args:
        offset_ns: the best guess of the cluster's time minus our steady clock.
        bounds: that difference lies in here.
        skew_ppm: the best guess of the cluster's rate minus ours.
        truechimers: the clocks that were combined, sorted.
        falsetickers: the clocks that were not, sorted by name.
    """

    offset_ns: int
    bounds: Interval
    skew_ppm: float
    truechimers: tuple[str, ...]
    falsetickers: tuple[Falseticker, ...]


@dataclass(frozen=True, slots=True)
class NoAgreement:
    """No majority of claims has a point in common, so no time is believed.

    Args:
        reason: in words and numbers.
        falsetickers: empty; without a majority nobody can be called false.
    """

    reason: str
    falsetickers: tuple[Falseticker, ...] = ()


def marzullo(claims: Collection[Interval], quorum: int) -> Interval | None:
    """The smallest interval that holds every point contained in at least ``quorum`` claims.

    If at least ``quorum`` claims are right, the truth lies in it. None if there is no such point.

    Raises:
        InvalidInput: ``quorum`` is not positive.
    """
    if quorum < 1:
        raise InvalidInput(f"{quorum} is below 1", where="quorum")
    # At one value beginnings come before ends, because the ends are included.
    edges = sorted(
        [(claim.earliest_ns, 0) for claim in claims] + [(claim.latest_ns, 1) for claim in claims]
    )
    depth = 0
    first: int | None = None
    last = 0
    for value, is_end in edges:
        if is_end:
            if depth >= quorum:
                last = value
            depth -= 1
        else:
            depth += 1
            if depth >= quorum and first is None:
                first = value
    return None if first is None else Interval(first, last)


def agree(
    node: str,
    members: Collection[str],
    estimates: Mapping[str, OffsetEstimate],
    *,
    source_error_ns: int,
) -> Agreement | NoAgreement:
    """What the cluster's time is, seen from ``node``.

    Args:
        node: whose view this is; its own clock counts as a peer at offset zero, if a member.
        members: whose clocks count. Those without an estimate count toward the size, silently.
        estimates: what is known of each peer's steady clock against ours.
        source_error_ns: how far a healthy clock may stand from the true time.

    Raises:
        InvalidInput: no members.
    """
    if not members:
        raise InvalidInput("nobody's clock counts", where="members")
    measured = {peer: est for peer, est in estimates.items() if peer in members and peer != node}
    bounds = {peer: est.bounds for peer, est in measured.items()}
    if node in members:
        bounds[node] = Interval(0, 0)
    quorum = len(members) // 2 + 1
    if len(bounds) < quorum:
        return NoAgreement(
            f"{len(bounds)} of {len(members)} clocks are known, a majority is {quorum}"
        )
    claims = {name: span.widened(source_error_ns) for name, span in bounds.items()}
    believed = marzullo(claims.values(), quorum)
    if believed is None:
        spread = ", ".join(
            f"{name} {(span.middle_ns) / 1e6:+.3f} ms" for name, span in sorted(bounds.items())
        )
        return NoAgreement(
            f"no {quorum} of {len(members)} clocks agree within {source_error_ns / 1e6:g} ms: "
            f"{spread}"
        )
    true = sorted(name for name, claim in claims.items() if claim.overlaps(believed))
    false = tuple(
        Falseticker(name, _distance(claims[name], believed))
        for name in sorted(claims)
        if not claims[name].overlaps(believed)
    )
    low = _median([bounds[name].earliest_ns for name in true])[0]
    high = _median([bounds[name].latest_ns for name in true])[1]
    guess = _median([measured[name].offset_ns if name != node else 0 for name in true])[0]
    skews = sorted(measured[name].skew_ppm if name != node else 0.0 for name in true)
    return Agreement(
        offset_ns=min(max(guess, low), high),
        bounds=Interval(low, high),
        skew_ppm=(skews[(len(skews) - 1) // 2] + skews[len(skews) // 2]) / 2,
        truechimers=tuple(true),
        falsetickers=false,
    )


def _distance(claim: Interval, believed: Interval) -> int:
    if claim.earliest_ns > believed.latest_ns:
        return claim.earliest_ns - believed.latest_ns
    return claim.latest_ns - believed.earliest_ns


def _median(values: list[int]) -> tuple[int, int]:
    """The median, rounded down and rounded up."""
    values = sorted(values)
    total = values[(len(values) - 1) // 2] + values[len(values) // 2]
    return total // 2, -(-total // 2)
