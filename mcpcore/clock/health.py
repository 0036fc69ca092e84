"""Is this clock fit for service? The verdict, its reasons, and whether a lease may be trusted.

This module exists so that nobody downstream weighs nanoseconds: Raft asks :attr:`may_lease`, an
operator reads the reasons. It judges evidence; it must never gather any.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mcpcore.clock.agreement import Agreement, NoAgreement
from mcpcore.clock.settings import ClockSettings
from mcpcore.clock.steady import SystemClockJumped


class ClockState(Enum):
    """The verdict."""

    SYNCHRONISED = "synchronised"
    """A majority was heard lately and this clock agrees with it."""
    HOLDOVER = "holdover"
    """It agreed, but the evidence is getting old or a jump has to be lived down; uncertainty is
    growing and still within the limit."""
    UNSYNCHRONISED = "unsynchronised"
    """Nothing may be built on this clock's reading but order."""


@dataclass(frozen=True, slots=True)
class ClockEvidence:
    """What the verdict rests on.

    Args:
        node: whose clock.
        agreement: what the peers say.
        majority_age_ns: since the newest exchange that completed a majority; None if never.
        radius_ns: uncertainty of this node's physical time; None without an agreement.
        jump: the latest jump of the system clock; ``jumped_ago_ns`` is since then.
        refusals: timestamps refused so far, by peer.
    """

    node: str
    agreement: Agreement | NoAgreement
    majority_age_ns: int | None
    radius_ns: int | None
    jump: SystemClockJumped | None
    jumped_ago_ns: int
    refusals: dict[str, int]


@dataclass(frozen=True, slots=True)
class ClockHealth:
    """The verdict with its reasons, the gravest first.

    Args:
        may_lease: whether Raft may serve reads under a lease or extend one. Denied when
            unsynchronised, and for a while after the system clock jumped: a suspended machine
            looks like that, and its monotonic clock stood still meanwhile.
    """

    state: ClockState
    may_lease: bool
    reasons: tuple[str, ...]
    uncertainty_ns: int | None

    def __str__(self) -> str:
        return f"{self.state.value}: {'; '.join(self.reasons)}"


def judge(evidence: ClockEvidence, settings: ClockSettings) -> ClockHealth:
    """Weigh the evidence. The state is the worst that any reason demands."""
    unfit: list[str] = []
    aging: list[str] = []
    notes: list[str] = []
    settling = False

    agreement = evidence.agreement
    if isinstance(agreement, NoAgreement):
        unfit.append(agreement.reason)
    else:
        notes.append(f"agrees with {', '.join(agreement.truechimers)}")
        for false in agreement.falsetickers:
            text = f"{_span(abs(false.off_ns))} {'ahead of' if false.off_ns > 0 else 'behind'}"
            if false.node == evidence.node:
                unfit.append(f"our own clock is {text} the majority")
            else:
                notes.append(f"the clock of {false.node} is {text} the majority")
        assert evidence.radius_ns is not None
        if evidence.radius_ns > settings.uncertainty_max_ns:
            unfit.append(
                f"uncertain by {_span(evidence.radius_ns)}, "
                f"the limit is {_span(settings.uncertainty_max_ns)}"
            )
        age = evidence.majority_age_ns
        if age is not None and age > settings.holdover_after_ns:
            aging.append(f"no exchange with a majority for {_span(age)}")
    if evidence.jump is not None:
        text = (
            f"the system clock jumped by {evidence.jump.by_ns / 1e9:+.3f} s "
            f"{_span(evidence.jumped_ago_ns)} ago; our time did not follow"
        )
        settling = evidence.jumped_ago_ns < settings.settle_ns
        (aging if settling else notes).append(text)
    for peer, count in sorted(evidence.refusals.items()):
        notes.append(f"refused {count} timestamps from {peer or 'unnamed peers'}")

    if unfit:
        state = ClockState.UNSYNCHRONISED
    elif aging:
        state = ClockState.HOLDOVER
    else:
        state = ClockState.SYNCHRONISED
    return ClockHealth(
        state=state,
        may_lease=not unfit and not settling,
        reasons=(*unfit, *aging, *notes),
        uncertainty_ns=evidence.radius_ns,
    )


def _span(ns: int) -> str:
    """A duration for people."""
    if ns >= 1_000_000_000:
        return f"{ns / 1e9:.3f} s"
    return f"{ns / 1e6:.3f} ms"
