"""Whether this member's group is split, in a word, a sentence and numbers.

This module exists so that "are we cut off?" has one answer that programs may act upon and people
may check: evidence goes in, a verdict comes out. Both conditions of a split, the age of contact
and the entries missed, stand here and nowhere else. It judges; it must never gather evidence, read
a clock, or touch Raft: safety never depends on a verdict.

Each member judges for itself, since members on two sides of a cut see different groups;
``mcpcore.raft.views`` says where their views differ.

No flapping: worse news counts at once (its limits are lengths of time already), better news must
last. How long doubles with every relapse, up to a limit, as routers damp a flapping route
(RFC 2439), and is forgiven after a quiet time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from mcpcore.errors import GroupReadOnly, InvalidInput
from mcpcore.raft.evidence import Evidence, span
from mcpcore.raft.settings import SECOND

HISTORY_MAX = 256


class SplitState(Enum):
    """The verdict's word, mildest first."""

    HEALTHY = "healthy"
    """In contact with a leader that has a quorum, and up to date or nearly so."""
    SUSPECT = "suspect"
    """Something is amiss; it may be nothing. Everything is still served."""
    REJOINING = "rejoining"
    """Contact is back after a separation; this member is still catching up."""
    READ_ONLY = "read_only"
    """No leader with a quorum for too long: writes are refused, stale reads served."""
    SPLIT = "split"
    """As ``READ_ONLY``, and entries beyond our committed ones are known to exist."""
    INTERVENTION = "intervention"
    """Contact is back, but the gap is so large that an operator must approve the reunion."""

    @property
    def severity(self) -> int:
        """0 for the mildest."""
        return _SEVERITY[self]

    @property
    def refuses_writes(self) -> bool:
        """Whether a member in this state turns writes away itself."""
        return self.severity >= _SEVERITY[SplitState.READ_ONLY]


_SEVERITY = {state: number for number, state in enumerate(SplitState)}


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """The limits. Lengths of time are counted in election timeouts, as the group has them.

    Args:
        suspect_timeouts: contact older than this is suspect.
        read_only_timeouts: contact older than this makes the member read-only.
        stale_timeouts: contact older than this is one condition of a split (default: 3).
        commit_index_gap: trailing by more entries than this is the other (default: 100).
        phi_threshold: a leader with at least this suspicion is suspect.
        calm_ns: how long better news must last.
        calm_max_ns: how long at most, after relapses.
        relapse_memory_ns: after this long without worse news, relapses are forgiven.

    Raises:
        InvalidInput: a limit makes no sense, by name.
    """

    suspect_timeouts: float = 1.0
    read_only_timeouts: float = 2.0
    stale_timeouts: float = 3.0
    commit_index_gap: int = 100
    phi_threshold: float = 10.0
    calm_ns: int = 1 * SECOND
    calm_max_ns: int = 60 * SECOND
    relapse_memory_ns: int = 300 * SECOND

    def __post_init__(self) -> None:
        for name in ("suspect_timeouts", "read_only_timeouts", "stale_timeouts", "phi_threshold"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 1e6:
                raise InvalidInput(f"must be a positive number, not {value!r}", where=name)
        for name in ("commit_index_gap", "calm_ns", "calm_max_ns", "relapse_memory_ns"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << 62:
                raise InvalidInput(f"must be a whole number from 0 up, not {value!r}", where=name)
        if not self.suspect_timeouts <= self.read_only_timeouts <= self.stale_timeouts:
            raise InvalidInput(
                f"{self.suspect_timeouts}, {self.read_only_timeouts} and {self.stale_timeouts} "
                "must not fall",
                where="suspect_timeouts, read_only_timeouts, stale_timeouts",
                remedy="Doubt before you refuse, and refuse before you call it a split",
            )
        if self.calm_ns > self.calm_max_ns:
            raise InvalidInput(
                f"{self.calm_ns} ns exceeds calm_max_ns {self.calm_max_ns}", where="calm_ns"
            )


class Figure(NamedTuple):
    """One number of the evidence, beside its limit (None if it has none)."""

    name: str
    value: float
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one member holds about its group.

    Args:
        since_ns: when the state was entered; ``at_ns`` is when the evidence was taken.
        sentence: one plain sentence with the reason.
        evidence: what it rests on; ``settings``: the limits it was held against.
    """

    state: SplitState
    since_ns: int
    at_ns: int
    sentence: str
    evidence: Evidence
    settings: SplitSettings

    @property
    def node(self) -> str:
        """Whose verdict."""
        return self.evidence.node

    @property
    def group(self) -> str:
        """About which group."""
        return self.evidence.group

    @property
    def might_lead(self) -> str:
        """Who leads as far as this member was told; empty if it does not know."""
        return self.evidence.might_lead

    @property
    def hears(self) -> frozenset[str]:
        """Peers heard lately."""
        return self.evidence.hears(_lately_ns(self.evidence, self.settings))

    @property
    def heard_by(self) -> frozenset[str]:
        """Peers that answered lately."""
        return self.evidence.heard_by(_lately_ns(self.evidence, self.settings))

    @property
    def peers(self) -> frozenset[str]:
        """All other members."""
        return frozenset(peer.name for peer in self.evidence.peers)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The numbers, each beside its limit."""
        return _figures(self.evidence, self.settings)

    def refusal(self) -> GroupReadOnly | None:
        """What to tell a client that wants to write here; None if writes are not refused."""
        if not self.state.refuses_writes:
            return None
        since_ms = (self.at_ns - self.since_ns) // 1_000_000
        return GroupReadOnly(
            self.group, self.sentence, since_ms=since_ms, might_lead=self.might_lead
        )

    def as_dict(self, *, evidence: bool = True) -> dict[str, object]:
        """For JSON.

        Args:
            evidence: with all figures; without them it is short.
        """
        told: dict[str, object] = {
            "node": self.node,
            "group": self.group,
            "state": self.state.value,
            "for_s": (self.at_ns - self.since_ns) / 1e9,
            "sentence": self.sentence,
            "peers": sorted(self.peers),
            "hears": sorted(self.hears),
            "heard_by": sorted(self.heard_by),
            "might_lead": self.might_lead,
            "term": self.evidence.term,
        }
        if evidence:
            told["evidence"] = {
                figure.name: {"value": figure.value, "limit": figure.limit}
                for figure in self.figures
            }
            told["trouble"] = [
                words for words in (self.evidence.clock_trouble, self.evidence.snapshot) if words
            ]
        return told

    def __str__(self) -> str:
        return f"{self.group} on {self.node}: {self.state.value}: {self.sentence}"


@dataclass(slots=True)
class _Calm:
    """What hysteresis remembers."""

    relapses: int = 0
    better_since_ns: int | None = None
    improved: bool = False
    worsened_ns: int = 0


@dataclass(slots=True)
class _Rejoin:
    """Catching up, by rounds (thesis section 4.2.1): each ends where the log ended at its begin."""

    target: int
    since_ns: int


@dataclass(slots=True)
class SplitDetector:
    """The judge of one group on one member.

    Args:
        settings: the limits.
        history: every change of verdict, the oldest dropped beyond ``HISTORY_MAX``.
    """

    settings: SplitSettings = field(default_factory=SplitSettings)
    verdict: Verdict | None = None
    history: deque[Verdict] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    _calm: _Calm = field(default_factory=_Calm)
    _rejoin: _Rejoin | None = None

    def observe(self, evidence: Evidence, now_ns: int) -> Verdict | None:
        """Judge; returns the verdict if its state changed, else None. ``verdict`` is always new."""
        before = self.verdict
        state, sentence = self._judge(evidence, now_ns, before.state if before else None)
        if before is not None:
            state, sentence = self._damp(before, state, sentence, now_ns)
        changed = before is None or state is not before.state
        since_ns = now_ns if before is None or changed else before.since_ns
        verdict = Verdict(state, since_ns, now_ns, sentence, evidence, self.settings)
        self.verdict = verdict
        if not changed:
            return None
        self.history.append(verdict)
        return verdict

    # --- judging -------------------------------------------------------------------------------

    def _judge(
        self, evidence: Evidence, now_ns: int, before: SplitState | None
    ) -> tuple[SplitState, str]:
        settings, timeout_ns = self.settings, evidence.election_timeout_ns
        age_ns, trails = evidence.contact_age_ns, evidence.trails_by
        apart = age_ns > settings.read_only_timeouts * timeout_ns
        in_doubt = age_ns > settings.suspect_timeouts * timeout_ns * max(evidence.multiplier, 1.0)
        if evidence.awaiting_operator:
            self._rejoin = None
            return SplitState.INTERVENTION, evidence.awaiting_operator
        if apart or (self._rejoin is None and (before is None or before.refuses_writes)):
            self._rejoin = _Rejoin(0, now_ns)
        if age_ns > settings.stale_timeouts * timeout_ns and trails > settings.commit_index_gap:
            return SplitState.SPLIT, (
                f"{_out_of_contact(evidence, settings)}, and our committed index {evidence.commit} "
                f"trails the highest seen, {evidence.highest_seen}, by {trails} entries"
            )
        if apart:
            return SplitState.READ_ONLY, _out_of_contact(evidence, settings)
        if self._rejoin is not None and in_doubt:
            if before is SplitState.REJOINING or (before and before.refuses_writes):
                return SplitState.REJOINING, f"back, but {_out_of_contact(evidence, settings)}"
        elif self._rejoin is not None and evidence.leader:
            catching_up = self._catches_up(self._rejoin, evidence, now_ns)
            if catching_up:
                return SplitState.REJOINING, catching_up
            self._rejoin = None
        return _judge_contact(evidence, settings, in_doubt)

    def _catches_up(self, rejoin: _Rejoin, evidence: Evidence, now_ns: int) -> str:
        """Why this member is not there yet; empty once it is."""
        if evidence.leads:
            return ""  # it holds everything there is; others catch up with it
        left = evidence.leaders_index - evidence.commit
        if rejoin.target == 0:
            rejoin.target, rejoin.since_ns = max(evidence.leaders_index, 1), now_ns
        if left > 0 and evidence.commit < rejoin.target:
            by = f" by {evidence.snapshot}" if evidence.snapshot else ""
            return f"in contact again, {left} entries to catch up{by}"
        took_ns = now_ns - rejoin.since_ns
        if took_ns > evidence.election_timeout_ns and left > self.settings.commit_index_gap:
            # A long round, during which many entries came: one more.
            rejoin.target, rejoin.since_ns = evidence.leaders_index, now_ns
            return f"in contact again, {left} entries came while it caught up"
        return ""

    def _damp(
        self, before: Verdict, state: SplitState, sentence: str, now_ns: int
    ) -> tuple[SplitState, str]:
        """Worse news at once, better news once it has lasted."""
        calm, settings = self._calm, self.settings
        if state.severity >= before.state.severity:
            calm.better_since_ns = None
            if state is not before.state:
                if now_ns - calm.worsened_ns > settings.relapse_memory_ns:
                    calm.relapses = 0
                elif calm.improved:
                    calm.relapses += 1
                calm.improved, calm.worsened_ns = False, now_ns
            return state, sentence
        if calm.better_since_ns is None:
            calm.better_since_ns = now_ns
        if now_ns - calm.better_since_ns < self.hold_ns():
            return before.state, f"{sentence}; waiting whether that lasts"
        calm.better_since_ns = None
        calm.improved = True
        return state, sentence

    def hold_ns(self) -> int:
        """How long better news must last now."""
        settings = self.settings
        return min(settings.calm_ns << min(self._calm.relapses, 32), settings.calm_max_ns)


def _judge_contact(
    evidence: Evidence, settings: SplitSettings, in_doubt: bool
) -> tuple[SplitState, str]:
    """In contact, or nearly: is anything amiss?"""
    if in_doubt:
        return SplitState.SUSPECT, _out_of_contact(evidence, settings)
    if evidence.disk_stalled_ns > evidence.election_timeout_ns:
        stalled = span(evidence.disk_stalled_ns)
        return SplitState.SUSPECT, f"our own disk has not answered for {stalled}"
    if not evidence.leader:
        return SplitState.SUSPECT, "no leader is known; an election may be under way"
    for peer in evidence.peers:
        if peer.leader and peer.term > evidence.term and peer.leader != evidence.leader:
            return SplitState.SUSPECT, (
                f"{peer.name} says that {peer.leader} leads term {peer.term}, we know "
                f"{evidence.leader} in term {evidence.term}"
            )
        if peer.name == evidence.leader and peer.phi >= settings.phi_threshold:
            return SplitState.SUSPECT, (
                f"the leader {peer.name} has been silent for {span(peer.heard_age_ns)}, unusually "
                f"long (phi {peer.phi:.1f})"
            )
    leads = "this node leads" if evidence.leads else f"{evidence.leader} leads"
    sentence = f"{leads} term {evidence.term}, contact {span(evidence.contact_age_ns)} ago"
    missing = sorted(
        {peer.name for peer in evidence.peers if peer.votes}
        - evidence.hears(_lately_ns(evidence, settings))
    )
    if missing and evidence.leads:
        sentence += f"; not heard lately: {', '.join(missing)}"
    return SplitState.HEALTHY, sentence


def _out_of_contact(evidence: Evidence, settings: SplitSettings) -> str:
    lately_ns = _lately_ns(evidence, settings)
    hears, heard_by = evidence.hears(lately_ns), evidence.heard_by(lately_ns)
    voters = {peer.name for peer in evidence.peers if peer.votes}
    total = len(voters) + evidence.votes
    reached = len(voters & hears) + evidence.votes
    whom = "no quorum has answered" if evidence.leads else "no leader was heard"
    sentence = f"{whom} for {span(evidence.contact_age_ns)}, {reached} of {total} voters in reach"
    deaf = sorted(
        peer.name
        for peer in evidence.peers
        if peer.votes and peer.name in hears - heard_by and peer.answered_age_ns is not None
    )
    if deaf:
        sentence += f" ({', '.join(deaf)} do not seem to hear us)"
    return sentence


def _lately_ns(evidence: Evidence, settings: SplitSettings) -> float:
    return settings.suspect_timeouts * evidence.election_timeout_ns


def _figures(evidence: Evidence, settings: SplitSettings) -> tuple[Figure, ...]:
    timeout_s = evidence.election_timeout_ns / 1e9
    figures = [
        Figure("contact_age_s", evidence.contact_age_ns / 1e9, settings.stale_timeouts * timeout_s),
        Figure("trails_by_entries", evidence.trails_by, settings.commit_index_gap),
        Figure("commit_index", evidence.commit),
        Figure("highest_index_seen", evidence.highest_seen),
        Figure("term", evidence.term),
        Figure("disk_stalled_s", evidence.disk_stalled_ns / 1e9, timeout_s),
        Figure("patience_multiplier", evidence.multiplier),
    ]
    for peer in evidence.peers:
        if peer.heard_age_ns is not None:
            figures.append(Figure(f"heard_age_s.{peer.name}", peer.heard_age_ns / 1e9))
        if peer.answered_age_ns is not None:
            figures.append(Figure(f"answered_age_s.{peer.name}", peer.answered_age_ns / 1e9))
        if peer.round_trip_ns:
            figures.append(Figure(f"round_trip_ms.{peer.name}", peer.round_trip_ns / 1e6))
    return tuple(figures)
