"""The five properties of Figure 3, and durability, under every schedule Hypothesis can think of.

The machine drops, duplicates, delays and reorders messages, lets disks lag, crashes members with
any part of their writes lost, cuts links in one direction, transfers leadership, changes the
membership, and lets time pass. Every step is judged by ``FigureThree`` and by a look at the disks.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mcpcore.errors import Rejected
from mcpcore.raft.membership import AddLearner, AddVoter, Change, Demote, Promote, Remove
from tests.raft.cluster import Cluster

NAMES = ["a", "b", "c", "d", "e"]
KINDS = (AddVoter, AddLearner, Promote, Demote, Remove)
CHANGES = st.one_of([st.builds(kind, st.sampled_from(NAMES)) for kind in KINDS])


class RandomSchedule(RuleBasedStateMachine):
    cluster: Cluster

    @initialize(size=st.sampled_from([1, 2, 3, 3, 5]), seed=st.integers(0, 1 << 16))
    def begin(self, size: int, seed: int) -> None:
        joiners = "".join(NAMES[size:])
        self.cluster = Cluster(NAMES[:size], seed=seed, sync=False, joiners=joiners)
        self.proposed = 0
        self.acknowledged: set[bytes] = set()

    def member(self, number: int) -> str:
        names = list(self.cluster.members)
        return names[number % len(names)]

    def up(self, number: int) -> str | None:
        names = [name for name, member in self.cluster.members.items() if member.up]
        return names[number % len(names)] if names else None

    @rule(ms=st.sampled_from([1, 30, 250, 1100, 2500]), sync=st.booleans())
    def time_passes(self, ms: int, sync: bool) -> None:
        self.cluster.now_ns += ms * 1_000_000
        self.cluster.tick()
        if sync:
            self.disks_finish()

    @rule(ms=st.sampled_from([500, 3000]))
    def the_world_is_calm_for_a_while(self, ms: int) -> None:
        self.disks_finish()
        self.cluster.sync = True
        self.cluster.settle()
        self.cluster.advance(ms, step_ms=100)
        self.cluster.sync = False

    @rule()
    def disks_finish(self) -> None:
        for name, member in self.cluster.members.items():
            if member.up and member.disk.pending:
                self.cluster.complete(name, len(member.disk.pending))

    @rule(number=st.integers(0, 4))
    def a_disk_finishes_one_write(self, number: int) -> None:
        name = self.member(number)
        if self.cluster.members[name].up and self.cluster.members[name].disk.pending:
            self.cluster.complete(name)

    @precondition(lambda self: self.cluster.mail)
    @rule(position=st.integers(0, 200), keep=st.booleans())
    def a_message_arrives(self, position: int, keep: bool) -> None:
        self.cluster.deliver(position % len(self.cluster.mail), keep=keep)

    @precondition(lambda self: self.cluster.mail)
    @rule(count=st.integers(1, 40), sync=st.booleans())
    def messages_arrive_in_order(self, count: int, sync: bool) -> None:
        for _ in range(min(count, len(self.cluster.mail))):
            self.cluster.deliver()
            if sync:
                self.disks_finish()

    @precondition(lambda self: self.cluster.mail)
    @rule(position=st.integers(0, 200))
    def a_message_is_lost(self, position: int) -> None:
        del self.cluster.mail[position % len(self.cluster.mail)]

    @rule(number=st.integers(0, 4), count=st.integers(1, 5))
    def a_client_proposes(self, number: int, count: int) -> None:
        leaders = self.cluster.leaders()
        if not leaders:
            return
        leader = leaders[number % len(leaders)]
        for _ in range(count):
            self.proposed += 1
            try:
                self.cluster[leader].propose(b"%d" % self.proposed, self.cluster.now_ns)
            except Rejected:
                return
        self.cluster.drain(leader)

    @rule(number=st.integers(0, 4))
    def a_client_reads(self, number: int) -> None:
        name = self.up(number)
        if name is None:
            return
        try:
            self.cluster.read(name)
            self.cluster.lease_read(name)
        except Rejected:
            return

    @rule(number=st.integers(0, 4), heir=st.integers(0, 4))
    def leadership_is_handed_over(self, number: int, heir: int) -> None:
        leaders = self.cluster.leaders()
        if not leaders:
            return
        leader = leaders[number % len(leaders)]
        try:
            self.cluster[leader].transfer_leadership(self.member(heir), self.cluster.now_ns)
        except Rejected:
            return
        self.cluster.drain(leader)

    @rule(
        number=st.integers(0, 4),
        wanted=st.lists(CHANGES, min_size=1, max_size=3),
        auto_leave=st.booleans(),
        force=st.booleans(),
    )
    def membership_changes(
        self, number: int, wanted: list[Change], auto_leave: bool, force: bool
    ) -> None:
        leaders = self.cluster.leaders()
        if not leaders:
            return
        raft, now_ns = self.cluster[leaders[number % len(leaders)]], self.cluster.now_ns
        try:
            if raft.state.configuration.joint:
                raft.leave_joint(now_ns)
            else:
                raft.propose_change(wanted, now_ns, auto_leave=auto_leave, force=force)
        except Rejected:
            return
        self.cluster.drain(raft.state.id)

    @rule(number=st.integers(0, 4), stored=st.integers(0, 5))
    def a_member_crashes(self, number: int, stored: int) -> None:
        name = self.up(number)
        if name is not None:
            self.cluster.crash(name, stored=stored)

    @rule(number=st.integers(0, 4))
    def a_member_restarts(self, number: int) -> None:
        name = self.member(number)
        if not self.cluster.members[name].up:
            self.cluster.restart(name)

    @rule(one=st.integers(0, 4), other=st.integers(0, 4))
    def a_direction_is_cut(self, one: int, other: int) -> None:
        self.cluster.cut.add((self.member(one), self.member(other)))

    @rule()
    def everything_is_healed(self) -> None:
        self.cluster.heal()

    @invariant()
    def applied_commands_are_a_prefix_of_each_other(self) -> None:
        if not hasattr(self, "cluster"):
            return
        logs = sorted(
            ([e.data for e in member.applied] for member in self.cluster.members.values()), key=len
        )
        for shorter, longer in pairwise(logs):
            assert longer[: len(shorter)] == shorter

    def teardown(self) -> None:
        """After all faults end, the group must elect a leader and serve (no deadlock is left)."""
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        cluster.sync = True
        for name, member in cluster.members.items():
            if not member.up:
                cluster.restart(name)
            cluster.complete(name, len(member.disk.pending))
        cluster.heal()
        before = set(cluster.figure_three.committed)
        cluster.settle()
        cluster.advance(12_000)
        entry = cluster.propose(cluster.leader(), b"still alive")
        cluster.settle()
        cluster.advance(500)
        for name in cluster[cluster.leader()].state.configuration.members:
            member = cluster.members[name]
            assert member.applied[-1] == entry, f"{member.raft} did not catch up"
        assert before <= set(cluster.figure_three.committed)


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def run(examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        RandomSchedule,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=CHECKS,
        ),
    )


def test_figure_3_holds_under_random_schedules() -> None:
    run(examples=60, steps=50)


@pytest.mark.soak
def test_figure_3_holds_under_a_thousand_long_random_schedules() -> None:
    run(examples=1000, steps=200)
