"""The pulse of a node: its beat to every peer, its disk, and what follows for all its groups.

This module exists so that what would otherwise be found out a thousand times, once by each group,
is found out once: whether a peer lives, whether it hears us, whether our disk answers. It judges
nothing itself (``liveness``, ``sleepers``, ``disk_watch`` and ``election_gate`` do) and holds no
rule of any protocol; it carries facts to groups and words to peers.

A node whose disk owes an answer sends no beats: groups that sleep on its word wake up elsewhere,
and its own leaders step down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from mcpcore.errors import CoordinationError
from mcpcore.node.clocks import Clocks
from mcpcore.node.contacts import Contact, Contacts
from mcpcore.node.disk_watch import DiskFacts, DiskVerdict, DiskWatch
from mcpcore.node.election_gate import ElectionGate
from mcpcore.node.liveness import Beat, Liveness
from mcpcore.node.nearness import FAR_BEATS, far_peers
from mcpcore.node.node_words import beat_row, rouse_row
from mcpcore.node.scheduler import LATE_NS, Scheduler
from mcpcore.node.sleepers import Sleeper, Sleepers, Tally, mark_of
from mcpcore.node.storage.contract import LogDevice
from mcpcore.raft.outcome import Role
from mcpcore.raft.quorum import quorum_value
from mcpcore.raft.settings import SECOND, RaftSettings
from mcpcore.raft.state import RaftState

if TYPE_CHECKING:
    from mcpcore.node.group import Group
    from mcpcore.node.hosting import Hosting

logger = logging.getLogger("mcpcore.node")

BEAT_MAX_NS = 1 * SECOND
"""Clocks want a frame this often, even if no group does."""

_STANDING = (Role.PRE_CANDIDATE, Role.CANDIDATE)


class Pace(NamedTuple):
    """How often a node beats, and how patient the least patient of its groups is."""

    beat_ns: int
    window_ns: int

    @classmethod
    def of(cls, settings: Iterable[RaftSettings]) -> Pace:
        """The pace for groups of these settings: five beats in any group's election timeout."""
        window_ns = min((each.election_timeout_ns for each in settings), default=5 * SECOND)
        return cls(min(BEAT_MAX_NS, window_ns // 5), window_ns)


class Pulse:
    """The beat of one node.

    Args:
        own: our name.
        peers: names the other nodes.
        hosting: the groups of this node.
        disk_bound_ns: how long the disk may take to answer; 0: as long as the least patient
            group's election timeout.
        elections_at_once: how many groups may stand for election at a time.
        round_trip_ns: the shortest round trip to a peer lately, 0 if unknown.
    """

    def __init__(
        self,
        own: str,
        life: int,
        peers: Callable[[], Collection[str]],
        hosting: Hosting,
        scheduler: Scheduler,
        device: LogDevice,
        clocks: Clocks,
        *,
        disk_bound_ns: int,
        elections_at_once: int,
        round_trip_ns: Callable[[str], int],
    ) -> None:
        self._own = own
        self._peers = peers
        self._hosting = hosting
        self._scheduler = scheduler
        self._device = device
        self._clocks = clocks
        self._disk_bound_ns = disk_bound_ns
        self._gate = ElectionGate(elections_at_once)
        self.liveness = Liveness(life)
        self.contacts = Contacts(self.liveness, round_trip_ns)
        scheduler.when_late = self.contacts.health.timer_ran
        self.sleepers = Sleepers()
        self.pace = Pace.of(())
        self.disk = DiskVerdict(stalled=False, full=False, probe=False)
        self._watch = DiskWatch(self.disk_bound_ns, clocks.monotonic_ns())
        self._due_ns = clocks.monotonic_ns()
        self._far: frozenset[str] = frozenset()
        self.awake: dict[str, Group] = {}
        """The groups that do not sleep, by name."""
        self.listener: Callable[[int], None] | None = None
        """Called at each beat with the moment at which it came."""

    def start(self) -> None:
        """Begin to beat."""
        self._due_ns = self._clocks.monotonic_ns()
        self._scheduler.alarm(self, self._due_ns)

    def set_pace(self, settings: Iterable[RaftSettings]) -> None:
        """Beat as the groups need it."""
        self.pace = Pace.of(settings)
        self._watch.bound_ns = self.disk_bound_ns

    @property
    def disk_bound_ns(self) -> int:
        """How long the disk may take to answer."""
        return self._disk_bound_ns or self.pace.window_ns

    # --- the beat ----------------------------------------------------------------------------

    def rang(self, now_ns: int) -> None:
        """One beat. All beats of a node, and those of its groups, fall on multiples of theirs."""
        beat_ns = self.pace.beat_ns
        self._judge_ourselves(now_ns)
        self._due_ns = now_ns + beat_ns - now_ns % beat_ns
        self._scheduler.alarm(self, self._due_ns)
        self._look_at_disk(now_ns)
        for name in self.sleepers.overdue(self.liveness, now_ns):
            self._rouse(name)
        beats, far = now_ns // beat_ns, self._far_peers()
        for place, peer in enumerate(self._peers()):
            if peer in far and (beats + place) % FAR_BEATS:
                continue
            if self.disk.stalled:
                self._scheduler.tell_time(peer)
            else:
                count, mark = self.sleepers.vouched_for(peer)
                beat = self.liveness.beat(peer, now_ns, count, mark)
                self._scheduler.say(peer, beat_row(beat), droppable=True)
        if self.listener is not None:
            self.listener(now_ns)

    def _far_peers(self) -> frozenset[str]:
        """Who hears of us less often; whose silence is judged by that from the change on."""
        configurations = (group.raft.state.configuration for group in self._hosting)
        far = far_peers(self._own, self._peers(), configurations)
        for peer in sorted(far ^ self._far):
            self.contacts.expect(peer, self.pace.beat_ns * (FAR_BEATS if peer in far else 1))
        self._far = far
        return far

    def _judge_ourselves(self, now_ns: int) -> None:
        """A beat in time and a disk that answers are signs of health; the scheduler told of every
        timer that was late.
        """
        health, pending_ns = self.contacts.health, self._device.oldest_pending_since_ns
        if pending_ns is not None and now_ns - pending_ns > self.disk_bound_ns // 4:
            health.slow()
        elif now_ns - self._due_ns < LATE_NS:
            health.well()
        self.contacts.refresh(self._peers())

    def _look_at_disk(self, now_ns: int) -> None:
        device, before = self._device, self.disk
        facts = DiskFacts(device.oldest_pending_since_ns, device.stats.syncs, device.no_space)
        self.disk = verdict = self._watch.look(facts, now_ns)
        if verdict.probe and device.failure is None:
            try:
                device.probe()
            except CoordinationError as closing:
                logger.debug("the disk is not asked: %s", closing)
        if (verdict.stalled, verdict.full) != (before.stalled, before.full):
            logger.warning(
                "the disk %s",
                "has not answered in time: this node leads nothing until it does"
                if verdict.stalled
                else "is full: writes are refused until there is space"
                if verdict.full
                else "works again",
                extra={"stalled": verdict.stalled, "full": verdict.full},
            )
            for group in self._hosting:
                group.disk_changed(stalled=verdict.stalled, full=verdict.full)

    # --- what peers say ----------------------------------------------------------------------

    def heard(self, peer: str, beat: Beat) -> None:
        """A peer's beat arrived."""
        now_ns = self._clocks.monotonic_ns()
        self.contacts.heard(peer, now_ns)
        if self.liveness.heard(peer, beat, now_ns):
            for name in self.sleepers.led_by(peer):
                self._rouse(name, heard_ns=0)
        said = Tally(beat.asleep, beat.mark)
        if self.sleepers.doubt(peer, said, now_ns, self.pace.window_ns):
            logger.info("%s vouches for other sleeping groups than ours; waking them", peer)
            for name in self.sleepers.led_by(peer):
                self._rouse(name)
            self._scheduler.say(peer, rouse_row(), droppable=False)

    def roused(self, peer: str) -> None:
        """A peer's book of sleeping groups disagrees with what we vouched for."""
        for name in self.sleepers.led_with(peer):
            self._rouse(name)

    # --- what groups ask ---------------------------------------------------------------------

    def contact(self, peer: str) -> Contact:
        """What this node knows of a peer's nearness, now."""
        return self.contacts.of(peer, self._clocks.monotonic_ns())

    def heard_ns(self, state: RaftState) -> int:
        """When a group's leader was last heard of; for a leader, when a quorum heard of it."""
        liveness = self.liveness
        if not state.is_leader:
            return liveness.heard_ns(state.leader)
        now_ns = self._clocks.monotonic_ns()

        def answered(member: str) -> int:
            return now_ns if member == state.id else max(0, liveness.answered_ns(member))

        return quorum_value(state.configuration, answered)

    def may_rest(self, state: RaftState, now_ns: int) -> bool:
        """Whether the nodes of all members hear of us and we of them, and our disk answers."""
        fresh_ns = now_ns - state.settings.election_timeout_ns // 2
        return not self.disk.stalled and all(
            member == state.id or self.liveness.answered_ns(member) > fresh_ns
            for member in state.configuration.members
        )

    def listens_ns(self, now_ns: int) -> int:
        """For how much longer to listen before anybody is doubted, after we did not run."""
        return self.contacts.health.listens_ns(now_ns)

    def may_stand(self, group: str, now_ns: int, hold_ns: int) -> bool:
        """Whether a group may stand for election now; if not, it asks again later."""
        return self._gate.enter(group, now_ns, hold_ns)

    def noted(self, group: Group) -> None:
        """A group has had its turn: keep the books of who sleeps and who stands for election."""
        name, state = group.name, group.raft.state
        if state.quiet:
            if name not in self.sleepers:
                self.sleepers.add(_sleeper(name, state))
                self.awake.pop(name, None)
        else:
            self.awake[name] = group
            if self.sleepers:
                self.sleepers.discard(name)
        if self._gate and state.role not in _STANDING:
            self._gate.leave(name)

    def forget(self, name: str) -> None:
        """A group has ended."""
        self.sleepers.discard(name)
        self.awake.pop(name, None)
        self._gate.leave(name)

    def _rouse(self, name: str, heard_ns: int | None = None) -> None:
        group = self._hosting.find(name)
        if group is not None:
            group.rouse(heard_ns)


def _sleeper(name: str, state: RaftState) -> Sleeper:
    leads = state.is_leader
    others = sorted(state.configuration.members - {state.id})
    return Sleeper(
        name,
        leads,
        tuple(others) if leads else (state.leader,),
        state.settings.election_timeout_ns,
        mark_of(name, state.term, state.log.last_index),
    )
