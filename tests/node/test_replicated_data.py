"""CRDTs in the running node: over its own connections, on its own disk, without a quorum.

One seed again: ``python -m tests.node.test_replicated_data SEED``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.crdt import AWSet, Budget, Causal, GSet, Limits, Map, PNCounter, encode
from mcpcore.crdt.resettable import Counter
from mcpcore.errors import (
    CoordinationError,
    DataNotWritable,
    InvalidInput,
    StorageFailed,
    UnknownData,
)
from mcpcore.node import replicated_file
from mcpcore.node.data_config import DataConfig
from mcpcore.node.replicated_data import ReplicatedData
from mcpcore.node.replicated_file import _record, read_file
from mcpcore.node.transport.handshake import Versions
from mcpcore.sim import World
from mcpcore.sim.schedule import Schedule, random_schedule
from tests.node.simulated_cluster import NAMES, SimulatedCluster
from tests.node.test_node_in_simulator import SURVIVABLE

BASKET = {"basket": DataConfig(limits=Limits(digest_every_ns=1_000_000_000))}
FIVE = ("a", "b", "c", "d", "e")


def data(cluster: SimulatedCluster, name: str, document: str = "basket") -> ReplicatedData:
    return cluster.nodes[name].replicated(document)


def put(cluster: SimulatedCluster, name: str, element: object) -> None:
    """Add an element on a node, and wait until it is durable there."""

    async def change() -> None:
        here = data(cluster, name)
        await here.change(lambda me: here.view(AWSet).add(me, element))  # type: ignore[arg-type]

    cluster.world.call(name, change())


def elements(cluster: SimulatedCluster, name: str) -> frozenset[Any]:
    return data(cluster, name).view(AWSet).elements()


def alike(cluster: SimulatedCluster) -> bool:
    states = [data(cluster, name).state for name in cluster.names]
    return all(state == states[0] for state in states)


def cluster_of(world: World, names: tuple[str, ...] = NAMES, **more: Any) -> SimulatedCluster:
    more.setdefault("replicated", BASKET)
    cluster = SimulatedCluster(world, names, **more)
    world.run(3)
    return cluster


def test_a_change_reaches_every_node_at_once_and_not_at_the_next_tick() -> None:
    slow = {"basket": DataConfig(limits=Limits(digest_every_ns=3_600_000_000_000))}
    with World(seed=1) as world:
        cluster = cluster_of(world, replicated=slow)
        began_s = world.now_s
        put(cluster, "edge", "x")
        world.run_until(lambda: all("x" in elements(cluster, n) for n in NAMES), within_s=5)
        assert world.now_s - began_s < 0.1


def test_a_side_without_quorum_goes_on_changing_and_merging() -> None:
    with World(seed=2) as world:
        cluster = cluster_of(world, FIVE)
        cut = world.inject("partition", "a", "b")
        world.run(8)  # longer than any election
        assert cluster.leader() not in ("a", "b")
        put(cluster, "a", "from the small side")
        put(cluster, "d", "from the large side")
        world.run(2)
        assert elements(cluster, "b") == {"from the small side"}
        assert elements(cluster, "e") == {"from the large side"}

        cut.end()

        world.run_until(lambda: alike(cluster), within_s=10)
        assert len(elements(cluster, "c")) == 2


def test_a_node_alone_keeps_what_it_acknowledged_through_a_crash_of_all() -> None:
    with World(seed=3) as world:
        cluster = cluster_of(world)
        world.inject("isolate", "edge")
        put(cluster, "edge", "only here")
        for host in cluster.hosts.values():
            host.crash()
        world.run(1)
        for host in cluster.hosts.values():
            host.restart()
        world.run(3)
        assert elements(cluster, "edge") == {"only here"}
        world.heal()
        world.run_until(lambda: alike(cluster), within_s=10)
        assert elements(cluster, "hangzhou") == {"only here"}


def test_a_crash_takes_a_new_replica_id_and_a_clean_stop_keeps_the_old_one() -> None:
    with World(seed=4) as world:
        cluster = cluster_of(world)
        put(cluster, "edge", 1)
        first = data(cluster, "edge").replica
        world.call("edge", cluster.nodes["edge"].stop())
        world.run(3)
        assert data(cluster, "edge").replica == first
        cluster.hosts["edge"].crash()
        world.run(1)
        cluster.hosts["edge"].restart()
        world.run(3)
        second = data(cluster, "edge").replica
        assert second != first
        assert second.startswith("edge/")
        cluster.hosts["edge"].wipe()
        world.run(3)


def test_a_wiped_node_counts_nothing_twice_and_gets_everything_back() -> None:
    """The hunt's line: counters that double after a restart with a reused replica id."""
    with World(seed=5) as world:
        cluster = cluster_of(world)

        def count(name: str) -> None:
            async def change() -> None:
                here = data(cluster, name)
                await here.change(lambda me: Counter(here.state).increment(me, 10))  # type: ignore[arg-type]

            world.call(name, change())

        for name in NAMES:
            count(name)
        world.run_until(lambda: alike(cluster), within_s=5)
        cluster.hosts["edge"].crash()
        cluster.hosts["edge"].wipe()
        cluster.hosts["edge"].restart()
        world.run(2)
        count("edge")
        world.run_until(lambda: alike(cluster), within_s=10)
        assert [data(cluster, name).view(Counter).value() for name in NAMES] == [40, 40, 40]


def test_a_peer_that_speaks_version_1_is_told_nothing_and_the_others_converge() -> None:
    with World(seed=6) as world:
        cluster = SimulatedCluster(world, replicated=BASKET)
        # every node of one cluster runs the same code here, so the old one is played by all
        cluster.more["versions"] = Versions(1, 1)
        for host in cluster.hosts.values():
            host.crash()
            host.restart()
        world.run(4)
        put(cluster, "edge", "x")
        world.run(5)
        assert elements(cluster, "hangzhou") == frozenset()
        assert cluster.leader(), "and the groups go on"
        cluster.more["versions"] = Versions(1, 2)
        for host in cluster.hosts.values():
            host.crash()
            host.restart()
        world.run(4)
        world.run_until(lambda: elements(cluster, "hangzhou") == {"x"}, within_s=20)


def live_through(seed: int) -> World:
    """One world: every node changes its data while faults happen; then all are equal, and hold
    everything that was acknowledged and nothing that was not said.
    """
    with World(seed=seed) as world:
        cluster = SimulatedCluster(world, replicated=BASKET, drift_ppm=200.0)
        acknowledged: set[str] = set()
        said: set[str] = set()
        halt = False

        async def edit(name: str) -> None:
            number = 0
            while not halt:
                number += 1
                element = f"{name}-{cluster.starts.get(name)}-{number}"
                await asyncio.sleep(0.1)
                try:
                    node = cluster.nodes[name]
                    here = node.replicated("basket")
                    said.add(element)
                    async with asyncio.timeout(5):
                        await here.change(lambda me: here.view(AWSet).add(me, element))  # noqa: B023
                    acknowledged.add(element)
                except (CoordinationError, TimeoutError, KeyError, AssertionError):
                    continue

        def spawn(name: str) -> None:
            if cluster.hosts[name].is_alive:
                cluster.hosts[name].spawn(edit(name))

        try:
            world.run(3)
            for name in NAMES:
                spawn(name)
            schedule = random_schedule(seed, NAMES, duration_s=12, count=8, kinds=SURVIVABLE)
            world.apply(Schedule(tuple(replace(f, at_s=f.at_s + 3) for f in schedule.faults)))
            world.run(6)
            for name in NAMES:
                spawn(name)  # those that crashed edit again
            world.run(6)
            halt = True
            world.heal()
            for host in cluster.hosts.values():
                if not host.is_alive:
                    host.restart()
            world.run(5)
            world.run_until(lambda: alike(cluster), within_s=40)
            found = elements(cluster, "edge")
            assert acknowledged, "a world in which nobody was served proves nothing"
            assert acknowledged <= found, sorted(acknowledged - found)
            assert found <= said
            for name in NAMES:
                data(cluster, name).state.check()
                assert data(cluster, name).status()["problem"] == ""
        except BaseException as error:
            error.add_note(f"again: python -m tests.node.test_replicated_data {seed}")
            raise
    return world


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_and_all_become_equal_whatever_happens(seed: int) -> None:
    live_through(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1400, 20))
def test_nothing_acknowledged_is_lost_in_hundreds_of_worlds(first: int) -> None:
    for seed in range(first, first + 20):
        live_through(seed)


def spent() -> tuple[int, int, int, int]:
    """The most that any window carried, what it may carry, all that was sent, and what full states
    at each change would have taken.

    What leaves for a peer is counted, all data together, frames included. A node that was away
    comes back while two kinds of data change: repairs and deltas at once.
    """
    budget = Budget(bytes_per_s=60_000, window_ns=1_000_000_000)
    both = {"basket": BASKET["basket"], "seen": DataConfig(grows_only=True)}
    sent: list[tuple[str, str, int, int]] = []
    states = 0
    with World(seed=8) as world:
        cluster = cluster_of(world, replicated=both, data_budget=budget)

        def listen(name: str) -> None:
            """Count what this node sends for its data, as the transport is given it."""
            node = cluster.nodes[name]
            transport, tell = node.parts.transport, node.parts.data._tell

            def told(peer: str, notes: Any) -> None:
                send, size = transport.send, 0

                def counting(to: str, payload: bytes, **how: Any) -> bool:
                    nonlocal size
                    size += len(payload) + 4
                    return bool(send(to, payload, **how))

                transport.send = counting
                try:
                    tell(peer, notes)
                finally:
                    transport.send = send
                sent.append((name, peer, world.now_ns, size))

            node.parts.data._tell = told

        for name in NAMES:
            listen(name)
        world.inject("isolate", "edge")
        draw = random.Random(8)

        async def edit(name: str) -> None:
            nonlocal states
            basket, seen = data(cluster, name), data(cluster, name, "seen")
            for number in range(150):
                filling = draw.randbytes(200)
                await basket.change(lambda me: basket.view(AWSet).add(me, (name, filling)))  # noqa: B023
                await seen.change(lambda me: seen.view(GSet).add((name, number)))  # noqa: B023
                states += 2 * (len(encode(basket.state)) + len(encode(seen.state)))
                await asyncio.sleep(0.03)

        tasks = [cluster.hosts[name].spawn(edit(name)) for name in NAMES]
        world.run(6)
        world.heal()
        world.run_until(lambda: all(t.done() for t in tasks) and alike(cluster), within_s=60)
        world.run(3)
    peaks = []
    for pair in {(source, peer) for source, peer, _, _ in sent}:
        own = [(at, size) for source, peer, at, size in sent if (source, peer) == pair]
        for at, _ in own:
            peaks.append(sum(size for t, size in own if at <= t < at + budget.window_ns))
    return max(peaks), budget.window_bytes, sum(size for *_, size in sent), states


def test_every_window_stays_under_the_budget_and_costs_a_fraction_of_full_states() -> None:
    """K8, in the running node."""
    peak, budget, sent, states = spent()
    assert peak <= budget
    assert peak > budget // 3, "the budget was in the way, or this shows nothing"
    assert sent < states / 10


# --- one node on a disk in memory ---------------------------------------------------------------


def test_what_a_node_does_not_hold_is_an_error_that_says_what_it_holds() -> None:
    with World(seed=9) as world:
        cluster = cluster_of(world)
        with pytest.raises(UnknownData, match="it has: basket"):
            cluster.nodes["edge"].replicated("bucket")
        with pytest.raises(InvalidInput, match="grows_only"):
            data(cluster, "edge").view(PNCounter)
        assert data(cluster, "edge").view(Map).keys() == []


def test_a_failing_disk_refuses_changes_and_takes_them_again_when_it_works() -> None:
    with World(seed=10) as world:
        cluster = cluster_of(world)
        put(cluster, "edge", "before")
        fault = world.inject("disk_error", "edge")

        async def failing() -> None:
            here = data(cluster, "edge")
            with pytest.raises(StorageFailed):
                await here.change(lambda me: here.view(AWSet).add(me, "during"))
            with pytest.raises(DataNotWritable, match="disk fails"):
                here.change(lambda me: here.view(AWSet).add(me, "refused"))

        try:
            world.call("edge", failing())
        finally:
            fault.end()
        world.run(4)
        put(cluster, "edge", "after")
        assert elements(cluster, "edge") == {"before", "during", "after"}


def test_what_waits_for_a_stalled_disk_is_bounded_and_everything_is_durable_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicated_file, "PENDING_BYTES_MAX", 2_000)
    with World(seed=11) as world:
        cluster = cluster_of(world)
        stall = world.inject("disk_stall", "edge")
        taken: list[asyncio.Future[None]] = []

        async def pile_up() -> None:
            here = data(cluster, "edge")
            for number in range(1_000):
                taken.append(here.change(lambda me: here.view(AWSet).add(me, number)))  # noqa: B023
                await asyncio.sleep(0.001)

        with pytest.raises(DataNotWritable, match="too much waits"):
            world.call("edge", pile_up())
        assert 10 < len(taken) < 200
        assert not any(done.done() for done in taken[1:])
        stall.end()
        world.run_until(lambda: all(done.done() for done in taken), within_s=20)
        cluster.hosts["edge"].crash()
        cluster.hosts["edge"].restart()
        world.inject("isolate", "edge")
        world.run(3)
        assert len(elements(cluster, "edge")) == len(taken)


def test_a_node_whose_peers_know_more_of_it_than_itself_takes_another_id() -> None:
    """As after a disk that lied, or a restored copy of an old one: events it does not remember."""
    with World(seed=12) as world:
        cluster = cluster_of(world)
        put(cluster, "edge", "known")
        world.run_until(lambda: alike(cluster), within_s=5)
        first = data(cluster, "edge").replica

        async def ghost() -> None:
            here = data(cluster, "hangzhou")
            await here.change(lambda me: here.view(AWSet).add(first, "forgotten"))

        world.call("hangzhou", ghost())
        world.run_until(lambda: "forgotten" in elements(cluster, "edge"), within_s=10)
        assert data(cluster, "edge").replica != first
        put(cluster, "edge", "new")
        world.run_until(lambda: alike(cluster), within_s=10)
        assert elements(cluster, "us-east-1") == {"known", "forgotten", "new"}


def written(changes: int) -> tuple[bytes, list[Causal]]:
    """The bytes of a file with so many changes, and the state after each of them. One without any
    was written at a clean stop.
    """
    basket = AWSet()
    states = [basket.state.copy()]
    parts = [b"MCPDATA1", _record(msgpack.packb(["edge/1", not changes, encode(basket.state)]))]
    for number in range(changes):
        parts.append(_record(encode(basket.add("edge/1", number))))
        states.append(basket.state.copy())
    return b"".join(parts), states


@given(st.integers(0, 6), st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_cut_anywhere_holds_a_beginning_of_what_was_written(changes, data):
    whole, states = written(changes)
    cut = data.draw(st.integers(0, len(whole)))
    found, why = read_file(whole[:cut])
    assert found.state is None or found.state in states
    if cut == len(whole):
        assert (found.state, why) == (states[-1], "")
        assert found.clean is (changes == 0), "with changes behind it, a life did not end clean"
    else:
        assert not found.clean


@given(st.integers(0, 6), st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_with_a_flipped_bit_is_read_up_to_there_and_never_believed(changes, data):
    whole, states = written(changes)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    rotten = bytearray(whole)
    rotten[bit // 8] ^= 1 << bit % 8
    found, why = read_file(bytes(rotten))
    assert why
    assert not found.clean
    assert found.state is None or found.state in states


if __name__ == "__main__":
    live_through(int(sys.argv[1]))
