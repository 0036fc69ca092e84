"""The real node knows when its group is split: in words, in time, and back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mcpcore.errors import GroupReadOnly, NotLeader
from mcpcore.node.group import Consistency, Group
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.raft.split import SplitState, Verdict
from mcpcore.raft.views import compare_views
from mcpcore.sim import World
from tests.node.simulated_cluster import NAMES, SETTINGS, SimulatedCluster, client_of

TIMEOUT_S = SETTINGS.election_timeout_ns / 1e9
HEALTHY, SUSPECT, REJOINING, READ_ONLY, SPLIT, INTERVENTION = (
    SplitState.HEALTHY,
    SplitState.SUSPECT,
    SplitState.REJOINING,
    SplitState.READ_ONLY,
    SplitState.SPLIT,
    SplitState.INTERVENTION,
)


def settled(seed: int = 1) -> tuple[World, SimulatedCluster, str, list[str]]:
    """A world whose group is healthy: the world, the cluster, the leader, the others."""
    world = World(seed=seed)
    world.__enter__()
    cluster = SimulatedCluster(world)
    world.run_until(lambda: bool(cluster.leader()), within_s=10)
    world.run_until(lambda: set(states(cluster).values()) == {HEALTHY}, within_s=10)
    leader = cluster.leader()
    return world, cluster, leader, [name for name in NAMES if name != leader]


@pytest.fixture
def scene():
    """A settled cluster; the world ends with the test."""
    world, *rest = settled()
    yield world, *rest
    world.__exit__(None, None, None)


def verdicts(cluster: SimulatedCluster) -> dict[str, Verdict]:
    """The verdict of each node that runs and is a member."""
    found = {name: group.verdict for name, group in cluster.running().items()}
    return {name: verdict for name, verdict in found.items() if verdict is not None}


def states(cluster: SimulatedCluster) -> dict[str, SplitState]:
    """The word of each verdict."""
    return {name: verdict.state for name, verdict in verdicts(cluster).items()}


def told(cluster: SimulatedCluster, name: str) -> list[SplitState]:
    """The states that one node has gone through."""
    group = cluster.nodes[name].group("main")
    assert group.judging is not None
    return [verdict.state for verdict in group.judging.history(group)]


def writing(cluster: SimulatedCluster, every_s: float = 0.005) -> Callable[[], None]:
    """A client that writes without end; the answer ends it."""
    ended = False

    async def main() -> None:
        async with client_of(cluster, "writer") as client:
            store, tasks = KeyValueClient(client), set()
            number = 0
            while not ended:
                number += 1
                task = asyncio.ensure_future(store.put(f"key-{number % 50}", "x"))
                tasks.add(task)
                task.add_done_callback(lambda done: (tasks.discard(done), done.exception()))
                await asyncio.sleep(every_s)
            await asyncio.gather(*tasks, return_exceptions=True)

    cluster.world.host("writer", main)

    def end() -> None:
        nonlocal ended
        ended = True

    return end


def test_a_healthy_group_says_so_with_a_sentence_and_its_evidence(scene) -> None:
    _, cluster, leader, others = scene
    told = verdicts(cluster)[others[0]]
    assert told.sentence.startswith(f"{leader} leads term")
    assert told.hears == set(NAMES) - {others[0]}
    status = cluster.nodes[others[0]].group("main").status().verdict
    assert (status["state"], status["might_lead"]) == ("healthy", leader)
    assert "evidence" not in status


def test_a_member_that_is_cut_off_turns_read_only_after_two_timeouts_and_comes_back(scene) -> None:
    world, cluster, leader, others = scene
    cut = world.inject("isolate", others[0])
    world.run(1.9 * TIMEOUT_S)
    assert states(cluster)[others[0]] is SUSPECT
    world.run(0.5 * TIMEOUT_S)
    assert states(cluster) == {leader: HEALTHY, others[0]: READ_ONLY, others[1]: HEALTHY}
    cut.end()
    world.run_until(lambda: set(states(cluster).values()) == {HEALTHY}, within_s=30)
    assert told(cluster, others[0])[-4:] == [HEALTHY, SUSPECT, READ_ONLY, HEALTHY]


def test_a_leader_that_is_cut_off_with_writes_it_cannot_commit_says_split(scene) -> None:
    """K3: older than three timeouts, and more than a hundred entries that it cannot commit."""
    world, cluster, leader, others = scene
    proposals: list[asyncio.Future] = []

    async def write() -> None:
        group = cluster.nodes[leader].group("main")
        for _ in range(150):
            proposals.append(group.propose(b"\x00"))

    world.inject("isolate", leader)
    world.call(leader, write(), within_s=1)
    world.run(2.5 * TIMEOUT_S)
    assert states(cluster)[leader] is READ_ONLY
    world.run(1.0 * TIMEOUT_S)
    verdict = verdicts(cluster)[leader]
    assert verdict.state is SPLIT
    assert "by 150 entries" in verdict.sentence
    assert verdict.evidence.contact_age_ns > 3 * SETTINGS.election_timeout_ns
    new = cluster.leader()
    assert new in others
    assert states(cluster)[new] is HEALTHY


def test_a_member_that_hears_others_but_not_the_leader_learns_from_them_that_it_trails(
    scene,
) -> None:
    """A bridge: it is not isolated, so it knows how far the others have come, and says split."""
    world, cluster, leader, others = scene
    writing(cluster)
    world.inject("partition", leader, to=(others[0],))
    world.run(4 * TIMEOUT_S)
    verdict = verdicts(cluster)[others[0]]
    assert verdict.state is SPLIT
    assert verdict.might_lead == leader
    assert verdict.evidence.trails_by > 100
    text = compare_views(verdicts(cluster).values())
    assert f"{others[0]} says split" in text
    assert f"hear each other only by {others[1]}" in text


def test_a_one_way_cut_is_named_by_its_direction(scene) -> None:
    world, cluster, leader, others = scene
    world.inject("one_way", leader, to=(others[0],))
    world.run(2.5 * TIMEOUT_S)
    text = compare_views(verdicts(cluster).values())
    assert f"one-way: {leader} hears {others[0]}, but {others[0]} does not hear {leader}" in text


def test_a_side_without_a_quorum_refuses_writes_at_once_and_serves_stale_reads(scene) -> None:
    world, cluster, _, others = scene
    away = others[0]
    world.inject("isolate", away)
    world.run(3 * TIMEOUT_S)

    async def write() -> None:
        cluster.nodes[away].group("main").propose(b"\x00")

    async def read(consistency: Consistency) -> bytes:
        question = b"\x00"
        return (await cluster.nodes[away].group("main").read(question, consistency)).answer

    with pytest.raises(GroupReadOnly, match="no leader was heard for") as refused:
        world.call(away, write(), within_s=0.001)
    assert refused.value.since_ms >= 500
    with pytest.raises(GroupReadOnly):
        world.call(away, read(Consistency.LINEARIZABLE), within_s=0.001)
    world.call(away, read(Consistency.STALE), within_s=0.001)


def test_a_client_that_reaches_only_a_side_without_a_quorum_is_told_so_at_once(scene) -> None:
    world, cluster, leader, _ = scene
    took_s: list[float] = []

    async def main() -> None:
        async with client_of(cluster, "cut-off", only=leader) as client:
            store = KeyValueClient(client)
            await store.put("k", "before")
            await asyncio.sleep(4 * TIMEOUT_S)
            begun_s = world.now_s
            with pytest.raises(GroupReadOnly):
                await store.put("k", "after")
            took_s.append(world.now_s - begun_s)

    world.host("cut-off", main)
    world.run(1)
    world.inject("partition", leader, to=tuple(name for name in NAMES if name != leader))
    world.run(8 * TIMEOUT_S)
    assert took_s
    assert took_s[0] < 0.1


def test_a_client_that_reaches_both_sides_is_served_by_the_one_with_a_quorum(scene) -> None:
    world, cluster, leader, _ = scene
    done: list[int] = []

    async def main() -> None:
        async with client_of(cluster, "roaming") as client:
            await asyncio.sleep(4 * TIMEOUT_S)
            for number in range(5):
                done.append(await KeyValueClient(client).put(f"k{number}", "v"))

    world.host("roaming", main)
    world.inject("partition", leader, to=tuple(name for name in NAMES if name != leader))
    world.run_until(lambda: len(done) == 5, within_s=10 * TIMEOUT_S)


def test_a_member_back_in_contact_names_the_leader_although_its_verdict_still_waits(scene) -> None:
    """Hysteresis governs what is told to people; service does not wait for it."""
    world, cluster, _, others = scene
    away = others[0]
    cut = world.inject("isolate", away)
    world.run(4 * TIMEOUT_S)
    cut.end()
    world.run_until(lambda: cluster.nodes[away].group("main").raft.leader != "", within_s=10)

    async def write() -> None:
        cluster.nodes[away].group("main").propose(b"\x00")

    assert states(cluster)[away].refuses_writes
    with pytest.raises(NotLeader) as refused:
        world.call(away, write(), within_s=0.001)
    assert refused.value.leader == cluster.leader()


def test_a_member_that_was_itself_paused_accuses_nobody(scene) -> None:
    """What we did not run for is no silence of others; a pause is not a cut."""
    world, cluster, _, others = scene
    pause = world.inject("pause", others[0])
    world.run(10 * TIMEOUT_S)
    pause.end()
    world.run(2 * TIMEOUT_S)
    assert not any(state.refuses_writes for state in told(cluster, others[0]))


def test_a_sleeping_group_is_not_looked_at_until_its_nodes_fall_silent(scene) -> None:
    world, cluster, leader, others = scene
    world.run(40)
    groups = cluster.running()
    assert all(group.raft.quiet for group in groups.values())
    assert set(states(cluster).values()) == {HEALTHY}
    world.inject("isolate", others[0])
    world.run(4 * TIMEOUT_S)
    assert states(cluster)[others[0]] is READ_ONLY
    assert states(cluster)[leader] is HEALTHY


def test_a_group_that_awaits_an_operator_says_so_and_refuses(scene, monkeypatch) -> None:
    world, cluster, leader, others = scene
    group = cluster.nodes[others[0]].group("main")
    why = "5000 entries lie between the two sides"
    waits = property(lambda each: why if each is group else "")
    monkeypatch.setattr(Group, "awaiting_operator", waits)
    world.run(TIMEOUT_S)
    assert verdicts(cluster)[others[0]].state is INTERVENTION

    async def write() -> None:
        group.propose(b"\x00")

    with pytest.raises(GroupReadOnly, match=f"5000 entries .* Try {leader}"):
        world.call(others[0], write(), within_s=0.001)
    monkeypatch.undo()
    world.run_until(lambda: states(cluster)[others[0]] is HEALTHY, within_s=30)
