"""Snapshots with the real node, its log and its transport, on simulated hosts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from mcpcore.errors import CoordinationError, StateMissing
from mcpcore.node.group import Consistency, Group
from mcpcore.node.kv import Get, encode_request
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.snapshots import marks
from mcpcore.node.snapshots.settings import SnapshotSettings
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.sim import World
from tests.node.simulated_cluster import NAMES, Bookkeeper, SimulatedCluster, client_of

WHOLE = SnapshotSettings(
    every_entries=40, trailing_entries=5, hold_bytes=1000, chunk_bytes=4096, incremental=False
)
CHANGES = SnapshotSettings(
    every_entries=60, trailing_entries=5, hold_bytes=1000, chunk_bytes=4096, incremental=True
)


class Town:
    """A cluster with a state of some size, one member of which was away for long."""

    def __init__(self, world: World, settings: SnapshotSettings, *, values: int, size: int) -> None:
        self.world = world
        self.cluster = SimulatedCluster(world, snapshots=settings)
        self.draw = random.Random(world.seed)
        world.host("writer")
        world.run_until(lambda: bool(self.cluster.leader()), within_s=10)
        self.write(values, size)
        self.away = next(name for name in NAMES if name != self.cluster.leader())

    def write(self, values: int, size: int, prefix: str = "base") -> None:
        """Puts that nobody compresses: the digest of a byte says where a mistake is."""

        async def put() -> None:
            async with client_of(self.cluster, "writer") as client:
                store = KeyValueClient(client)
                for number in range(values):
                    await store.put(f"{prefix}/{number:05}", self.draw.randbytes(size))

        self.world.call("writer", put(), within_s=300)

    def read(self, key: str) -> bytes | None:
        async def get() -> bytes | None:
            async with client_of(self.cluster, "writer") as client:
                record = await KeyValueClient(client).get(key)
                return None if record is None else record.value

        found: bytes | None = self.world.call("writer", get(), within_s=60)
        return found

    def group(self, name: str) -> Group:
        return self.cluster.running()[name]

    @property
    def leader(self) -> Group:
        return self.group(self.cluster.leader())

    def sent(self, name: str = "") -> dict[str, Any]:
        """What the leader says of the transfer to the member that was away."""
        leader = self.cluster.leader()
        if not leader:
            return {}
        sending: dict[str, Any] = self.group(leader).status().snapshot["sending"]
        return sending.get(name or self.away, {})

    def settle(self, within_s: float = 60) -> None:
        self.world.run(1)  # whoever was restarted begins anew
        self.world.run_until(
            lambda: bool(self.cluster.leader()) and self.cluster.agreed(), within_s=within_s
        )
        for group in self.cluster.running().values():
            group.raft.check()
            group.state.machine.check()  # type: ignore[attr-defined]

    @contextmanager
    def member_away(self, values: int = 100, size: int = 200) -> Iterator[None]:
        self.cluster.hosts[self.away].crash()
        self.write(values, size, "while-away")
        yield
        self.cluster.hosts[self.away].restart()


def test_a_member_that_was_away_for_long_catches_up_by_a_snapshot_while_load_goes_on() -> None:
    with World(seed=1) as world:
        cluster = SimulatedCluster(world, snapshots=WHOLE)
        client = Bookkeeper(cluster, "client")
        world.run(3)
        away = next(name for name in NAMES if name != cluster.leader())
        cluster.hosts[away].crash()
        behind = cluster.running()[cluster.leader()].applied
        world.run(12)
        assert cluster.running()[cluster.leader()].raft.state.log.base.index > behind
        cluster.hosts[away].restart()
        world.run(6)
        client.stop = True
        world.run_until(lambda: client.done and cluster.agreed(), within_s=30)
        world.call("client", client.audit(), within_s=60)
        installed = cluster.running()[away]
        assert installed.snapshots is not None
        assert installed.raft.state.log.base.index > behind
        for group in cluster.running().values():
            assert len(group.raft.state.log) < 60 + WHOLE.trailing_entries, "the log is compacted"
            assert group.snapshots is not None
            assert not group.snapshots.problems


def test_a_transfer_over_a_link_that_breaks_goes_on_where_it_was() -> None:
    with World(seed=2) as world:
        limited = SnapshotSettings(
            every_entries=40,
            trailing_entries=5,
            hold_bytes=1000,
            chunk_bytes=4096,
            incremental=False,
            bytes_per_s=100_000,
        )
        town = Town(world, limited, values=60, size=8192)
        with town.member_away():
            pass
        for part in (0.2, 0.5, 0.8):
            world.run_until(lambda: town.sent().get("acknowledged", 0) > 0, within_s=60)
            total = town.sent()["bytes"]
            assert total > 400_000
            wanted = int(part * total)
            world.run_until(lambda w=wanted: town.sent().get("acknowledged", 0) > w, within_s=60)
            world.inject("reset", town.away)
        sent = 0

        def note() -> None:
            nonlocal sent
            sent = max(sent, town.sent().get("sent", 0))

        world.check_each_instant(note)
        town.settle()
        assert total <= sent < total + 4 * 64 * 1024, "only what was under way was sent again"


def test_a_receiver_that_crashes_goes_on_at_what_its_disk_holds() -> None:
    with World(seed=3) as world:
        limited = SnapshotSettings(
            every_entries=40,
            trailing_entries=5,
            hold_bytes=1000,
            chunk_bytes=4096,
            incremental=False,
            bytes_per_s=200_000,
        )
        town = Town(world, limited, values=60, size=8192)
        with town.member_away():
            pass
        world.run_until(lambda: town.sent().get("acknowledged", 0) > 250_000, within_s=60)
        total = town.sent()["bytes"]
        town.cluster.hosts[town.away].kill()  # the process dies, the page cache lives on
        world.run(2)
        before = town.sent()["sent"]
        town.cluster.hosts[town.away].restart()
        sent = 0

        def note() -> None:
            nonlocal sent
            sent = max(sent, town.sent().get("sent", 0))

        world.check_each_instant(note)
        town.settle()
        assert sent - before < total - 200_000, "it did not begin anew"


def test_an_installation_longer_than_ten_election_timeouts_ends_and_disturbs_nobody() -> None:
    """NuRaft #121; and heartbeats do not wait behind chunks (election timeout 1 s here)."""
    with World(seed=4) as world:
        town = Town(world, WHOLE, values=60, size=8192)
        with town.member_away():
            pass
        term, leader = town.leader.raft.state.term, town.cluster.leader()
        for other in NAMES:
            if other != town.away:
                world.inject("narrow", town.away, to=(other,), value=240_000)
        began_s = world.now_s
        town.settle(within_s=120)
        assert world.now_s - began_s > 12.0, "this link was to be slow"
        assert (town.leader.raft.state.term, town.cluster.leader()) == (term, leader)
        assert town.group(town.away).raft.state.term == term


def test_when_the_leader_dies_in_the_middle_another_one_sends_a_snapshot() -> None:
    with World(seed=5) as world:
        limited = SnapshotSettings(
            every_entries=40,
            trailing_entries=5,
            hold_bytes=1000,
            chunk_bytes=4096,
            incremental=False,
            bytes_per_s=200_000,
        )
        town = Town(world, limited, values=60, size=8192)
        with town.member_away():
            pass
        world.run_until(lambda: town.sent().get("acknowledged", 0) > 100_000, within_s=60)
        old = town.cluster.leader()
        town.cluster.hosts[old].crash()
        world.run_until(lambda: town.cluster.leader() not in ("", old), within_s=30)
        assert town.cluster.leader() != town.away, "it lacks what was committed"
        world.run(5)
        town.cluster.hosts[old].restart()
        town.settle()


def test_a_member_that_comes_back_gets_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "STEP", 64)
    monkeypatch.setattr(marks, "_LEVELS", (64, 512))
    with World(seed=6) as world:
        town = Town(world, CHANGES, values=60, size=8192)
        town.write(70, 10, "filler")  # beyond one mark, which both remember
        with town.member_away(values=100, size=100):
            pass
        seen: dict[str, Any] = {}

        def note() -> None:
            if town.sent().get("since"):
                seen.update(town.sent())

        world.check_each_instant(note)
        town.settle()
        whole = town.leader.status().snapshot["bytes"]
        assert seen["since"] > 0, "a whole state was sent"
        assert seen["bytes"] * 10 < whole, (seen["bytes"], whole)
        assert not town.group(town.away).status().snapshot["problem"]
        before = town.group(town.away).status().digest
        town.cluster.hosts[town.away].crash()  # what it installed is a whole state on its disk
        town.cluster.hosts[town.away].restart()
        town.settle()
        assert town.group(town.away).status().digest == before


def test_changes_that_lead_elsewhere_are_refused_and_the_whole_state_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica whose memory rotted says it was at the same state as we, and is not."""
    monkeypatch.setattr(marks, "STEP", 64)
    monkeypatch.setattr(marks, "_LEVELS", (64, 512))
    with World(seed=7) as world:
        town = Town(world, CHANGES, values=40, size=4096)
        town.write(70, 10, "filler")
        town.settle()
        cut = world.inject("isolate", town.away)
        machine: Any = town.group(town.away).state.machine
        record = machine._store.get(b"base/00001")
        machine._store._entries[b"base/00001"] = (
            record._replace(value=b"rotten"),
            machine._store._entries[b"base/00001"][1],
        )
        town.write(100, 100, "while-away")
        problems: list[str] = []

        def note() -> None:
            found = town.group(town.away).status().snapshot["problem"]
            if found:
                problems.append(found)

        world.check_each_instant(note)
        world.run(8)  # the connections are given up, with all that waited in them
        cut.end()
        town.settle()
        assert "digest" in problems[0], problems
        held: Any = town.group(town.away).state.machine
        assert held._store.get(b"base/00001").value == record.value


def _snapshots(town: Town, name: str) -> SnapshotDirectory:
    return SnapshotDirectory(town.cluster.hosts[name].disk, "data/log", "main")


def test_a_member_whose_snapshots_rotted_gets_one_from_the_others_and_answers_nothing_before() -> (
    None
):
    with World(seed=8) as world:
        town = Town(world, WHOLE, values=60, size=2048)
        world.run(1)
        disk = town.cluster.hosts[town.away].disk
        stored = _snapshots(town, town.away).stored()
        assert stored
        town.cluster.hosts[town.away].kill()
        for each in stored:
            disk.rot(50, path=each.path)
        seen: list[str] = []

        def note() -> None:
            group = town.cluster.running().get(town.away)
            if group is not None and group.raft.state.stateless:
                seen.append(group.status().problem)
                with pytest.raises(StateMissing):
                    group.read(encode_request(Get(b"base/00001")), Consistency.STALE)

        world.check_each_instant(note)
        town.cluster.hosts[town.away].restart()
        town.settle()
        assert seen
        assert "its state is lost" in seen[0]
        group = town.group(town.away)
        assert group.snapshots is not None
        assert any("cannot be used" in problem for problem in group.snapshots.problems)


def test_a_damaged_snapshot_is_passed_over_for_an_older_one_that_the_log_reaches() -> None:
    roomy = SnapshotSettings(every_entries=40, trailing_entries=200, chunk_bytes=4096)
    with World(seed=9) as world:
        town = Town(world, roomy, values=130, size=100)
        world.run(1)
        disk = town.cluster.hosts[town.away].disk
        stored = _snapshots(town, town.away).stored()
        assert len(stored) > 1
        town.cluster.hosts[town.away].kill()
        disk.rot(50, path=stored[0].path)
        town.cluster.hosts[town.away].restart()
        town.settle()
        group = town.group(town.away)
        assert group.snapshots is not None
        assert stored[0].path in group.snapshots.problems[0]
        assert not group.raft.state.stateless


def test_a_command_that_is_retried_after_a_snapshot_is_not_applied_twice() -> None:
    """The table of sessions travels with the state."""
    with World(seed=10) as world:
        town = Town(world, WHOLE, values=60, size=512)
        with town.member_away():
            pass
        town.settle()
        digests = {
            name: group.state.sessions.encode() for name, group in town.cluster.running().items()
        }
        assert len(set(digests.values())) == 1
        town.cluster.hosts[town.cluster.leader()].crash()
        world.run_until(lambda: bool(town.cluster.leader()), within_s=30)
        town.write(5, 10, "after")
        assert town.read("after/00004") is not None


def test_every_snapshot_on_every_disk_is_sound_and_old_ones_are_gone() -> None:
    with World(seed=11) as world:
        town = Town(world, WHOLE, values=200, size=200)
        town.settle()
        for name in NAMES:
            directory = _snapshots(town, name)
            stored = directory.stored()
            assert 1 <= len(stored) <= 2
            for each in stored:
                reader = SnapshotReader.open(directory.disk, each.path)
                reader.verify()
                reader.close()
            left = directory.disk.list_dir(directory.path)
            assert all(entry.endswith(".snap") for entry in left), left


def live_with_crashes(seed: int, settings: SnapshotSettings) -> None:
    """Members crash at any moment, torn writes and all, while snapshots are taken and installed."""
    with World(seed=seed) as world:
        try:
            cluster = SimulatedCluster(world, snapshots=settings)
            client = Bookkeeper(cluster, "client")
            draw = random.Random(seed)
            world.run(2)
            for _ in range(10):
                name = draw.choice(NAMES)
                host = cluster.hosts[name]
                if host.is_alive:
                    draw.choice((host.crash, host.crash, host.kill))()
                world.run(draw.uniform(0.01, 3))
                for other in cluster.hosts.values():
                    if not other.is_alive and draw.random() < 0.7:
                        other.restart()
                world.run(draw.choice((0.02, 0.3, 2.0)))
            for host in cluster.hosts.values():
                if not host.is_alive:
                    host.restart()
            world.run(1)
            client.stop = True
            world.run_until(lambda: client.done, within_s=30)
            world.run_until(lambda: bool(cluster.leader()) and cluster.agreed(), within_s=30)
            world.call("client", client.audit(), within_s=60)
            assert client.acknowledged
            for group in cluster.running().values():
                group.raft.check()
                group.state.machine.check()  # type: ignore[attr-defined]
        except BaseException as error:
            error.add_note(f"live_with_crashes({seed})")
            raise


TINY = SnapshotSettings(every_entries=7, trailing_entries=2, hold_bytes=100, chunk_bytes=512)


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_at_any_point_of_taking_or_installing_loses_nothing(seed: int) -> None:
    live_with_crashes(seed, TINY)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100, 600, 50))
def test_crashes_at_any_point_lose_nothing_in_five_hundred_worlds(first: int) -> None:
    for seed in range(first, first + 50):
        live_with_crashes(seed, TINY)


def test_a_quiet_group_that_keeps_the_logs_oldest_file_lets_it_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with World(seed=13) as world:
        town = Town(world, SnapshotSettings(), values=20, size=100)
        town.settle()
        assert not _snapshots(town, town.away).stored(), "there was no other reason for one"
        device: Any = town.cluster.nodes[town.away].parts.device
        monkeypatch.setattr(device, "pinned_by", lambda: ("main",))
        world.run(8)
        group = town.group(town.away)
        assert group.raft.state.log.base.index == group.applied, "no entry is left in that file"
        assert len(_snapshots(town, town.away).stored()) == 1
        town.write(20, 100, "more")
        world.run(5)
        assert len(_snapshots(town, town.away).stored()) == 1, "not more often than it may rest"


def test_a_snapshot_on_demand_covers_what_is_applied() -> None:
    with World(seed=14) as world:
        town = Town(world, SnapshotSettings(), values=20, size=100)
        town.settle()
        keeper = town.leader.snapshots
        assert keeper is not None
        head = world.call(town.cluster.hosts[town.cluster.leader()], keeper.take(trailing=3))
        assert head.position.index == town.leader.applied
        world.run(1)
        assert town.leader.raft.state.log.base.index == town.leader.applied - 3


def test_a_full_disk_keeps_the_old_snapshot_and_takes_one_later() -> None:
    with World(seed=12) as world:
        town = Town(world, WHOLE, values=20, size=2048)
        disk = town.cluster.hosts[town.away].disk
        disk.capacity_bytes = disk.used_bytes() + 1000
        with suppress(CoordinationError):
            town.write(60, 2048, "more")
        world.run(2)
        disk.capacity_bytes = None
        world.run(12)
        town.write(60, 200, "later")
        town.settle()
        assert _snapshots(town, town.away).stored()[0].position.index > 60
