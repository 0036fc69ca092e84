"""Hundreds of groups on the real node, on simulated hosts: they sleep, wake, and lose nothing.

One seed again: ``python -m tests.node.test_many_groups_in_simulator SEED``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import pytest

from mcpcore.errors import (
    CoordinationError,
    GroupExists,
    InvalidInput,
    NoSpace,
    StorageFailed,
    UnknownGroup,
)
from mcpcore.node.group import Consistency, Group
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.raft.invariants import FigureThree
from mcpcore.raft.outcome import RoleChanged
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings
from mcpcore.sim import Host, World
from tests.node.simulated_cluster import PLAIN, PORT

SETTINGS = RaftSettings(
    election_timeout_ns=1000 * MILLISECOND,
    heartbeat_ns=200 * MILLISECOND,
    quiet_after_ns=1 * SECOND,
)
PATIENT = RaftSettings(quiet_after_ns=5 * SECOND)
NAMES = ("a", "b", "c")


class Ledger(StateMachine):
    """Adds up what it is told, in a digest."""

    def __init__(self) -> None:
        self.sum = b""

    def apply(self, index: int, command: bytes) -> bytes:
        self.sum = blake2b(self.sum + command, digest_size=8).digest()
        return self.sum

    def query(self, request: bytes) -> bytes:
        return self.sum

    def snapshot(self) -> Iterator[bytes]:
        return iter([self.sum])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.sum = b"".join(chunks)

    def digest(self) -> bytes:
        return self.sum


class Crowd:
    """Three nodes that host the same many groups; every group is judged by Figure 3."""

    def __init__(
        self, world: World, count: int, *, settings: RaftSettings = SETTINGS, drift_ppm: float = 0
    ) -> None:
        self.world = world
        self.settings = settings
        self.groups = [f"g{number}" for number in range(count)]
        self.configured = tuple(self.groups)
        self.nodes: dict[str, Node] = {}
        self.judges: dict[str, FigureThree] = {}
        self.elections: list[RoleChanged] = []
        self._watched: set[int] = set()
        self._looked_s = 0.0
        self.hosts: dict[str, Host] = {}
        draw = random.Random(world.seed)
        for name in NAMES:
            rate = draw.uniform(-drift_ppm, drift_ppm)
            host = world.host(name, self._main(name), drift_ppm=rate, start=False)
            self.hosts[name] = host
        for host in self.hosts.values():
            host.start()
        world.check_each_instant(self._look)

    def _main(self, name: str) -> Any:
        async def main() -> None:
            host = self.hosts[name]
            addresses = {n: Address(h.address, PORT) for n, h in self.hosts.items()}
            config = NodeConfig(
                cluster="crowd",
                name=name,
                listen=addresses[name],
                peers={peer: at for peer, at in addresses.items() if peer != name},
                data="data/log",
                security=PLAIN,
                groups={group: GroupConfig(NAMES, self.settings) for group in self.configured},
                bootstrap=True,
            )
            while True:
                for judge in self.judges.values():
                    judge.restarted(name)
                node = Node(config, lambda group: Ledger(), disk=host.disk, rng=host.random)
                self.nodes[name] = node
                try:
                    async with node:
                        await node.stopped.wait()
                except StorageFailed:
                    pass
                await asyncio.sleep(0.5)

        return main

    def _look(self) -> None:
        """Judge every group now and then, and at every change of a role."""
        now_s = self.world.now_s
        for node in self.nodes.values():
            for name in node.groups if id(node) not in self._watched else ():
                self._watch(node.group(name))
                self._watched.add(id(node))
        if now_s - self._looked_s >= 0.25:
            self._looked_s = now_s
            self.judge()

    def _watch(self, group: Group) -> None:
        def changed(event: RoleChanged) -> None:
            if event.role.value == "leader":
                self.elections.append(event)
            self._judge(group)

        group.listeners.append(changed)

    def _judge(self, group: Group) -> None:
        self.judges.setdefault(group.name, FigureThree()).observe(group.raft.state)

    def judge(self) -> None:
        for name, node in self.nodes.items():
            if self.hosts[name].is_alive and not node.stopped.is_set():
                for group in node.groups:
                    self._judge(node.group(group))

    # --- looking ---

    def running(self) -> dict[str, Node]:
        return {
            name: node
            for name, node in self.nodes.items()
            if self.hosts[name].is_alive and not node.stopped.is_set() and node.groups
        }

    def leader(self, group: str) -> str:
        """Whom a majority follows, or nobody."""
        named = [
            node.group(group).raft.leader
            for node in self.running().values()
            if group in node.groups
        ]
        best = max(set(named), key=named.count, default="")
        leads = best in self.running() and self.nodes[best].group(group).raft.is_leader
        return best if leads and named.count(best) >= 2 else ""

    def led_by(self, name: str) -> list[str]:
        return [group for group in self.groups if self.leader(group) == name]

    def all_led(self) -> bool:
        return all(self.leader(group) for group in self.groups)

    def busiest(self) -> str:
        return max(NAMES, key=lambda name: len(self.led_by(name)))

    def asleep(self) -> bool:
        return all(
            node.group(group).raft.quiet for node in self.nodes.values() for group in self.groups
        )

    def agreed(self) -> bool:
        if len(self.running()) < len(NAMES):
            return False
        for group in self.groups:
            statuses = [node.group(group).status() for node in self.running().values()]
            if len({(status.applied, status.digest) for status in statuses}) != 1:
                return False
        return True

    def status(self, name: str) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            return self.nodes[name].status()

        status = self.world.call(name, ask())
        assert isinstance(status, dict)
        return status

    # --- doing ---

    def until(self, reached: Callable[[], bool], within_s: float = 60) -> None:
        """Look a few times a virtual second: to look at hundreds of groups is dear."""
        end_s = self.world.now_s + within_s
        while not reached():
            assert self.world.now_s < end_s, f"not within {within_s} s: {self.words()}"
            self.world.run(0.25)

    def words(self) -> str:
        """The groups that are not led, and those that do not sleep."""
        lost = [group for group in self.groups if not self.leader(group)]
        awake = [
            str(node.group(group).raft)
            for node in self.running().values()
            for group in node.groups
            if not node.group(group).raft.quiet
        ]
        return f"not led: {lost[:5]}; awake: {awake[:9]}"

    def settle(self, within_s: float = 60) -> None:
        """Everybody is led and sleeps."""
        self.until(lambda: self.all_led() and self.asleep(), within_s)

    def write(self, groups: Iterable[str], data: bytes = b"x", within_s: float = 30) -> None:
        """One command to each group, by its leader; retried until it is applied."""
        for name in list(NAMES):
            mine = [group for group in groups if self.leader(group) == name]
            if mine:
                self.world.call(name, self._write(name, mine, data), within_s=within_s)

    async def _write(self, name: str, groups: list[str], data: bytes) -> None:
        node = self.nodes[name]
        futures = [node.group(group).propose(data) for group in groups]
        async with asyncio.timeout(20):
            await asyncio.gather(*futures)

    def read(self, name: str, group: str, consistency: Consistency) -> bytes:
        async def ask() -> bytes:
            async with asyncio.timeout(10):
                return (await self.nodes[name].group(group).read(b"", consistency)).answer

        answer = self.world.call(name, ask(), within_s=20)
        assert isinstance(answer, bytes)
        return answer


def proof_of_life(crowd: Crowd) -> None:
    """Every group is led, takes a write, and all members come to hold the same."""
    crowd.until(crowd.all_led)
    crowd.world.run(3)
    crowd.until(crowd.all_led)
    crowd.write(crowd.groups, b"still alive")
    crowd.until(crowd.agreed)
    crowd.judge()
    for node in crowd.nodes.values():
        for group in crowd.groups:
            node.group(group).raft.check()
        node.parts.pulse.sleepers.check()


# --- sleep and waking ----------------------------------------------------------------------------


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with World(seed=5) as world:
        crowd = Crowd(world, 30)
        crowd.settle()
        yield crowd


def test_idle_groups_sleep_and_nobody_is_elected_without_need() -> None:
    with World(seed=1) as world:
        crowd = Crowd(world, 100, settings=PATIENT, drift_ppm=200)
        crowd.settle()
        elected, sent = len(crowd.elections), frames_sent(crowd)
        world.run(300)
        assert crowd.asleep()
        assert len(crowd.elections) == elected
        per_second = (frames_sent(crowd) - sent) / 300
        assert per_second <= 6 * 1.1, f"{per_second} frames a second for 100 groups on 3 nodes"
        proof_of_life(crowd)


def frames_sent(crowd: Crowd) -> int:
    peers = [peer for name in NAMES for peer in crowd.status(name)["peers"].values()]
    return sum(peer["frames_out"] for peer in peers)


@pytest.mark.soak
def test_a_thousand_groups_sleep_for_virtual_hours() -> None:
    with World(seed=1) as world:
        crowd = Crowd(world, 1000, settings=PATIENT)
        crowd.settle(within_s=300)
        elected = len(crowd.elections)
        world.run(2 * 3600)
        assert crowd.asleep()
        assert len(crowd.elections) == elected
        proof_of_life(crowd)


def test_a_write_to_one_group_wakes_that_one_and_lets_the_others_sleep(crowd: Crowd) -> None:
    crowd.write(["g7"])
    woken = [
        group for group in crowd.groups for node in crowd.nodes.values()
        if not node.group(group).raft.quiet
    ]  # fmt: skip
    assert set(woken) == {"g7"}
    crowd.settle()


@pytest.mark.parametrize("consistency", [Consistency.LINEARIZABLE, Consistency.LEASE])
def test_a_read_on_any_member_wakes_a_group_and_sees_the_last_write(
    crowd: Crowd, consistency: Consistency
) -> None:
    crowd.write(["g3"], b"news")
    crowd.settle()
    expected = crowd.nodes[crowd.leader("g3")].group("g3").state.machine.digest()
    for name in NAMES:
        if consistency is Consistency.LEASE and name != crowd.leader("g3"):
            continue
        assert crowd.read(name, "g3", consistency) == expected
        crowd.settle()


def test_a_stale_read_wakes_nobody(crowd: Crowd) -> None:
    crowd.read("b", "g3", Consistency.STALE)
    assert crowd.asleep()


def test_a_member_that_comes_back_from_a_cut_disturbs_no_sleeper(crowd: Crowd) -> None:
    leaders = {group: crowd.leader(group) for group in crowd.groups}
    cut = crowd.world.inject("isolate", "c")
    crowd.world.run(20)
    others = [group for group in crowd.groups if leaders[group] != "c"]
    cut.end()
    crowd.settle()
    assert {group: crowd.leader(group) for group in others} == {g: leaders[g] for g in others}


# --- faults --------------------------------------------------------------------------------------

FAULTS = ("crash", "kill", "pause", "isolate", "disk_stall", "bridge", "flapping")


def live_through(seed: int, count: int = 40, faults: int = 4) -> World:
    """Groups that sleep or work, and faults on nodes that lead them, one after the other."""
    draw = random.Random(seed)
    with World(seed=seed) as world:
        try:
            crowd = Crowd(world, count, drift_ppm=200)
            crowd.until(crowd.all_led)
            for _ in range(faults):
                if draw.random() < 0.6:
                    world.run(4)  # they fall asleep
                kind = draw.choice(FAULTS)
                if len(crowd.running()) == len(NAMES):
                    fault = world.inject(
                        kind, crowd.busiest(), **({"value": 0.7} if kind == "flapping" else {})
                    )
                    world.run(draw.choice((0.3, 1.5, 5.0)))
                    some = draw.sample(crowd.groups, 5)
                    with suppress(CoordinationError, TimeoutError):  # the fault may be in the way
                        crowd.write(some)
                    fault.end()
                world.run(draw.choice((0.5, 3.0)))
            world.heal()
            for host in crowd.hosts.values():
                if not host.is_alive:
                    host.restart()
            world.run(2)
            proof_of_life(crowd)
            crowd.settle()
        except BaseException as error:
            error.add_note(f"again: python -m tests.node.test_many_groups_in_simulator {seed}")
            raise
    return world


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_nodes_every_group_ends_led_and_alike(seed: int) -> None:
    live_through(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100, 200, 10))
def test_a_hundred_worlds_of_three_hundred_groups(first: int) -> None:
    for seed in range(first, first + 10):
        live_through(seed, count=300, faults=8)


def test_the_same_seed_gives_the_same_run_of_many_groups() -> None:
    assert live_through(11, 20, 2).digest == live_through(11, 20, 2).digest


@pytest.mark.parametrize("fault", ["crash", "isolate", "pause"])
def test_hundreds_of_sleeping_groups_survive_the_loss_of_the_node_that_leads_most(
    fault: str,
) -> None:
    with World(seed=3) as world:
        crowd = Crowd(world, 300 if fault == "crash" else 100)
        crowd.settle()
        lost = crowd.busiest()
        led = crowd.led_by(lost)
        made = world.inject(fault, lost)
        others = [name for name in NAMES if name != lost]

        def replaced() -> bool:
            return all(crowd.leader(group) in others for group in led)

        crowd.until(replaced, 6)
        made.end()
        proof_of_life(crowd)
        for group in led:
            assert crowd.leader(group)


# --- the disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet_after_ns", [1 * SECOND, 0], ids=["asleep", "awake"])
def test_an_idle_leader_whose_disk_dies_steps_down_and_acts_on_nothing_stale_on_return(
    quiet_after_ns: int,
) -> None:
    """hashicorp/raft #503 and #612, etcd #15247."""
    with World(seed=2) as world:
        crowd = Crowd(world, 30, settings=replace(SETTINGS, quiet_after_ns=quiet_after_ns))
        if quiet_after_ns:
            crowd.settle()
        else:
            crowd.until(crowd.all_led)
        lost = crowd.busiest()
        led = crowd.led_by(lost)
        stall = world.inject("disk_stall", lost)
        world.run(5)
        status = crowd.status(lost)
        assert status["disk_stalled"]
        assert not any(replica["role"] == "leader" for replica in status["groups"].values())
        assert all(crowd.leader(group) not in ("", lost) for group in led)
        terms = {
            group: crowd.nodes[crowd.leader(group)].group(group).raft.state.term for group in led
        }
        stall.end()
        world.run(3)
        assert not crowd.status(lost)["disk_stalled"]
        for group, term in terms.items():
            assert crowd.nodes[lost].group(group).raft.state.term == term, "it disturbed nobody"
        proof_of_life(crowd)


def test_a_leader_whose_disk_is_full_hands_over_to_one_whose_disk_is_not() -> None:
    with World(seed=4) as world:
        crowd = Crowd(world, 6)
        crowd.settle()
        lost = crowd.busiest()
        led = crowd.led_by(lost)
        full = world.inject("disk_full", lost)
        with suppress(TimeoutError, CoordinationError):
            for _ in range(40):  # until the space that was set aside is used up
                crowd.write(led, b"z" * 60_000)
        crowd.until(lambda: crowd.leader(led[0]) not in ("", lost), 10)
        full.end()
        world.run(3)
        proof_of_life(crowd)


def test_reads_that_all_come_at_once_to_a_sleeping_group_are_all_answered(crowd: Crowd) -> None:
    """Only the first one finds it asleep; the lease comes back with the first answers."""
    name = crowd.leader("g1")
    crowd.world.run(3)  # the lease of the last heartbeats has run out

    async def ask() -> int:
        group = crowd.nodes[name].group("g1")
        reads = [group.read(b"", Consistency.LEASE) for _ in range(20)]
        async with asyncio.timeout(5):
            await asyncio.gather(*reads)
            group.read(b"", Consistency.LEASE)
        return len(reads)

    assert crowd.world.call(name, ask()) == 20


def test_full_disks_refuse_writes_in_words_while_reads_go_on_and_recover_by_themselves() -> None:
    with World(seed=4) as world:
        crowd = Crowd(world, 6)
        crowd.settle()
        crowd.write(crowd.groups, b"before")
        full = world.inject("disk_full", *NAMES)
        with suppress(TimeoutError, NoSpace):
            for _ in range(40):  # until the space that was set aside is used up
                crowd.write(["g1"], b"z" * 60_000)
        with pytest.raises(NoSpace, match="no space is left"):
            crowd.write(["g1"], b"one more")
        leader = crowd.leader("g1")
        assert leader, "a full disk is no reason to lead no more: who else could?"
        for group in crowd.groups:
            crowd.read(crowd.leader(group), group, Consistency.LINEARIZABLE)
        world.run(10)
        assert crowd.status(leader)["disk_full"]
        crowd.read(crowd.leader("g2"), "g2", Consistency.LINEARIZABLE)
        full.end()
        world.run(5)
        proof_of_life(crowd)


# --- groups made and retired at run time ---------------------------------------------------------


def test_groups_made_at_run_time_are_served_after_a_restart_and_retired_ones_are_not() -> None:
    with World(seed=6) as world:
        crowd = Crowd(world, 2)
        crowd.settle()
        own = replace(SETTINGS, max_pending_reads=77)
        for name in NAMES:
            world.call(name, crowd.nodes[name].retire_group("g0"))
            for _ in range(2):  # making it again is harmless
                world.call(name, crowd.nodes[name].create_group("late", GroupConfig(NAMES, own)))
        crowd.groups = ["g1", "late"]
        proof_of_life(crowd)
        for host in crowd.hosts.values():
            host.crash()
        for host in crowd.hosts.values():
            host.restart()
        world.run(3)
        assert all(node.groups == ("g1", "late") for node in crowd.nodes.values())
        assert crowd.nodes["a"].group("late").raft.state.settings == own
        proof_of_life(crowd)


def test_what_cannot_be_made_or_retired_is_refused_in_words() -> None:
    with World(seed=6) as world:
        crowd = Crowd(world, 2)
        crowd.settle()
        node = crowd.nodes["a"]

        def refused(coro: Any) -> str:
            with pytest.raises(InvalidInput) as refusal:
                world.call("a", coro)
            return str(refusal.value)

        assert "nobody cannot be reached" in refused(
            node.create_group("x", GroupConfig(("a", "nobody"), SETTINGS))
        )
        assert "none of its voters" in refused(node.create_group("x", GroupConfig(("b", "c"))))
        assert "with other members or settings" in refused(
            node.create_group("g0", GroupConfig(("a", "b"), SETTINGS))
        )
        assert "1 to 120 bytes" in refused(node.create_group("", GroupConfig(NAMES)))
        assert "no group 'x'" in refused(node.retire_group("x"))
        with pytest.raises(GroupExists):
            world.call("a", node.create_group("g0", GroupConfig(NAMES)))
        with pytest.raises(UnknownGroup):
            node.group("x")


def test_a_group_that_only_some_members_have_is_dropped_and_counted_elsewhere() -> None:
    with World(seed=6) as world:
        crowd = Crowd(world, 1)
        crowd.settle()
        for name in "ab":
            config = GroupConfig(NAMES, SETTINGS)
            world.call(name, crowd.nodes[name].create_group("late", config))
        world.run(5)
        assert crowd.leader("late") in ("a", "b")
        assert crowd.status("c")["messages_for_unknown_groups"] > 0


def test_a_retired_name_that_is_made_again_keeps_its_term_and_vote() -> None:
    with World(seed=6) as world:
        crowd = Crowd(world, 1)
        crowd.settle()
        before = {name: crowd.nodes[name].group("g0").raft.state.hard_state for name in NAMES}
        for name in NAMES:
            world.call(name, crowd.nodes[name].retire_group("g0"))
        with pytest.raises(UnknownGroup):
            crowd.nodes["a"].group("g0")
        crowd.judges.clear()
        for name in NAMES:
            config = GroupConfig(NAMES, SETTINGS)
            group = world.call(name, crowd.nodes[name].create_group("g0", config))
            assert group.raft.state.hard_state == before[name]
        proof_of_life(crowd)


@pytest.mark.parametrize("moment", range(0, 24, 3))
def test_a_crash_at_any_moment_of_making_or_retiring_leaves_it_done_or_undone(moment: int) -> None:
    with World(seed=moment) as world:
        crowd = Crowd(world, 1)
        crowd.settle()
        node = crowd.nodes["a"]

        async def change() -> None:
            await node.create_group("late", GroupConfig(NAMES, SETTINGS))
            await node.retire_group("g0")

        async def begin() -> None:
            task = asyncio.get_running_loop().create_task(change())
            await asyncio.sleep(moment * 0.0004)
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

        world.call("a", begin())
        crowd.hosts["a"].crash()
        crowd.hosts["a"].restart()
        world.run(3)
        groups = crowd.nodes["a"].groups
        assert set(groups) <= {"g0", "late"}
        assert "g0" in groups or "late" in groups, "retiring began after making was durable"


if __name__ == "__main__":
    live_through(int(sys.argv[1]))
