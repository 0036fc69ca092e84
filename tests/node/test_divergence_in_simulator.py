"""A machine that is not deterministic on one node: found, named, taken out of service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcpcore.errors import ReplicaInDoubt
from mcpcore.node.group import Consistency
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.raft.membership import Remove
from mcpcore.sim import World
from tests.node.membership_world import Town, Writer


class Astray(KeyValueNode):
    """At one index it applies something else than everybody."""

    __slots__ = ("_at", "_gone")

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at, self._gone = at, False

    def apply(self, index: int, command: bytes) -> bytes:
        if index >= self._at and not self._gone:
            self._gone = True
            command = encode_command(Put(b"astray", b""))
        return super().apply(index, command)


def planted(*astray: str, at: int = 30) -> Callable[[str], Callable[[str], StateMachine]]:
    def machine(node: str) -> Callable[[str], StateMachine]:
        if node not in astray:
            return lambda group: KeyValueNode()
        return lambda group: Astray(at + ord(node))

    return machine


def read(town: Town, node: str, how: Consistency) -> object:
    async def ask() -> object:
        async with town.client(only=node) as client:
            record = await KeyValueClient(client).get("writer/1", consistency=how)
            return record.value if record else None

    return town.world.call("client", ask(), within_s=30)


def doubt(town: Town, node: str) -> str:
    if node not in town.running():
        return ""
    return town.nodes[node].group("main").applying.watch.doubt


def test_equal_machines_under_load_are_compared_and_never_suspected() -> None:
    with World(seed=1) as world:
        town = Town(world)
        writer = Writer(town)
        world.run(12)
        for name in "abc":
            watch = town.nodes[name].group("main").applying.watch
            assert watch.divergence is None
            assert watch.newest is not None
            assert all(watch._agreed.get(other, 0) > 0 for other in "abc"), "they did meet"
        writer.finish()


def test_the_odd_replica_is_named_on_every_node_with_the_window_in_which_it_went_astray() -> None:
    with World(seed=2) as world:
        town = Town(world, machine=planted("c", at=300))
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        world.run_until(lambda: bool(doubt(town, "c")), within_s=60)
        world.run(2.5)
        for name in "abc":
            found = town.nodes[name].group("main").applying.watch.divergence
            assert found is not None
            assert found.odd == ("c",)
            assert 0 < found.last_equal < 300 + ord("c") <= found.first_unequal
        assert doubt(town, "c")
        assert not doubt(town, "a")
        writer.finish()


@pytest.mark.parametrize("how", list(Consistency))
def test_the_odd_replica_serves_no_reads_and_the_others_do(how: Consistency) -> None:
    with World(seed=3) as world:
        town = Town(world, machine=planted("c"))
        writer = Writer(town)
        world.run_until(lambda: town.leader() != "" and bool(doubt(town, "c")), within_s=60)
        with pytest.raises(Exception, match="in doubt"):
            read(town, "c", how)
        if how is not Consistency.LEASE:
            assert read(town, "a", how) == b"1"
        writer.finish()


def test_a_leader_that_is_the_odd_one_is_not_believed_and_hands_over() -> None:
    """Hunt: a replica whose state diverged is believed because it leads (etcd #13766, #14849)."""
    with World(seed=4) as world:
        town = Town(world, machine=lambda node: lambda group: Astray(10_000))
        writer = Writer(town)
        world.run_until(lambda: town.leader() != "", within_s=30)
        leader = town.leader()
        group = town.nodes[leader].group("main")
        machine_there = group.state.machine
        assert isinstance(machine_there, Astray)
        machine_there._at = group.applied + 5
        world.run_until(lambda: town.leader() not in ("", leader), within_s=30)
        world.run(0.1)
        found = town.nodes[town.leader()].group("main").applying.watch.divergence
        assert found is not None
        assert found.odd == (leader,)
        assert not doubt(town, town.leader())
        writer.finish()


def test_of_two_replicas_that_differ_neither_serves_until_an_operator_says_who_stays() -> None:
    with World(seed=5) as world:
        town = Town(world, "ab", machine=planted("b"))
        Writer(town)
        world.run_until(lambda: bool(doubt(town, "a")) and bool(doubt(town, "b")), within_s=60)
        assert "no majority holds one state" in doubt(town, "a")
        with pytest.raises(Exception, match="in doubt"):
            read(town, "a", Consistency.STALE)
        town.change(Remove("b"))
        world.run_until(lambda: not doubt(town, "a") and town.voters() == "a", within_s=30)
        world.run(2)
        assert read(town, "a", Consistency.LINEARIZABLE) == b"1"


def test_a_replica_that_is_wiped_and_catches_up_anew_is_believed_again() -> None:
    with World(seed=6) as world:
        healthy = {"c": False}

        def machine(node: str) -> Callable[[str], StateMachine]:
            if node == "c" and not healthy["c"]:
                return lambda group: Astray(30)
            return lambda group: KeyValueNode()

        town = Town(world, machine=machine)
        writer = Writer(town)
        world.run_until(lambda: bool(doubt(town, "c")), within_s=60)
        healthy["c"] = True
        town.hosts["c"].wipe()
        world.run(1)
        town.hosts["c"].restart()
        world.run_until(
            lambda: (
                not doubt(town, "c")
                and town.nodes["a"].group("main").applying.watch.divergence is None
                and "c" in town.running()
                and town.nodes["c"].group("main").applied > 100
            ),
            within_s=60,
        )
        writer.finish()


def test_a_replica_in_doubt_names_its_doubt_to_whoever_proposes() -> None:
    with World(seed=7) as world:
        town = Town(world, "ab", machine=planted("b"))
        Writer(town)
        world.run_until(lambda: bool(doubt(town, "a")), within_s=60)

        async def propose() -> None:
            town.nodes["a"].group("main").propose(b"")

        with pytest.raises(ReplicaInDoubt, match="a, b differ"):
            world.call("a", propose())
