"""The verdicts of a node on its groups: judged at every beat, told to whoever listens.

This module exists so that a group knows whether it is split without doing anything for it, and so
that a thousand sleeping groups cost nothing: only groups that are awake, or were not well when last
seen, are looked at, and one that is in contact costs two comparisons. What is judged is decided in
``mcpcore.raft.split``, from what ``gathering`` finds. Safety never depends on it, and it must never
touch Raft.

A member that misses its leader asks the other members how the group looks from there (one note a
peer, twice an election timeout), and tells how it looks from here. A member that is well asks
nobody: so the highest index seen anywhere costs nothing until it matters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mcpcore.clock import ClockHealth, ClockState
from mcpcore.errors import GroupReadOnly
from mcpcore.node.clocks import Clocks
from mcpcore.node.gathering import Surveyed, Told, contact_ns, gather
from mcpcore.node.group import Group
from mcpcore.node.hosting import Hosting
from mcpcore.node.notes import Note, ViewTold
from mcpcore.node.pulse import Pulse
from mcpcore.node.storage.contract import LogDevice
from mcpcore.node.verdict_stream import VerdictStream
from mcpcore.raft.split import SplitDetector, SplitSettings, SplitState, Verdict

logger = logging.getLogger("mcpcore.node.verdicts")


Listener = Callable[[Verdict], None]
"""Hears every verdict whose state changed. Must be quick, and not raise."""


@dataclass(slots=True)
class _Case:
    """One group before the judge."""

    detector: SplitDetector
    told: dict[str, Told] = field(default_factory=dict)
    asked_ns: int = 0


class Judging:
    """The judge of all groups of one node.

    Args:
        own: our name.
        peers: names the other nodes.
        pulse: the node's beat, at which we look.
        clock_health: judges the node's clock.
        tell: sends notes to a peer; they may get lost.
    """

    def __init__(
        self,
        own: str,
        peers: Callable[[], Collection[str]],
        hosting: Hosting,
        pulse: Pulse,
        device: LogDevice,
        clocks: Clocks,
        settings: SplitSettings,
        *,
        clock_health: Callable[[], ClockHealth],
        tell: Callable[[str, Sequence[Note]], None],
    ) -> None:
        self._own = own
        self._peers = peers
        self._hosting = hosting
        self._pulse = pulse
        self._device = device
        self._clocks = clocks
        self._settings = settings
        self._clock_health = clock_health
        self._tell = tell
        self._cases: dict[str, _Case] = {}
        self._unwell: dict[str, None] = {}
        self._suspected: set[str] = set()
        self._seen: set[str] = set()
        self._slept_well: dict[str, int] = {}
        self._looked_ns = clocks.monotonic_ns()
        self._streams: dict[VerdictStream, None] = {}
        self.listeners: list[Listener] = []

    # --- what is asked -------------------------------------------------------------------------

    def verdict(self, group: Group) -> Verdict | None:
        """The verdict on a group, as of the latest moment of which the node or the group knows: no
        longer ago than a beat. None if we are no member of it, or it has failed.
        """
        if not self._may_judge(group):
            return None
        now_ns = max(self._looked_ns, group.raft.state.now_ns)
        around = self._survey(now_ns)
        if group.name in self._cases or not group.raft.quiet:
            return self._judge(group, around, None)
        detector = SplitDetector(self._settings)
        detector.observe(gather(group, around, {}), now_ns)
        since_ns = self._slept_well.get(group.name, now_ns)
        return None if detector.verdict is None else replace(detector.verdict, since_ns=since_ns)

    def unwell(self, name: str) -> Verdict | None:
        """The latest verdict on a group that is not well; None if it is, or is not judged here.
        Cheap: nothing is judged anew.
        """
        return self._cases[name].detector.verdict if name in self._unwell else None

    def history(self, group: Group) -> tuple[Verdict, ...]:
        """How the verdict on a group has changed since this node started, the oldest first."""
        case = self._cases.get(group.name)
        return () if case is None else tuple(case.detector.history)

    def explain(self, group: Group) -> dict[str, Any]:
        """The verdict on a group with all its evidence and how it came about, in plain values."""
        verdict, now_ns = self.verdict(group), max(self._looked_ns, group.raft.state.now_ns)
        return {
            "verdict": verdict.as_dict() if verdict is not None else None,
            "history": [
                {
                    "ago_s": max(0, now_ns - each.since_ns) / 1e9,
                    "state": each.state.value,
                    "sentence": each.sentence,
                }
                for each in self.history(group)
            ],
        }

    def stream(self, wake: Callable[[], None] = lambda: None) -> VerdictStream:
        """Every change from now on; first the verdicts on groups that are not well already."""
        stream = VerdictStream(self._left, wake)
        self._streams[stream] = None
        for name in self._unwell:
            verdict = self._cases[name].detector.verdict
            if verdict is not None:
                stream.put(verdict)
        return stream

    def _left(self, stream: VerdictStream) -> None:
        self._streams.pop(stream, None)

    def close(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            stream.close()

    def refusal(self, group: Group, now_ns: int) -> GroupReadOnly | None:
        """Why a member that does not lead refuses writes; None if it can say who leads instead.

        Better news counts at once here: a leader that is back in contact may serve, however long
        the verdict still waits whether that lasts.
        """
        if group.name not in self._unwell:
            return None
        case = self._cases[group.name]
        verdict, state = case.detector.verdict, group.raft.state
        if verdict is None or not verdict.state.refuses_writes:
            return None
        patience_ns = self._settings.suspect_timeouts * state.settings.election_timeout_ns
        in_contact = now_ns - contact_ns(state, self._pulse.heard_ns) <= patience_ns
        if in_contact and state.leader and verdict.state is not SplitState.INTERVENTION:
            return None
        return replace(verdict, at_ns=max(verdict.at_ns, now_ns)).refusal()

    # --- what happens --------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """A beat of the node has come."""
        self._looked_ns = now_ns
        contacts, threshold = self._pulse.contacts, self._settings.phi_threshold
        self._suspected = {
            peer for peer in self._peers() if contacts.of(peer, now_ns).phi >= threshold
        }
        around: Surveyed | None = None
        letters: dict[str, list[Note]] = {}
        for name, group in [*self._pulse.awake.items(), *self._asleep_and_unwell()]:
            if name not in self._unwell and self._is_well(group, now_ns):
                continue
            if not self._may_judge(group):
                self._forget(name)
                continue
            around = around or self._survey(now_ns)
            self._judge(group, around, letters)
        for peer, notes in letters.items():
            self._tell(peer, notes)
        self._let_sleep()

    def heard(self, peer: str, note: ViewTold) -> None:
        """A peer says how a group looks from there."""
        group = self._hosting.find(note.group)
        if group is None or peer not in group.raft.state.configuration.members:
            return
        now_ns = self._clocks.monotonic_ns()
        self._case(note.group).told[peer] = Told(note, now_ns)
        if note.asks and self._may_judge(group):
            self._tell(peer, [self._view(group, now_ns, asks=False)])

    def forget(self, name: str) -> None:
        """A group has ended."""
        self._forget(name)

    # --- inside --------------------------------------------------------------------------------

    def _let_sleep(self) -> None:
        """A group that fell asleep and was well is remembered by one number, for a node may have
        thousands.
        """
        awake = self._pulse.awake
        for name in self._seen - awake.keys():
            case = self._cases.get(name)
            if case is not None and name not in self._unwell and len(case.detector.history) <= 2:
                verdict = self._cases.pop(name).detector.verdict
                if verdict is not None:
                    self._slept_well[name] = verdict.since_ns
        self._seen = set(awake)

    def _asleep_and_unwell(self) -> list[tuple[str, Group]]:
        awake, found = self._pulse.awake, []
        for name in list(self._unwell):
            group = self._hosting.find(name)
            if group is None:
                self._forget(name)
            elif name not in awake:
                found.append((name, group))
        return found

    def _is_well(self, group: Group, now_ns: int) -> bool:
        """Whether a group whose verdict was ``healthy`` certainly still is, at a glance."""
        state = group.raft.state
        if not state.leader or group.awaiting_operator or self._pulse.disk.stalled:
            return False
        if group.name not in self._cases or state.leader in self._suspected:
            return False
        age_ns = now_ns - contact_ns(state, self._pulse.heard_ns)
        return age_ns <= self._settings.suspect_timeouts * state.settings.election_timeout_ns

    def _may_judge(self, group: Group) -> bool:
        return group.failure is None and self._own in group.raft.state.configuration.members

    def _survey(self, now_ns: int) -> Surveyed:
        pending_ns = self._device.oldest_pending_since_ns
        stalled = self._pulse.disk.stalled and pending_ns is not None
        clock = self._clock_health()
        fit = clock.state is not ClockState.UNSYNCHRONISED
        return Surveyed(
            now_ns,
            self._pulse.contacts,
            self._pulse.heard_ns,
            max(0, now_ns - pending_ns) if stalled and pending_ns is not None else 0,
            "" if fit else str(clock),
        )

    def _judge(
        self, group: Group, around: Surveyed, letters: dict[str, list[Note]] | None
    ) -> Verdict:
        name, now_ns = group.name, around.now_ns
        case = self._case(name)
        first = case.detector.verdict is None
        changed = case.detector.observe(gather(group, around, case.told), now_ns)
        verdict = case.detector.verdict
        assert verdict is not None, "a look always ends in a verdict"
        if verdict.state is SplitState.HEALTHY:
            self._unwell.pop(name, None)
            case.told.clear()  # what was said in doubt is old news by the next
        else:
            self._unwell[name] = None
            every_ns = group.raft.state.settings.election_timeout_ns // 2
            if letters is not None and now_ns - case.asked_ns >= every_ns:
                case.asked_ns = now_ns
                view = self._view(group, now_ns, asks=True)
                for peer in sorted(verdict.peers):
                    letters.setdefault(peer, []).append(view)
        if changed is not None and (not first or changed.state.refuses_writes):
            self._announce(changed)
        return verdict

    def _view(self, group: Group, now_ns: int, *, asks: bool) -> ViewTold:
        state = group.raft.state
        silent_ns = max(0, now_ns - contact_ns(state, self._pulse.heard_ns))
        return ViewTold(
            state.group,
            state.term,
            state.leader,
            state.commit,
            state.log.last_index,
            silent_ns // 1_000_000,
            asks,
        )

    def _announce(self, verdict: Verdict) -> None:
        level = logging.WARNING if verdict.state.refuses_writes else logging.INFO
        facts = {"node": verdict.node, "group": verdict.group, "verdict": verdict.state.value}
        logger.log(level, "%s", verdict, extra=facts)
        for listener in list(self.listeners):
            listener(verdict)
        for stream in list(self._streams):
            stream.put(verdict)

    def _case(self, name: str) -> _Case:
        case = self._cases.get(name)
        if case is None:
            case = self._cases[name] = _Case(SplitDetector(self._settings))
        return case

    def _forget(self, name: str) -> None:
        self._cases.pop(name, None)
        self._unwell.pop(name, None)
        self._slept_well.pop(name, None)
