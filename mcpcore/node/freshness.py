"""How old the state here may be: what leaders say of their confirmations, and what follows.

This module exists so that a stale read can come with a bound that is kept, also on a side that is
cut off: the account has to be kept *before* the cut. A quarter of a beat after each beat of the
node, when the answers to its heartbeats are in, a leader tells its members how far it had committed
and at what moment of the cluster's time a quorum had surely confirmed it (``notes.Confirmed``, one
note a peer for all groups that are awake). The argument stands in ``mcpcore.raft.staleness``.

The moment is stated by the leader and not guessed from when the note came: a note may be held up on
its way for as long as it likes, and bounds no less. A member of an older release says nothing, and
nothing is promised on its word: that it keeps its office within its window is true of correct
members only as long as no group sleeps and no configuration changes.

HAZARD: all of it is as good as the clocks' intervals, and those as the monotonic clock, which must
count while the machine sleeps (``Clocks``). A clock that is not fit for a lease (not synchronised,
or the system clock jumped just now, as after a sleep) states no moment and promises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mcpcore.clock import ClockHealth, NodeClock
from mcpcore.errors import StalenessNotPromised
from mcpcore.node.gathering import contact_ns
from mcpcore.node.group import Group
from mcpcore.node.hosting import Hosting
from mcpcore.node.notes import GROUPS_PER_CONFIRMED, Confirmed, Note
from mcpcore.node.pulse import Pulse
from mcpcore.node.scheduler import Scheduler
from mcpcore.raft.election import quorum_contact_ns
from mcpcore.raft.staleness import StalenessBound, StalenessLedger
from mcpcore.raft.state import RaftState

RATE_PPM_MAX: Final = 1000
"""How wrong a monotonic clock may be when it measures the age of a confirmation."""


class Freshness:
    """The account of all groups of one node.

    Args:
        pulse: knows who is awake, and how often the node beats.
        clock: the cluster's time. clock_health: whether it may be relied upon.
        tell: sends notes to a peer; they may get lost.
    """

    def __init__(
        self,
        hosting: Hosting,
        pulse: Pulse,
        scheduler: Scheduler,
        monotonic_ns: Callable[[], int],
        *,
        clock: NodeClock,
        clock_health: Callable[[], ClockHealth],
        tell: Callable[[str, Sequence[Note]], None],
    ) -> None:
        self._hosting = hosting
        self._pulse = pulse
        self._scheduler = scheduler
        self._monotonic_ns = monotonic_ns
        self._clock = clock
        self._clock_health = clock_health
        self._tell = tell
        self._ledgers: dict[str, StalenessLedger] = {}

    def start(self) -> None:
        """Begin to tell."""
        self._set_alarm(self._monotonic_ns())

    def _set_alarm(self, now_ns: int) -> None:
        beat_ns = self._pulse.pace.beat_ns
        self._scheduler.alarm(self, now_ns - now_ns % beat_ns + beat_ns + beat_ns // 4)

    # --- a leader tells ------------------------------------------------------------------------

    def rang(self, now_ns: int) -> None:
        """Tell every member of the groups that we lead, and that are awake."""
        self._set_alarm(now_ns)
        earliest_ns: int | None = None
        at_ns = now_ns
        rows: dict[str, list[tuple[str, int, int]]] = {}
        for name, group in self._pulse.awake.items():
            state = group.raft.state
            if not _settled(state) or group.failure is not None:
                continue
            if earliest_ns is None:
                earliest_ns = self._earliest_ns()
                if earliest_ns is None:
                    return
                # Read after the other clock, and not the moment for which we were called, which
                # may be long ago in a busy loop: who takes an age for less promises too much.
                at_ns = self._monotonic_ns()
            row = (name, state.commit, _confirmed_ns(state, at_ns, earliest_ns))
            for peer in state.progress:
                rows.setdefault(peer, []).append(row)
        for peer, told in rows.items():
            for start in range(0, len(told), GROUPS_PER_CONFIRMED):
                part = told[start : start + GROUPS_PER_CONFIRMED]
                self._tell(peer, [Confirmed(*zip(*part, strict=True))])

    def _earliest_ns(self) -> int | None:
        """The earliest that the cluster's time may be; None if nobody can tell."""
        if not self._clock_health().may_lease:
            return None
        now = self._clock.interval()
        return None if now is None else max(0, now.earliest_ns)

    # --- a member listens ----------------------------------------------------------------------

    def heard(self, peer: str, note: Confirmed) -> None:
        """A peer says how far it had committed, in groups that it leads."""
        for name, commit, confirmed_ns in zip(*note, strict=True):
            group = self._hosting.find(name)
            if group is not None and peer in group.raft.state.configuration.members:
                ledger = self._ledger(name)
                ledger.applied(group.applied)
                ledger.told(commit, confirmed_ns, settled=True)

    def forget(self, name: str) -> None:
        """A group has ended."""
        self._ledgers.pop(name, None)

    # --- a reader asks -------------------------------------------------------------------------

    def bound(self, group: Group, max_age_s: float | None) -> StalenessBound | None:
        """How old the state of a group may be. A group that sleeps is woken if that is too old.

        Args:
            max_age_s: the oldest state that the reader accepts, in seconds; None: any.

        Returns:
            The bound; None if there is none and any age will do.

        Raises:
            StalenessNotPromised: no such bound can be kept; nothing was read.
            InvalidInput: ``max_age_s`` is no length of time.
        """
        state, ledger = group.raft.state, self._ledger(group.name)
        health = self._clock_health()
        now = self._clock.interval() if health.may_lease else None
        ledger.applied(group.applied)
        ledger.saw(max(state.told_commit, state.log.last_index))
        if now is not None and _settled(state):
            now_ns = self._monotonic_ns()
            confirmed_ns = _confirmed_ns(state, now_ns, max(0, now.earliest_ns))
            ledger.told(state.commit, confirmed_ns, settled=True)
        latest_ns = None if now is None else now.latest_ns
        if max_age_s is None:
            return None if latest_ns is None else ledger.bound(latest_ns)
        try:
            return ledger.promise(max_age_s, latest_ns, why_not=str(health))
        except StalenessNotPromised as refusal:
            refusal.passing = self._passes(group, refusal)
            group.rouse()
            raise

    def _passes(self, group: Group, refusal: StalenessNotPromised) -> bool:
        """Whether a leader is about to say something better: it is in contact, and the last word is
        older than its words usually are.
        """
        state, now_ns = group.raft.state, self._monotonic_ns()
        silent_ns = now_ns - contact_ns(state, self._pulse.heard_ns)
        usual_ms = 3 * self._pulse.pace.beat_ns // 1_000_000
        late = refusal.at_most_ms is None or refusal.at_most_ms > usual_ms
        return late and bool(state.leader) and silent_ns <= state.settings.election_timeout_ns

    def _ledger(self, name: str) -> StalenessLedger:
        ledger = self._ledgers.get(name)
        if ledger is None:
            ledger = self._ledgers[name] = StalenessLedger(name)
        return ledger


def _settled(state: RaftState) -> bool:
    """Whether we lead, and know what our predecessors committed."""
    return state.is_leader and state.commit >= state.term_start


def _confirmed_ns(state: RaftState, now_ns: int, earliest_ns: int) -> int:
    """The earliest moment, in the cluster's time, at which a quorum may have confirmed us last."""
    age_ns = max(0, now_ns - min(now_ns, quorum_contact_ns(state)))
    return max(0, earliest_ns - age_ns - age_ns * RATE_PPM_MAX // 1_000_000 - 1)
