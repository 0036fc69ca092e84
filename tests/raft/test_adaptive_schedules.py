"""Long walks by seed on which windows move: leases and elections must not depend on estimates.

Everything the walks of ``test_seeded_schedules`` and ``test_churn_schedules`` do, and: every member
has bounds of its own (some hold their windows still, some have a lower ceiling), leaders ask for
promises that jump anywhere within their bounds, some estimate in earnest, and groups fall asleep
and are woken. No two members may hold a lease at once.
``python -m tests.raft.test_adaptive_schedules SEED [churn]`` walks one seed again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest

from mcpcore.raft.core import Raft
from mcpcore.raft.election import lease_until_ns
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Configuration
from mcpcore.raft.windows import AdaptiveWindows, WindowSettings
from tests.raft.cluster import MS, Cluster, Disk
from tests.raft.test_churn_schedules import Churn
from tests.raft.test_seeded_schedules import DRIFTING, Walk, walk

MOVING = replace(DRIFTING, election_floor_ns=150 * MS, heartbeat_floor_ns=40 * MS)
LOWER = replace(MOVING, election_timeout_ns=600 * MS)
"""A member that somebody configured otherwise: its word counts only for shorter promises."""


class Jumping(AdaptiveWindows):
    """Windows that follow nothing but a seed."""

    def __init__(self, settings: WindowSettings, rng: random.Random) -> None:
        super().__init__(settings)
        self.rng = rng

    def promises_ns(
        self, members: Iterable[str], voters: Collection[str], now_ns: int
    ) -> dict[str, int]:
        bounds = self.settings
        least, most = bounds.election_floor_ns, bounds.election_ceiling_ns
        return {name: self.rng.choice((least, self.rng.randint(least, most))) for name in members}


class MovingCluster(Cluster):
    """Members with bounds of their own, some of whom estimate and some of whom jump."""

    mixed = True

    def _start(self, name: str, disk: Disk, configuration: Configuration, incarnation: str) -> Raft:
        # By the name, so that a restart changes nothing: a ceiling must not be lowered lightly.
        kind = random.Random(f"{name} of {self.seed}").random()
        self.settings = MOVING
        if self.mixed and kind < 0.15:
            self.settings = DRIFTING
        elif self.mixed and kind < 0.25:
            self.settings = LOWER
        raft = super()._start(name, disk, configuration, incarnation)
        state = raft.state
        if kind > 0.5 and state.windows.settings.moving:
            state.windows = Jumping(state.windows.settings, random.Random(self.rng.random()))
        return raft

    def __init__(
        self,
        names: str,
        *,
        seed: int,
        settings: RaftSettings,
        sync: bool,
        joiners: str = "",
        identities: bool = False,
    ) -> None:
        self.seed = seed
        super().__init__(
            names,
            seed=seed,
            settings=settings,
            sync=sync,
            joiners=joiners,
            identities=identities,
        )


class Moving(Walk):
    """A walk with windows that move."""

    cluster_kind = MovingCluster
    held = rests = shorter = 0

    def found(self, seed: int) -> Cluster:
        size = self.rng.choice([2, 3, 3, 3, 5, 5])
        kind = self.cluster_kind
        return kind("abcde"[:size], seed=seed, sync=False, settings=DRIFTING)

    def mood(self) -> None:
        super().mood()
        self.idle = self.rng.random() < 0.3
        if self.idle:
            self.loss, self.sync_rate = 0.0, 1.0

    def step(self) -> None:
        super().step()
        cluster, rng = self.cluster, self.rng
        for name in list(cluster.members):
            if not cluster.running(name):
                continue
            raft, now_ns = cluster[name], cluster.clock_ns(name)
            if raft.quiet:
                if rng.random() < 0.1:
                    raft.wake(now_ns, now_ns - rng.randrange(2000) * MS)
                    cluster.drain(name)
            elif raft.is_leader and self.idle:
                self.rests += raft.rest(now_ns)
                cluster.drain(name)
        self.at_most_one_lease()

    def use(self, leader: str) -> None:
        if not self.idle:
            super().use(leader)

    def at_most_one_lease(self) -> None:
        holders = []
        for name, member in self.cluster.members.items():
            state = member.raft.state
            if not member.up or not state.is_leader or state.lease_void:
                continue
            self.shorter += any(
                progress.promises.promise_ns < state.settings.election_timeout_ns
                for progress in state.progress.values()
            )
            if lease_until_ns(state) > self.cluster.clock_ns(name):
                holders.append(name)
        self.held += len(holders)
        assert len(holders) <= 1, f"{' and '.join(holders)} both believe in their leases"

    def end(self) -> None:
        for name, member in self.cluster.members.items():
            if member.up and name not in self.cluster.paused and member.raft.quiet:
                now_ns = self.cluster.clock_ns(name)
                member.raft.wake(now_ns, now_ns)
        super().end()


class MovingChurn(Moving, Churn):
    """The same while members come and go."""

    def found(self, seed: int) -> Cluster:
        size, names = self.rng.choice([1, 2, 3, 3, 5]), "abcdefg"
        cluster = self.cluster_kind(
            names[:size],
            joiners=names[size:],
            seed=seed,
            sync=False,
            settings=DRIFTING,
            identities=True,
        )
        cluster.heal()  # everybody meets everybody
        return cluster


@pytest.mark.parametrize("first", [0, 4])
def test_no_two_leases_and_figure_3_and_liveness_where_windows_move(first: int) -> None:
    leases = held = rests = shorter = commits = 0
    for seed in range(first, first + 4):
        run = walk(seed, steps=400, kind=Moving)
        assert isinstance(run, Moving)
        leases, held, rests = leases + run.leases, held + run.held, rests + run.rests
        shorter += run.shorter
        commits += len(run.cluster.figure_three.committed)
    assert commits > 150, "walks this stormy prove nothing"
    assert min(leases, held, shorter) > 100, "windows that stand still prove nothing"
    assert rests, "groups that never sleep prove nothing"


@pytest.mark.parametrize("first", [0])
def test_no_two_leases_where_windows_move_and_members_come_and_go(first: int) -> None:
    held = changes = 0
    for seed in range(first, first + 12):
        run = walk(seed, steps=200, kind=MovingChurn)
        assert isinstance(run, MovingChurn)
        held, changes = held + run.held, changes + run.changes
    assert held > 100
    assert changes > 10


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_no_two_leases_on_two_thousand_more_walks_where_windows_move(first: int) -> None:
    for seed in range(first, first + 100):
        walk(seed, kind=Moving)
        walk(seed, steps=300, kind=MovingChurn)


if __name__ == "__main__":
    walk(int(sys.argv[1]), kind=MovingChurn if sys.argv[2:] else Moving)
