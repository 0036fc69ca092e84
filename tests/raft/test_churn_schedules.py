"""Long walks by seed on which members come, go, forget, and are promoted, among all other faults.

Everything the walks of ``test_seeded_schedules`` do, and: learners and voters are added, promoted
(too early, by force), demoted and removed, leaders among them, one at a time and several at once;
joint changes are left by themselves or by hand; disks are lost, as long as enough memory is left.
``python -m tests.raft.test_churn_schedules SEED`` walks one seed again.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest

from mcpcore.errors import Rejected
from mcpcore.raft.membership import AddLearner, AddVoter, Change, Demote, Promote, Remove
from mcpcore.raft.quorum import majority
from mcpcore.raft.types import Member
from tests.raft.cluster import Cluster
from tests.raft.test_seeded_schedules import DRIFTING, Walk, walk


class Churn(Walk):
    """A walk with changes of membership."""

    changes = joints = wipes = 0

    def found(self, seed: int) -> Cluster:
        size = self.rng.choice([1, 2, 3, 3, 5])
        names = "abcdefg"
        cluster = Cluster(
            names[:size],
            joiners=names[size:],
            seed=seed,
            sync=False,
            settings=DRIFTING,
            identities=True,
        )
        cluster.heal()  # everybody meets everybody
        return cluster

    def mood(self) -> None:
        super().mood()
        # A group that shrinks to one or two has nobody left who holds what a disk lost.
        self.rot = self.losses = 0.0
        self.churn = self.rng.choice((0.02, 0.1, 0.3, 0.8))
        self.forgetting = self.rng.choice((0.0, 0.0, 0.05))

    def step(self) -> None:
        super().step()
        if self.rng.random() < self.forgetting:
            self.forget()

    def use(self, leader: str) -> None:
        super().use(leader)
        if self.rng.random() < self.churn:
            with suppress(Rejected):
                self.change(leader)

    def change(self, leader: str) -> None:
        rng, cluster = self.rng, self.cluster
        configuration = cluster[leader].state.configuration
        if configuration.joint and not configuration.auto_leave:
            cluster[leader].leave_joint(cluster.clock_ns(leader))
            return
        wanted = [self.one_change() for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        how = {"joint": True} if rng.random() < 0.2 else {}
        entry = cluster[leader].propose_change(
            wanted,
            cluster.clock_ns(leader),
            auto_leave=rng.random() < 0.8,
            force=rng.random() < 0.2,
            **how,
        )
        self.changes += 1
        self.joints += cluster[leader].state.configuration.joint
        assert entry.index == cluster[leader].state.log.last_index

    def one_change(self) -> Change:
        rng = self.rng
        name = rng.choice(list(self.cluster.members))
        match rng.choice(("voter", "learner", "meant", "promote", "demote", "remove")):
            case "voter":
                return AddVoter(name)
            case "learner":
                return AddLearner(name)
            case "meant":
                return AddLearner(name, Member(promote=True))
            case "promote":
                return Promote(name)
            case "demote":
                return Demote(name)
            case _:
                return Remove(name)

    def forget(self) -> None:
        """Somebody loses its disk. Only where a majority of memories is left: no protocol survives
        the loss of more. That is so when a settled configuration is held by its leader, all its
        voters have the disks they were admitted with, and one less is still a majority.
        """
        cluster = self.cluster
        leaders = [name for name in cluster.leaders() if cluster.running(name)]
        if len(leaders) != 1:
            return
        state = cluster[leaders[0]].state
        index, configuration = state.configurations[-1]
        voters = configuration.voters
        remembering = [
            name
            for name in voters
            if configuration.member(name).incarnation == cluster.members[name].incarnation
        ]
        name = self.rng.choice(list(cluster.members))
        if (
            index > state.handed
            or state.commit < state.term_start
            or configuration.joint
            or len(remembering) < len(voters)
            or (name in voters and len(voters) - 1 < majority(len(voters)))
            or name in cluster.paused
        ):
            return
        cluster.wipe(name)
        self.wipes += 1
        # At once: before anybody knows, a change could make the group need what is no more.
        cluster.restart(name)

    def end(self) -> None:
        super().end()
        cluster = self.cluster
        leader = cluster.leader()
        state = cluster[leader].state
        assert state.configuration.votes(leader)
        if state.configuration.joint:
            assert not state.configuration.auto_leave, "nobody left the joint change"

    def must_agree(self) -> list[str]:
        return sorted(self.cluster[self.cluster.leader()].state.configuration.members)


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_figure_3_and_liveness_hold_while_members_come_and_go(first: int) -> None:
    changes, joints, commits = 0, 0, 0
    for seed in range(first, first + 4):
        run = walk(seed, steps=400, kind=Churn)
        changes += run.changes
        joints += run.joints
        commits += len(run.cluster.figure_three.committed)
    assert changes > 10, "walks this calm prove nothing"
    assert joints > 2
    assert commits > 200, "walks this stormy prove nothing"


@pytest.mark.parametrize("first", range(100, 300, 20))
def test_figure_3_and_liveness_hold_on_two_hundred_short_walks_of_churn(first: int) -> None:
    assert sum(walk(seed, steps=150, kind=Churn).changes for seed in range(first, first + 20)) > 10


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 11_000, 100))
def test_figure_3_and_liveness_hold_on_ten_thousand_walks_of_churn(first: int) -> None:
    for seed in range(first, first + 100):
        walk(seed, kind=Churn)


if __name__ == "__main__":
    walk(int(sys.argv[1]), kind=Churn)
