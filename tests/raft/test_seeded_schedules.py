"""Long walks by seed: groups that mostly work, and are disturbed all the time.

Hypothesis finds short counterexamples; these walks reach far (dozens of terms, hundreds of
commits), with clocks as wrong as the settings allow and with processes that pause.
``python -m tests.raft.test_seeded_schedules SEED`` walks one seed again.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import pytest

from mcpcore.errors import Rejected
from mcpcore.raft.types import Entry
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.snapshotting import compact

STEPS = 600
DRIFT_PPM = 100_000
"""Clocks that are wrong by a tenth: a lease that forgets the drift is caught soon."""
DRIFTING = replace(SETTINGS, drift_ppm=DRIFT_PPM)


class Walk:
    """One run: a cluster, a mood that changes now and then, and a step that follows the mood."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = self.found(seed)
        for name in self.cluster.members:
            rate_ppm = self.rng.choice((-DRIFT_PPM, 0, 0, DRIFT_PPM))
            self.cluster.rates_ppm[name] = rate_ppm
        self.proposals = self.leases = self.rotten = 0
        self.mood()

    def found(self, seed: int) -> Cluster:
        """The group at the beginning."""
        size = self.rng.choice([2, 3, 3, 3, 5, 5])
        return Cluster("abcde"[:size], seed=seed, sync=False, settings=DRIFTING)

    def mood(self) -> None:
        """Each fault is likely, rare or absent for a while (swarm testing)."""
        rare_or_not = (0.0, 0.0, 0.02, 0.3)
        self.loss = self.rng.choice((0.0, 0.0, 0.05, 0.3))
        self.duplication = self.rng.choice((0.0, 0.0, 0.1))
        self.disorder = self.rng.choice((0.0, 0.0, 0.2, 1.0))
        self.sync_rate = self.rng.choice((1.0, 1.0, 0.5, 0.1))
        self.laziness = self.rng.choice((0.0, 0.2, 1.0))
        self.crashes = self.rng.choice(rare_or_not)
        self.cuts = self.rng.choice(rare_or_not)
        self.transfers = self.rng.choice(rare_or_not)
        self.pauses = self.rng.choice(rare_or_not)
        self.compactions = self.rng.choice((0.0, 0.0, 0.1, 0.5))
        # One or the other: what one disk lost, another must still hold, as entries or as a state.
        self.rot, self.losses = self.rng.choice(((0.0, 0.0), (0.0, 0.3), (0.5, 0.0)))

    def step(self) -> None:
        rng, cluster = self.rng, self.cluster
        if rng.random() < 0.03:
            self.mood()
        cluster.now_ns += rng.choice((1, 5, 20, 60, 200)) * MS
        if rng.random() < self.laziness:
            cluster.be_lazy()
        cluster.tick()
        for _ in range(rng.randrange(30)):
            if not cluster.mail:
                break
            self.one_letter()
        names = list(cluster.members)
        for name in names:
            member = cluster.members[name]
            if cluster.running(name) and member.disk.pending and rng.random() < self.sync_rate:
                cluster.complete(name, rng.randint(1, len(member.disk.pending)))
        cluster.take_turns()
        for leader in cluster.leaders():
            if cluster.running(leader):
                self.use(leader)
        if rng.random() < self.crashes:
            name = rng.choice(names)
            if cluster.members[name].up:
                cluster.crash(name, stored=rng.randrange(4))
                if rng.random() < self.losses:
                    self.lose_snapshots(name)
                if rng.random() < self.rot:
                    self.rot_disk(name)
        if rng.random() < self.compactions:
            name = rng.choice(names)
            if cluster.running(name):
                compact(
                    cluster,
                    name,
                    trailing=rng.choice((0, 0, 3, 10)),
                    hold_bytes=rng.choice((0, 0, 500)),
                )
        down = [name for name in names if not cluster.members[name].up]
        if down and rng.random() < 0.2:
            name = rng.choice(down)
            cluster.restart(name)
        if rng.random() < self.pauses:
            cluster.pause(rng.choice(names))
        for name in list(cluster.paused):
            if rng.random() < 0.1:
                cluster.resume(name)
        if rng.random() < self.cuts:
            self.cut_links(names)
        if cluster.cut and rng.random() < 0.1:
            cluster.heal()

    def rot_disk(self, name: str) -> None:
        """Lose part of a log, while all others are certain of theirs."""
        rng, members = self.rng, self.cluster.members
        disk = members[name].disk
        others = [member.disk for member in members.values()]
        whole = all(other.doubt is None for other in others) and all(
            other.snapshots or not other.base.index for other in others
        )
        if len(members) > 2 and disk.entries and whole:
            known = len(disk.entries)
            firsts = [disk.base.index + rng.randint(1, known) for _ in range(rng.randint(1, 2))]
            disk.rot([(first, first + rng.randrange(5)) for first in firsts])
            self.rotten += 1

    def lose_snapshots(self, name: str) -> None:
        """A disk loses its snapshots; another member keeps a state, or nobody could go on."""
        disks = [member.disk for other, member in self.cluster.members.items() if other != name]
        states = [disk for disk in disks if not disk.base.index or disk.snapshots]
        sure = all(disk.doubt is None for disk in disks)
        if sure and len(states) == len(disks) and states:
            self.cluster.members[name].disk.snapshots.clear()

    def cut_links(self, names: list[str]) -> None:
        """One link; all links of one member in one or both directions; a bridge; a ring."""
        rng, cut = self.rng, self.cluster.cut
        one = rng.choice(names)
        others = [name for name in names if name != one]
        match rng.choice(("link", "deaf", "mute", "alone", "bridge", "ring")):
            case "link":
                cut.add((one, rng.choice(names)))
            case "deaf":
                cut |= {(other, one) for other in others}
            case "mute":
                cut |= {(one, other) for other in others}
            case "alone":
                cut |= {(one, other) for other in others} | {(other, one) for other in others}
            case "bridge":
                side = {name for name in others if rng.random() < 0.5}
                for a, b in combinations(others, 2):
                    if (a in side) != (b in side):
                        cut |= {(a, b), (b, a)}
            case "ring":
                for a, b in combinations(range(len(names)), 2):
                    if b - a not in (1, len(names) - 1):
                        cut |= {(names[a], names[b]), (names[b], names[a])}

    def one_letter(self) -> None:
        rng, mail = self.rng, self.cluster.mail
        position = rng.randrange(len(mail)) if rng.random() < self.disorder else 0
        if rng.random() < self.loss:
            del mail[position]
        else:
            self.cluster.deliver(position, keep=rng.random() < self.duplication)

    def use(self, leader: str) -> None:
        rng, cluster = self.rng, self.cluster
        with suppress(Rejected):  # a refusal is an answer
            self.leases += cluster.lease_read(leader) > 0
        with suppress(Rejected):
            for _ in range(rng.randrange(4)):
                self.proposals += 1
                cluster[leader].propose(b"%d" % self.proposals, cluster.clock_ns(leader))
            cluster.read(rng.choice([name for name in cluster.members if cluster.running(name)]))
            if rng.random() < self.transfers:
                heir = rng.choice(list(cluster.members))
                cluster[leader].transfer_leadership(heir, cluster.clock_ns(leader))
        for name in cluster.members:
            if cluster.running(name):
                cluster.drain(name)

    def end(self) -> None:
        """All faults end: the group must elect, replicate everywhere and lose nothing."""
        cluster = self.cluster
        cluster.sync = True
        for name in list(cluster.paused):
            cluster.resume(name)
        for name, member in cluster.members.items():
            if not member.up:
                cluster.restart(name)
            cluster.complete(name, len(member.disk.pending))
        cluster.heal()
        cluster.settle()
        cluster.advance(12_000)
        entry = cluster.propose(cluster.leader(), b"still alive")
        cluster.settle()
        cluster.advance(500)
        self.look_at(entry)
        for name in self.must_agree():
            member = cluster.members[name]
            assert member.applied[-1] == entry, f"{member.raft} did not catch up"
            assert member.raft.state.doubt is None, f"{member.raft} is still in doubt"

    def look_at(self, entry: Entry) -> None:
        """What was proposed last, before all must hold it."""

    def must_agree(self) -> list[str]:
        """Who holds everything in the end."""
        return list(self.cluster.members)


def walk(seed: int, steps: int = STEPS, kind: type[Walk] = Walk) -> Walk:
    run = kind(seed)
    try:
        for _ in range(steps):
            run.step()
        run.end()
    except BaseException as error:
        error.add_note(f"again: python -m {kind.__module__} {seed}")
        raise
    return run


@pytest.mark.parametrize("first", range(0, 16, 4))
def test_figure_3_and_liveness_hold_on_seeded_walks(first: int) -> None:
    terms = commits = leases = rotten = 0
    for seed in range(first, first + 4):
        run = walk(seed)
        judge = run.cluster.figure_three
        leases += run.leases
        rotten += run.rotten
        terms += len(judge.leaders)
        commits += len(judge.committed)
    assert terms > 15, "walks this calm prove nothing"
    assert commits > 300, "walks this stormy prove nothing"
    assert leases > 100, "leases nobody got prove nothing"
    assert rotten, "disks this sound prove nothing"


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_figure_3_and_liveness_hold_on_two_thousand_more_walks(first: int) -> None:
    for seed in range(first, first + 100):
        walk(seed)


if __name__ == "__main__":
    walk(int(sys.argv[1]))
