"""The theorem in whole worlds: three clouds, cuts, edits on all sides, crashes; the real node.

One seed again: ``python -m tests.node.test_policy_worlds SEED``.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from mcpcore.crdt import Causal, CausalContext
from mcpcore.errors import CoordinationError
from mcpcore.policy import Add, Author, Effect, Enrol, Mode, PolicyStore
from mcpcore.policy.rules import Rules
from mcpcore.sim import World
from mcpcore.sim.schedule import Schedule, random_schedule
from tests.node.policy_world import PolicyCluster
from tests.node.simulated_cluster import NAMES
from tests.policy.world import QUESTIONS, access, allowed

POOL = [
    *(access(Effect.PERMIT, "a", who, "*", "a/*") for who in ("a/ann", "a/art", "a/ops")),
    *(access(Effect.PERMIT, "a", who, "read", "a/x") for who in ("a/ann", "a/ops")),
    access(Effect.FORBID, "a", "a/ann", "write", "a/x"),
    access(Effect.FORBID, "a", "a/ops", "*", "a/y"),
]
EDGES = [("a/ann", "a/ops"), ("a/ops", "a/all"), ("a/all", "a/ops")]
HAPPENINGS = (
    "partition", "isolate", "one_way", "flapping", "slow_link", "reset", "crash", "kill", "pause",
    "disk_stall", "clock_step", "clock_drift",
)  # fmt: skip


class Broken(AssertionError):
    """The promise was broken."""


class Watch:
    """Compares, now and then, what replicas allow and what their merge would."""

    def __init__(self, cluster: PolicyCluster) -> None:
        self.cluster = cluster
        self.before: dict[str, tuple[PolicyStore, int, set[int]]] = {}
        self.compared = 0

    def stores(self) -> dict[str, PolicyStore]:
        running = self.cluster.running()
        return {name: self.cluster.policy(name).store for name in NAMES if name in running}

    def look(self) -> None:
        stores = self.stores()
        sets = {name: allowed(store) for name, store in stores.items()}
        for name, store in stores.items():
            known = self.before.get(name)
            if known and known[0] is store and known[1] == store.prefix.epoch:
                grown = sets[name] - known[2]
                if grown:
                    raise Broken(f"{name} allows more without the log: {_words(grown)}")
            self.before[name] = store, store.prefix.epoch, sets[name]
        for a, b in combinations(stores, 2):
            merged = stores[a].copy("reader/1")
            theirs = stores[b].state
            merged.join(Causal(dict(theirs.entries), CausalContext(theirs.entries)))
            merged.follow(stores[b].prefix)
            grown = allowed(merged) - sets[a] - sets[b]
            if grown:
                raise Broken(f"{a} and {b} together allow what neither does: {_words(grown)}")
            self.compared += sets[a] != sets[b]


def _words(numbers: set[int]) -> str:
    return "; ".join(str(QUESTIONS[i]) for i in sorted(numbers)[:3])


def live_through(seed: int, mode: Mode = Mode.GUARDED) -> tuple[World, Watch]:
    dice = Random(seed)
    with World(seed=seed) as world:
        cluster = PolicyCluster(world, mode=mode, tenants=("a", "b"))
        watch = Watch(cluster)
        halt = False

        async def edit(name: str) -> None:
            while not halt:
                await asyncio.sleep(dice.uniform(0.2, 0.8))
                try:
                    policy = cluster.policy(name)
                    known = [e for e in policy.store.view.sound if isinstance(e.body, Add | Enrol)]
                    author = Author("a")
                    if known and dice.random() < 0.45:
                        body = dice.choice(known).body
                        if isinstance(body, Add):
                            policy.drop(author, body.statement)
                        elif isinstance(body, Enrol):
                            policy.expel(author, body.member, body.role)
                    elif dice.random() < 0.25:
                        policy.enrol(author, *dice.choice(EDGES))
                    else:
                        policy.add(author, dice.choice(POOL))
                except (CoordinationError, KeyError, AssertionError):
                    continue  # this node is just starting, or stopping

        def spawn() -> None:
            for name in NAMES:
                if cluster.hosts[name].is_alive:
                    cluster.hosts[name].spawn(edit(name))

        try:
            spawn()
            schedule = random_schedule(seed, NAMES, duration_s=8, count=4, kinds=HAPPENINGS)
            began_s = world.now_s
            world.apply(Schedule(tuple(replace(f, at_s=f.at_s + began_s) for f in schedule.faults)))
            for second in range(9):
                if second == 1:
                    cut = world.inject("isolate", NAMES[seed % 3])
                world.run(1)
                watch.look()
                if second == 5:
                    cut.end()
                    spawn()
            halt = True
            world.heal()
            for host in cluster.hosts.values():
                if not host.is_alive:
                    host.restart()
            for _ in range(3):
                world.run(0.7)
                watch.look()
            world.run_until(cluster.settled, within_s=60)
            sets = [allowed(store) for store in watch.stores().values()]
            assert sets[0] == sets[1] == sets[2]
        except BaseException as error:
            error.add_note(f"again: python -m tests.node.test_policy_worlds {seed}")
            raise
    return world, watch


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_crash_or_merge_allows_what_no_author_allowed(seed: int) -> None:
    _, watch = live_through(seed)
    assert watch.compared, "replicas that never differ show nothing"


def test_in_optimistic_mode_the_counterexample_is_found() -> None:
    for seed in range(12):
        try:
            live_through(seed, Mode.OPTIMISTIC)
        except Broken:
            return
    raise AssertionError("no world showed it")


def test_gifts_that_count_before_they_are_ordered_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The planted bug: one line of the rules that believes whoever gives."""
    monkeypatch.setattr(Rules, "is_ordered", lambda self, edit: edit.body.loosens)
    for seed in range(8):
        try:
            live_through(seed)
        except Broken:
            return
    raise AssertionError("no world showed it")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(1000, 1200, 20))
def test_the_promise_holds_in_hundreds_of_worlds(first: int) -> None:
    for seed in range(first, first + 20):
        live_through(seed)


if __name__ == "__main__":
    live_through(int(sys.argv[1]))
