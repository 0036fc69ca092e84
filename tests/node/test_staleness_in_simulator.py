"""A stale read's bound is never broken, whatever happens to links and clocks, and what it is worth.

The truth is kept outside: at which true time each index was acknowledged by the leader that took
it. A read that claims to be at most N ms old must come from a state that holds every index which
was acknowledged longer ago than that.
"""

from __future__ import annotations

import asyncio
import random
import sys
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mcpcore.errors import CoordinationError, StalenessNotPromised
from mcpcore.node.freshness import Freshness
from mcpcore.node.group import Applied, Consistency, ReadResult, Stale
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.commands import Get, encode_request
from mcpcore.raft.staleness import StalenessLedger
from mcpcore.sim import World
from mcpcore.sim.schedule import Fault, Schedule, random_schedule
from tests.node.simulated_cluster import NAMES, SETTINGS, SimulatedCluster, client_of

TIMEOUT_S = SETTINGS.election_timeout_ns / 1e9
QUESTION = encode_request(Get(b"k"))
FIVE = ("a", "b", "c", "d", "e")
KINDS = (
    "partition",
    "one_way",
    "isolate",
    "bridge",
    "flapping",
    "clog",
    "slow_link",
    "lossy",
    "crash",
    "pause",
    "clock_step",
    "clock_drift",
    "clock_slew",
)
"""Not among them is "suspend", which lets the monotonic clock of a host stand still. The seam
demands one that goes on (CLOCK_BOOTTIME), and leases and bounds rest on that."""
DROWSY = replace(SETTINGS, quiet_after_ns=2_000_000_000)


@dataclass
class Ledger:
    """What is true: the moments of acknowledgement, and the reads that were answered."""

    acked: list[tuple[int, int]]
    reads: int = 0
    refused: int = 0
    wrong: list[str] = None  # type: ignore[assignment]

    def acknowledged(self, index: int, at_ns: int) -> None:
        self.acked.append((at_ns, index))

    def check(self, who: str, read: ReadResult, at_ns: int) -> None:
        """Everything acknowledged before ``at_ns - bound`` must be in the state that was read."""
        assert read.bound is not None
        self.reads += 1
        before_ns = at_ns - read.bound.at_most_ms * 1_000_000
        known = bisect_right(self.acked, (before_ns - 1, sys.maxsize))
        missing = [index for _, index in self.acked[:known] if index > read.applied]
        if missing:
            self.wrong.append(
                f"{who} at {at_ns / 1e9:.3f} s promised {read.bound} of a state up to "
                f"{read.applied}, and misses {missing[0]}"
            )


class Town(SimulatedCluster):
    """Every leader writes, every node is read."""

    def __init__(self, world: World, names: tuple[str, ...], **how: Any) -> None:
        self.truth = Ledger([], wrong=[])
        super().__init__(world, names, **how)

    def _main(self, name: str) -> Any:
        serve = super()._main(name)

        async def main() -> None:
            tasks = [asyncio.ensure_future(work(name)) for work in (self._write, self._read)]
            try:
                await serve()
            finally:
                for task in tasks:
                    task.cancel()

        return main

    async def _write(self, name: str) -> None:
        def done(future: asyncio.Future[Applied]) -> None:
            if not future.cancelled() and future.exception() is None:
                self.truth.acknowledged(future.result().index, self.world.now_ns)

        while True:
            await asyncio.sleep(0.05)
            group = self.running().get(name)
            if group is not None and group.raft.is_leader:
                try:
                    group.propose(b"\x00").add_done_callback(done)
                except CoordinationError:
                    await asyncio.sleep(0.1)

    async def _read(self, name: str) -> None:
        while True:
            await asyncio.sleep(0.1)
            group = self.running().get(name)
            if group is None:
                continue
            try:
                read = group.read(QUESTION, Stale()).result()
            except CoordinationError:
                continue
            if read.bound is None:
                self.truth.refused += 1
            else:
                self.truth.check(name, read, self.world.now_ns)


def live_through(seed: int, schedule: Schedule | None = None) -> Ledger:
    """One world: writes, reads on every node, faults of links and clocks."""
    draw = random.Random(seed)
    names = FIVE if seed % 3 == 2 else NAMES
    offsets = {name: draw.randrange(-50_000_000, 50_000_000) for name in names}
    with World(seed=seed) as world:
        town = Town(world, names, drift_ppm=200.0, offsets_ns=offsets)
        world.run(3.0)
        if schedule is None:
            schedule = random_schedule(seed, names, duration_s=8.0, count=6, kinds=KINDS)
        later = (replace(fault, at_s=fault.at_s + 3.0) for fault in schedule.faults)
        world.apply(Schedule(tuple(later)))
        world.run(9.0)
    return town.truth


@pytest.mark.parametrize("first", range(0, 6, 2))
def test_no_bound_is_ever_broken_whatever_happens_to_links_and_clocks(first: int) -> None:
    for seed in range(first, first + 2):
        truth = live_through(seed)
        assert truth.wrong == [], f"again: python -m tests.node.test_staleness_in_simulator {seed}"
        assert truth.reads > 50, "a world in which nobody reads proves nothing"


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1500, 25))
def test_no_bound_is_broken_in_five_hundred_worlds(first: int) -> None:
    for seed in range(first, first + 25):
        assert live_through(seed).wrong == []


def test_counting_from_the_arrival_of_a_word_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that was held up on its way would bound what it knows nothing of."""
    heard = Freshness.heard

    def from_arrival(self: Freshness, peer: str, note: Any) -> None:
        now = self._clock.interval()
        if now is not None:
            note = note._replace(confirmed_ns=(now.earliest_ns,) * len(note.groups))
        heard(self, peer, note)

    monkeypatch.setattr(Freshness, "heard", from_arrival)
    assert live_through(1).wrong


def test_promising_before_the_entries_are_applied_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = StalenessLedger.told
    monkeypatch.setattr(
        StalenessLedger,
        "told",
        lambda self, commit, confirmed_ns, settled: told(self, 0, confirmed_ns, settled=settled),
    )
    assert live_through(3).wrong


def paused(name: str) -> Ledger:
    """A world in which one node is stopped for three seconds."""
    return live_through(3, Schedule((Fault(1.0, "pause", (name,), for_s=3.0),)))


def test_a_leader_that_was_paused_promises_nothing_for_the_time_it_slept() -> None:
    assert [paused(name).wrong for name in NAMES] == [[], [], []]


def settled() -> tuple[World, SimulatedCluster, str, list[str]]:
    world = World(seed=5)
    world.__enter__()
    cluster = SimulatedCluster(world, settings=DROWSY)
    world.run_until(lambda: bool(cluster.leader()), within_s=10)
    world.run(1.5)
    leader = cluster.leader()
    return world, cluster, leader, [name for name in NAMES if name != leader]


@pytest.fixture
def scene():
    world, *rest = settled()
    yield world, *rest
    world.__exit__(None, None, None)


def read(world: World, cluster: SimulatedCluster, name: str, age_s: float | None) -> ReadResult:
    async def ask() -> ReadResult:
        return await cluster.nodes[name].group("main").read(QUESTION, Stale(age_s))

    return world.call(name, ask(), within_s=1)


def test_a_follower_in_contact_bounds_the_age_by_about_a_beat(scene) -> None:
    world, cluster, _, others = scene
    bound = read(world, cluster, others[0], 1.0).bound
    assert bound is not None
    assert bound.at_most_ms < 600, "two beats of 200 ms, the link, and what clocks may be off"
    assert bound.at_most_entries == 0


def test_on_the_leader_the_age_is_that_of_its_confirmation(scene) -> None:
    world, cluster, leader, _ = scene
    bound = read(world, cluster, leader, 1.0).bound
    assert bound is not None
    assert bound.at_most_ms < 400


def test_a_leader_that_is_cut_off_counts_from_its_last_confirmation(scene) -> None:
    """It still leads, for it does not know better yet; its word is as old as the last answers."""
    world, cluster, leader, _ = scene
    world.inject("isolate", leader)
    world.run(0.8 * TIMEOUT_S)
    assert cluster.nodes[leader].group("main").raft.is_leader
    bound = read(world, cluster, leader, None).bound
    assert bound is not None
    assert bound.at_most_ms >= 800


def test_a_side_that_is_cut_off_states_an_age_that_grows_and_refuses_what_it_cannot_promise(
    scene,
) -> None:
    world, cluster, _, others = scene
    world.inject("isolate", others[0])
    world.run(2)
    first = read(world, cluster, others[0], 5.0).bound
    world.run(2)
    second = read(world, cluster, others[0], None).bound
    assert first is not None
    assert second is not None
    assert first.known_at_ns == second.known_at_ns
    assert 1_950 <= second.at_most_ms - first.at_most_ms <= 2_100
    with pytest.raises(StalenessNotPromised) as refused:
        read(world, cluster, others[0], 1.0)
    assert refused.value.asked_ms == 1000
    assert refused.value.at_most_ms is not None
    assert refused.value.at_most_ms >= 4000
    assert not refused.value.passing


def test_without_a_synchronised_clock_no_age_is_promised(scene) -> None:
    world, cluster, _, others = scene
    world.inject("clock_drift", others[0], value=400_000.0)
    world.run(8)
    with pytest.raises(StalenessNotPromised, match="clock cannot be relied upon"):
        read(world, cluster, others[0], 60.0)
    assert read(world, cluster, others[0], None).bound is None


def test_a_sleeping_group_is_woken_by_a_reader_who_wants_it_fresher(scene) -> None:
    world, cluster, _, others = scene
    world.run(8)
    group = cluster.nodes[others[0]].group("main")
    assert group.raft.quiet
    with pytest.raises(StalenessNotPromised) as refused:
        read(world, cluster, others[0], 2.0)
    assert refused.value.passing
    world.run(1.0)
    assert read(world, cluster, others[0], 2.0).bound is not None


def test_a_client_gets_the_bound_with_the_answer_and_waits_for_one_that_is_coming(scene) -> None:
    world, cluster, _, others = scene
    found: list[Any] = []

    async def main() -> None:
        async with client_of(cluster, "reader", only=others[0]) as client:
            await asyncio.sleep(8)
            found.append(await client.query(QUESTION, consistency=Stale(2.0)))
            found.append(await client.query(QUESTION, consistency=Consistency.STALE))
            found.append(await KeyValueClient(client).get_stale("k", max_age_s=3))
            with pytest.raises(StalenessNotPromised):
                await client.query(QUESTION, consistency=Stale(0.0001))
            found.append(None)

    world.host("reader", main)
    world.run_until(lambda: len(found) == 4, within_s=30)
    bounded, plain, record, _ = found
    assert bounded.bound.at_most_ms <= 2000
    assert plain.bound is None
    assert record.record is None
    assert record.bound.at_most_ms <= 3000


if __name__ == "__main__":
    for text in live_through(int(sys.argv[1])).wrong:
        sys.stdout.write(text + "\n")
