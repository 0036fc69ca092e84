"""Is the detector right on the real node? Labelled worlds by seed, judged from outside.

The truth comes from the world and not from the node: which links are open, who leads with a quorum
that it reaches both ways, which entries a member could know of. ``python -m
tests.node.detector_campaign 0 2000`` prints the figures of docs/split.md.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass, field
from typing import Any

from mcpcore.errors import CoordinationError
from mcpcore.raft.reunion import Intervene, ReunionSettings
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.raft.split import SplitSettings, SplitState
from mcpcore.sim import World
from tests.node.simulated_cluster import NAMES, SimulatedCluster

SETTINGS = RaftSettings(election_timeout_ns=1000 * MILLISECOND, heartbeat_ns=200 * MILLISECOND)
TIMEOUT_S = SETTINGS.election_timeout_ns / 1e9
LIMITS = SplitSettings()
FIVE = ("a", "b", "c", "d", "e")
STEP_S = 0.25
CUTS = ("island", "leader", "one-way", "bridge", "ring", "flapping")
CALM = ("none", "slow link", "lossy", "pause", "slow", "crash", "disk")
RECOGNISED_WITHIN_S = TIMEOUT_S * (1 + 1 / 2 + 2 / 5) + STEP_S
"""After both conditions hold in truth: the office of a leader that does not know yet that it lost
its quorum, the time until members ask each other, two beats, and one look of ours."""
HEALTHY_WITHIN_S = 40.0


class LoadedCluster(SimulatedCluster):
    """Every leader, whether it has a quorum or not, is given entries to append."""

    def __init__(self, world: World, names: tuple[str, ...], per_s: int) -> None:
        self.per_s = per_s
        # Who must ask an operator waits for one, rightly; here the question is about verdicts.
        unasked = ReunionSettings(intervene=Intervene.NEVER)
        super().__init__(world, names, settings=SETTINGS, drift_ppm=100.0, reunion=unasked)

    def _main(self, name: str) -> Any:
        serve = super()._main(name)

        async def main() -> None:
            load = asyncio.ensure_future(self._load(name))
            try:
                await serve()
            finally:
                load.cancel()

        return main

    async def _load(self, name: str) -> None:
        while True:
            await asyncio.sleep(0.1)
            group = self.running().get(name)
            if group is None or not group.raft.is_leader:
                continue
            for _ in range(self.per_s // 10):
                try:
                    group.propose(b"\x00").add_done_callback(lambda done: done.exception())
                except CoordinationError:
                    break


@dataclass
class Score:
    """Of one seed: what was wrong, in words, and how late true splits were recognised."""

    kind: str = ""
    wrong: list[str] = field(default_factory=list)
    splits: int = 0
    late_s: list[float] = field(default_factory=list)
    changes: int = 0
    healthy_after_s: float = 0.0


class Scene:
    """One world, and the truth about it."""

    def __init__(self, world: World, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.world = world
        self.kind = rng.choice(CUTS + CUTS + CALM)
        self.names = FIVE if self.kind == "ring" or rng.random() < 0.3 else NAMES
        self.cluster = LoadedCluster(world, self.names, rng.choice([0, 20, 200, 200]))
        self.apart_s: dict[str, float] = {}
        self.knows_s: dict[str, float] = {}

    def break_something(self) -> None:
        names, rng, inject = self.names, self.rng, self.world.inject
        leader = self.cluster.leader() or names[0]
        others = [name for name in names if name != leader]
        few = tuple(rng.sample(names, rng.randint(1, (len(names) - 1) // 2)))
        match self.kind:
            case "island":
                inject("partition", *few, to=tuple(n for n in names if n not in few))
            case "leader":
                inject("partition", leader, to=tuple(others))
            case "one-way":
                pair = rng.sample(names, 2)
                inject("one_way", pair[0], to=(pair[1],))
            case "bridge":
                inject("partition", leader, to=(rng.choice(others),))
            case "ring":
                inject("majority_ring", among=names)
            case "flapping":
                inject("flapping", *few, to=tuple(n for n in names if n not in few),
                       value=rng.choice([0.3, 1.0, 3.0]))  # fmt: skip
            case "slow link":
                inject("slow_link", *few, value=rng.uniform(5, 150))
            case "lossy":
                inject("lossy", *few, value=rng.uniform(0.01, 0.1))
            case "pause":
                inject("pause", few[0])
            case "slow":
                inject("slow", few[0], value=rng.uniform(50, 1000))
            case "crash":
                inject("crash", few[0])
            case "disk":
                inject("disk_slow", few[0], value=rng.uniform(5, 300))

    def mend(self) -> None:
        self.world.heal()
        for host in self.cluster.hosts.values():
            if not host.is_alive:
                host.restart()

    # --- the truth -------------------------------------------------------------------------------

    def open(self, a: str, b: str) -> bool:
        hosts = self.cluster.hosts
        return not self.world.network.path(hosts[a], hosts[b]).cuts

    def both_ways(self, a: str, b: str) -> bool:
        return self.open(a, b) and self.open(b, a)

    def look(self) -> None:
        """Since when each member has been out of reach of every leader with a quorum, and since
        when it has known, or could have been told by those it reaches, of enough entries."""
        running, now_s = self.cluster.running(), self.world.now_s
        leaders = [
            name
            for name, group in running.items()
            if group.raft.is_leader
            and 2 * (1 + sum(self.both_ways(name, n) for n in running if n != name))
            > len(self.names)
        ]
        for name, group in running.items():
            if any(name == leader or self.open(leader, name) for leader in leaders):
                self.apart_s.pop(name, None)
            else:
                self.apart_s.setdefault(name, now_s)
            told = [
                max(other.raft.state.log.last_index, other.raft.state.commit)
                for n, other in running.items()
                if n == name or self.both_ways(n, name)
            ]
            if max(told) - group.raft.state.commit > LIMITS.commit_index_gap:
                self.knows_s.setdefault(name, now_s)
            else:
                self.knows_s.pop(name, None)

    def split_since_s(self, name: str) -> float | None:
        """Since when both conditions have held in truth, without a break; None if they do not."""
        if name not in self.apart_s or name not in self.knows_s:
            return None
        stale_s = self.apart_s[name] + LIMITS.stale_timeouts * TIMEOUT_S
        since_s = max(stale_s, self.knows_s[name])
        return since_s if since_s <= self.world.now_s else None

    def states(self) -> dict[str, Any]:
        found = {name: group.verdict for name, group in self.cluster.running().items()}
        return {name: verdict for name, verdict in found.items() if verdict is not None}


def judge(seed: int) -> Score:
    """Run one seed and compare verdicts with the truth."""
    with World(seed=seed) as world:
        scene = Scene(world, seed)
        score = Score(scene.kind)
        cases: dict[str, float] = {}
        try:
            world.run_until(lambda: bool(scene.cluster.leader()), within_s=15)
            world.run(2.0)
            scene.break_something()
            for _ in range(int(scene.rng.uniform(6, 12) / STEP_S)):
                world.run(STEP_S)
                scene.look()
                _compare(scene, score, cases, seed)
            healed_s = world.now_s
            scene.mend()
            scene.cluster.per_s = 20
            while world.now_s < healed_s + HEALTHY_WITHIN_S:
                world.run(STEP_S)
                words = {verdict.state for verdict in scene.states().values()}
                if words == {SplitState.HEALTHY} and len(scene.states()) == len(scene.names):
                    break
            score.healthy_after_s = world.now_s - healed_s
            for name, verdict in scene.states().items():
                if verdict.state is not SplitState.HEALTHY:
                    score.wrong.append(f"seed {seed} ({scene.kind}), {name}: still {verdict}")
            for group in scene.cluster.running().values():
                assert group.judging is not None
                score.changes = max(score.changes, len(group.judging.history(group)))
        except BaseException as error:
            error.add_note(f"seed {seed} ({scene.kind})")
            raise
    return score


def _compare(scene: Scene, score: Score, cases: dict[str, float], seed: int) -> None:
    now_s = scene.world.now_s
    for name, verdict in scene.states().items():
        where = f"seed {seed} ({scene.kind}), {name} at {now_s:.2f} s: {verdict}"
        if verdict.state is SplitState.SPLIT and scene.kind in CALM:
            score.wrong.append(f"a split without a cut: {where}")
        since_s = scene.split_since_s(name)
        if since_s is None:
            cases.pop(name, None)
            continue
        if name not in cases:
            cases[name] = since_s
            score.splits += 1
        if cases[name] < 0:
            continue
        if verdict.state is SplitState.SPLIT:
            score.late_s.append(max(0.0, now_s - cases[name]))
            cases[name] = -1.0
        elif now_s - cases[name] > RECOGNISED_WITHIN_S:
            score.wrong.append(f"not recognised after {now_s - cases[name]:.2f} s: {where}")
            cases[name] = -1.0


def main(first: int, count: int) -> None:
    """Judge seeds and print the figures."""
    scores, say = [], sys.stdout.write
    for seed in range(first, first + count):
        scores.append(judge(seed))
        for text in scores[-1].wrong:
            say(f"{text}\n")
        sys.stdout.flush()
    late = sorted(late_s for score in scores for late_s in score.late_s)
    wrong = sum(len(score.wrong) for score in scores)
    calm = sum(score.kind in CALM for score in scores)
    after = sorted(score.healthy_after_s for score in scores)
    say(f"seeds {first} to {first + count - 1}: {wrong} wrong, {calm} of them without a cut, ")
    say(f"{sum(score.splits for score in scores)} true splits, recognised after ")
    if late:
        say(f"{late[len(late) // 2]:.2f} s (median), {late[-1]:.2f} s (latest), ")
    say(f"bound {RECOGNISED_WITHIN_S:.2f} s; healthy again after {after[len(after) // 2]:.1f} s ")
    say(f"(median), {after[-1]:.1f} s (latest); at most ")
    say(f"{max(score.changes for score in scores)} changes a member\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
