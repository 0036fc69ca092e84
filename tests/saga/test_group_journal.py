"""Sagas in a Raft group of real nodes: replicated, taken over exactly once, held when split."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from mcpcore.errors import JournalMoved, NotLeader
from mcpcore.node.client.client import Client
from mcpcore.node.sagas import ClusterTime, GroupCells, GroupJournal
from mcpcore.saga import (
    OPEN,
    Call,
    Claims,
    Fence,
    Head,
    Mark,
    Saga,
    SagaEngine,
    SagaHeld,
    SagaLost,
    SagaTaken,
    Status,
    Step,
    operations,
)
from mcpcore.saga.records import Entry
from mcpcore.sim import World, run
from tests.node.local_cluster import LocalCluster
from tests.node.simulated_cluster import PLAIN, SimulatedCluster, client_of


def head(length: int, *, owner: str = "a#1", status: Status = Status.RUNNING) -> Head:
    return Head("x", "s", "v", status, owner, 1, 2, length)


async def test_a_group_keeps_journals_as_the_contract_says(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        await cluster.leader()
        async with cluster.client() as one, cluster.client() as two:
            ours, theirs = GroupJournal(one), GroupJournal(two)
            first = await ours.append(head(1), 0, [b"a"])
            again = await ours.append(head(1), 0, [b"a"])
            second = await ours.append(head(2), 1, [b"b"])
            with pytest.raises(JournalMoved):
                await theirs.append(head(2), 1, [b"c"])
            story = await theirs.read("x")
            third = await theirs.append(head(3, owner="b#1"), 2, [b"c"])
            with pytest.raises(JournalMoved):
                await ours.append(head(3), 2, [b"d"])
            assert story is not None
            assert story.rows == (b"a", b"b")
            assert first <= again < second < third
            assert [each.length for each in await ours.heads(OPEN)] == [3]
            await ours.delete("x")
            assert await theirs.read("x") is None


async def test_claims_in_a_group_are_seen_by_everybody(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        await cluster.leader()
        async with cluster.client() as one, cluster.client() as two:
            ours, theirs = Claims(GroupCells(one)), Claims(GroupCells(two))
            assert (await ours.begin("t", Fence(1, 1))).mark is Mark.NONE
            assert await ours.finish("t", Fence(1, 1), 7)
            assert (await theirs.begin("t", Fence(1, 2))) == (Mark.DONE, 7)
            assert (await theirs.bar("late", Fence(1, 3))).mark is Mark.NONE
            assert (await ours.begin("late", Fence(1, 4))).mark is Mark.BARRED


async def test_what_a_tool_decides_reaches_the_engine_that_runs_the_saga(tmp_path: Path) -> None:
    undone: list[str] = []

    async def hang(call: Call) -> None:
        await asyncio.sleep(1e6)

    async def take_back(call: Call) -> None:
        undone.append(call.step)

    saga = Saga("s", Step(hang, take_back, timeout_s=1e6))
    async with LocalCluster(tmp_path) as cluster:
        await cluster.leader()
        async with cluster.client() as one, cluster.client() as two:
            time = ClusterTime(cluster.nodes["a"].clock)
            async with SagaEngine(GroupJournal(one), [saga], time=time) as engine:
                handle = await engine.start(saga, id="x")
                await asyncio.sleep(0.2)  # the engine's watch is established
                await operations.write(
                    GroupJournal(two),
                    "x",
                    lambda state: operations.cancel(state, by="ops", why="wrong region"),
                    Entry,
                )
                async with asyncio.timeout(5):
                    outcome = await handle.outcome()
    assert outcome.status is Status.COMPENSATED
    assert undone == ["hang"]


class Absent:
    """A group whose answers are missing at the worst moments: of each call, the numbers of those
    that get none."""

    def __init__(self, **missing: set[int]) -> None:
        self.missing = missing
        self.asked: dict[str, int] = {}
        self.shown: dict[bytes | str, int] = {}

    def _answer(self, what: str) -> int:
        number = self.asked[what] = self.asked.get(what, 0) + 1
        if number in self.missing.get(what, ()):
            raise NotLeader("main", None)
        return number

    async def lease_grant(self, ttl_s: float) -> int:
        return self._answer("grant")

    async def lease_keep_alive(self, lease: int) -> None:
        self._answer("keep")

    async def lease_revoke(self, lease: int) -> None:
        self._answer("revoke")

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        self._answer("put")
        self.shown[key] = lease
        return 1


def test_an_engine_that_could_not_show_that_it_lives_shows_it_as_soon_as_it_can() -> None:
    """A lease without the key on it would let others take its sagas for as long as it lives."""
    journal = GroupJournal(Client(["127.0.0.1:1"], cluster="c", security=PLAIN), lease_s=3)
    group = Absent(keep={2}, put={2})
    journal._kv = group  # type: ignore[assignment]

    async def main() -> dict[bytes | str, int]:
        await journal.open("a#1")
        await asyncio.sleep(10)
        shown = dict(group.shown)
        await journal.close()
        return shown

    assert run(main(), seed=1) == {"saga/owner/a#1": 3}, "the third lease carries it"
    assert group.asked["keep"] > 4


class Town:
    """A cluster, engines on hosts of their own, and a service that honours tokens and fences."""

    def __init__(self, world: World, steps: int = 6, step_s: float = 1.0) -> None:
        self.world = world
        self.cluster = SimulatedCluster(world)
        self.applied: list[str] = []
        self.asked: list[str] = []
        self.fences: list[Fence] = []
        self.events: dict[str, list[Any]] = {}
        self.engines: dict[str, SagaEngine] = {}

        async def act(call: Call) -> None:
            self.asked.append(call.token)
            await asyncio.sleep(step_s / 2)
            if call.token not in self.applied:
                self.applied.append(call.token)
                self.fences.append(call.fence)
            await asyncio.sleep(step_s / 2)

        async def take_back(call: Call) -> None:
            if call.do_token in self.applied:
                self.applied.remove(call.do_token)

        self.saga = Saga("s", *(Step(act, take_back, name=f"step{n}") for n in range(steps)))

    def engine(self, name: str, first: str = "") -> None:
        """A host with an engine, that starts a saga if one is named, and runs for ever."""

        async def main() -> None:
            host = self.world[name]
            rng = random.Random(host.random.getrandbits(64))
            async with Client(
                list(self.cluster.addresses().values()), cluster="sim", security=PLAIN,
                name=name, timeout_s=6.0, rng=rng,
            ) as client:  # fmt: skip
                journal = GroupJournal(client, lease_s=3.0, patrol_s=1.0, call_s=3.0)
                engine = SagaEngine(
                    journal, [self.saga], name=name, rng=rng,
                    observers=[self.events.setdefault(name, []).append],
                )  # fmt: skip
                async with engine:
                    self.engines[name] = engine
                    if first:
                        await engine.start(self.saga, id=first)
                    await asyncio.sleep(1e9)

        self.world.host(name, main)

    async def status(self, saga: str = "x") -> Status:
        async with client_of(self.cluster, "reader") as client:
            return (await operations.read_state(GroupJournal(client), saga)).status

    def seen(self, name: str, kind: type) -> list[Any]:
        return [event for event in self.events.get(name, []) if isinstance(event, kind)]


@pytest.mark.parametrize("seed", range(3))
def test_another_engine_takes_a_saga_over_within_a_bound_and_exactly_once(seed: int) -> None:
    with World(seed=seed) as world:
        town = Town(world)
        world.run(4)
        town.engine("engine-a", "x")
        world.run(2.7)
        town.engine("engine-b")
        town.engine("engine-c")
        world.run(0.5)
        world["engine-a"].crash()
        died_s = world.now_s
        world.run_until(
            lambda: bool(town.seen("engine-b", SagaTaken) or town.seen("engine-c", SagaTaken)),
            within_s=8,
        )
        took_s = world.now_s - died_s
        world.run(12)
        taken = town.seen("engine-b", SagaTaken) + town.seen("engine-c", SagaTaken)
        world.host("reader")
        status = world.call("reader", town.status(), within_s=30)
    assert took_s < 3.0 + 1.25 + 1.0, "lease, patrol, commit"
    assert len(taken) == 1
    assert status is Status.COMPLETED
    assert len(town.applied) == len(set(town.applied)) == 6
    assert town.fences == sorted(town.fences)


def test_an_engine_cut_off_from_its_group_holds_its_saga_and_lets_go_when_another_has_it() -> None:
    with World(seed=5) as world:
        town = Town(world)
        world.run(4)
        town.engine("engine-a", "x")
        world.run(2.2)
        town.engine("engine-b")
        world.run(0.5)
        world.inject("isolate", "engine-a")
        world.run(20)
        asked_while_cut = len(town.asked)
        world.heal()
        world.run(10)
        world.host("reader")
        status = world.call("reader", town.status(), within_s=30)
    assert status is Status.COMPLETED
    assert town.seen("engine-a", SagaHeld), "cut off, it could write nothing"
    assert town.seen("engine-b", SagaTaken)
    assert town.seen("engine-a", SagaLost), "back again, it let go"
    assert len(town.applied) == 6
    assert len(town.asked) == asked_while_cut, "nothing was begun twice after the reunion"


def test_when_the_group_itself_is_split_sagas_wait_and_go_on_at_reunion() -> None:
    with World(seed=7) as world:
        town = Town(world)
        world.run(4)
        town.engine("engine-a", "x")
        world.run(2.7)
        for name in list(town.cluster.names)[:2]:
            world.inject("isolate", name)
        world.run(60)
        before = len(town.applied)
        world.heal()
        world.run(20)
        world.host("reader")
        status = world.call("reader", town.status(), within_s=30)
    assert before < 6, "nothing goes on without a quorum"
    assert status is Status.COMPLETED
    assert len(town.applied) == 6
