"""A command that an old leader accepted is committed or in quarantine: nothing is lost silently.

The real node on simulated hosts. An old leader is cut off and goes on accepting commands; after the
heal it crashes at one moment after the other, so at every step of keeping and truncating. Again by
hand: ``python -m tests.node.test_quarantine_in_simulator SEED``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.node.storing import Storing
from mcpcore.raft.custody import Dropped
from mcpcore.raft.quarantine import Quarantine
from mcpcore.raft.quarantined import Fate, Quarantined
from mcpcore.raft.sessions import register_session, session_command
from mcpcore.raft.types import Entry, EntryKind
from mcpcore.sim import World
from mcpcore.sim.disk import SimDisk
from tests.node.simulated_cluster import SimulatedCluster

COMMANDS = 12


class OldLeader:
    """A leader that is cut off while a client of its side goes on, and what it accepted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = SimulatedCluster(world)
        world.run_until(lambda: bool(self.cluster.leader()) and self.cluster.agreed(), within_s=30)
        self.name = self.cluster.leader()
        self.host = self.cluster.hosts[self.name]
        self.accepted: dict[tuple[int, int], Entry] = {}
        """Commands that were durable in a leader's log, by (term, index)."""
        self.found: list[Quarantined] = []
        """What was in quarantine in the end."""
        world.check_each_instant(self._observe)
        registered = world.call(self.name, self._propose(register_session()))
        self.session = registered.index

    async def _propose(self, data: bytes):
        return await self.group().propose(data, EntryKind.SESSION)

    def group(self):
        return self.cluster.nodes[self.name].group("main")

    def _observe(self) -> None:
        for group in self.cluster.running().values():
            state = group.raft.state
            if state.is_leader:
                for index in range(state.log.base.index + 1, state.durable_index + 1):
                    entry = state.log.entry(index)
                    if entry.kind in (EntryKind.COMMAND, EntryKind.SESSION):
                        self.accepted.setdefault((entry.term, entry.index), entry)

    def goes_on_alone(self) -> None:
        """Cut off, it accepts commands until it notices that it leads nobody."""
        self.world.network.isolate(self.name)
        self.goes_on(COMMANDS)
        self.world.run_until(lambda: self.cluster.leader() not in ("", self.name), within_s=30)

        leader = self.cluster.leader()
        self.world.call(leader, self._put_at(leader))

    def goes_on(self, commands: int) -> None:
        """A client of its side proposes, and does not wait."""

        async def write() -> None:
            for number in range(commands):
                command = encode_command(Put(b"old/%d" % number, b"v"))
                self.group().propose(
                    session_command(self.session, number, 0, command), EntryKind.SESSION
                ).add_done_callback(lambda done: done.cancelled() or done.exception())

        self.world.call(self.name, write())

    async def _put_at(self, name: str) -> None:
        group = self.cluster.nodes[name].group("main")
        await group.propose(encode_command(Put(b"new", b"v")))

    def settles(self) -> None:
        self.world.run_until(self.cluster.agreed, within_s=60)

    def quarantined(self) -> Iterator[Quarantined]:
        for group in self.cluster.running().values():
            yield from group.quarantine.entries(every=True)

    def audit(self) -> None:
        """Everything accepted is committed in its place, or in quarantine."""
        kept = {(item.term, item.index): item.data for item in self.quarantined()}
        log = self.group().raft.state.log
        for (term, index), entry in self.accepted.items():
            committed = index <= log.last_index and log.entry(index) == entry
            assert committed or kept.get((term, index)) == entry.data, (
                f"{entry} was accepted and is neither committed nor in quarantine"
            )


def heal_and_crash(seed: int, crash_after_s: float | None) -> tuple[OldLeader, float]:
    """One world; returns it, audited, and how long after the heal the old leader truncated."""
    with World(seed=seed) as world:
        story = OldLeader(world)
        story.goes_on_alone()
        assert len(story.accepted) >= COMMANDS, "the old leader made them durable"
        world.heal()
        healed_s = world.now_s
        if crash_after_s is None:
            state = story.group().raft.state
            end = state.log.last
            world.run_until(lambda: state.log.last != end, within_s=30)
            took_s = world.now_s - healed_s
        else:
            world.run(took_s := crash_after_s)
            story.host.crash()
            world.run(0.3)
            story.host.restart()
        story.settles()
        story.audit()
        story.found = list(story.quarantined())
    return story, took_s


def crash_at_each_step(seed: int, truncated_s: float, steps: range) -> None:
    for step in steps:
        heal_and_crash(seed, truncated_s + step * 0.0002)


def test_what_an_old_leader_accepted_alone_is_in_quarantine_with_all_that_is_known() -> None:
    story, _ = heal_and_crash(1, None)
    items = [item for item in story.found if item.fate is Fate.KEPT]
    assert len(items) == COMMANDS
    assert [item.session for item in items] == [(story.session, n) for n in range(COMMANDS)]
    assert {item.origin for item in items} == {story.name}
    assert {item.replaced_by for item in items} < set(story.cluster.names) - {story.name}
    assert not any(item.covered for item in items)


@pytest.mark.parametrize("eighth", range(8))
def test_a_crash_at_any_moment_of_keeping_and_truncating_loses_nothing(eighth: int) -> None:
    """At steps of a fifth of a millisecond; a sync takes more, so every one is hit."""
    _, truncated_s = heal_and_crash(2, None)
    crash_at_each_step(2, truncated_s, range(eighth * 3, eighth * 3 + 3))


def test_truncating_before_the_quarantine_is_durable_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted bug: the same sweep of crashes turns red."""

    def at_once(self: Storing, write) -> bool:
        self._keep(write.dropped)
        return True

    monkeypatch.setattr(Storing, "_kept", at_once)
    _, truncated_s = heal_and_crash(2, None)
    with pytest.raises(AssertionError, match="neither committed nor in quarantine"):
        crash_at_each_step(2, truncated_s, range(24))


def test_a_disk_that_refuses_the_quarantine_does_not_stop_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with World(seed=3) as world:
        story = OldLeader(world)
        story.goes_on_alone()
        disk = story.host.disk
        opened = disk.open

        def refuse(path: str, *, create: bool = False):
            if "quarantine" in path:
                raise OSError(28, "no space")
            return opened(path, create=create)

        monkeypatch.setattr(disk, "open", refuse)
        world.heal()
        story.settles()
        assert "no space" in story.group().quarantine.problem
        assert "no space" in caplog.text
        assert story.group().quarantine.waiting == COMMANDS, "in memory they are still there"
        monkeypatch.undo()
        world.call(story.name, story.group().quarantine.discard(1, by="eva"))
        story.host.crash()
        story.host.restart()
        story.settles()
        assert story.group().quarantine.waiting >= COMMANDS - 1, "kept once the disk took them"


def test_a_quarantine_that_cannot_be_read_is_said_loudly_and_stops_neither_node_nor_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of the disk is not a damaged file: it is not set aside, and read again later."""
    with World(seed=3) as world:
        story = OldLeader(world)
        story.goes_on_alone()
        world.heal()
        story.settles()
        opened = SimDisk.open

        def rotten(disk: SimDisk, path: str, *, create: bool = False):
            if "quarantine" in path:
                raise OSError(5, "input/output error")
            return opened(disk, path, create=create)

        monkeypatch.setattr(SimDisk, "open", rotten)
        story.host.crash()
        story.host.restart()
        started = story.cluster.starts
        world.run_until(lambda: started[story.name] == 2, within_s=30)
        world.run_until(lambda: story.name in story.cluster.running(), within_s=30)
        story.settles()
        keeper = story.group().quarantine
        assert "input/output error" in keeper.problem

        async def keep() -> None:
            await keeper.keep([Dropped(Entry(1, 99, EntryKind.COMMAND, b"x"), "a", "b")])

        keeper.problem = ""
        world.call(story.name, keep())
        assert "1 entries from index 99 on may be lost" in keeper.problem

        monkeypatch.undo()
        world.call(story.name, keep())
        assert keeper.waiting == COMMANDS + 1


def test_a_full_quarantine_says_so_and_never_stops_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Quarantine, "_write", _write_little(Quarantine._write))
    with World(seed=4) as world:
        story = OldLeader(world)
        story.goes_on_alone()
        world.heal()
        story.settles()
        assert "no room for" in story.group().quarantine.problem
        assert "no room for" in caplog.text


def _write_little(write):
    """Pretends that each record is huge, so that the limit is soon reached."""

    def huge(self: Quarantine, packed: bytes) -> None:
        write(self, packed)
        self._size += 32 << 20

    return huge


if __name__ == "__main__":
    crash_at_each_step(int(sys.argv[1]), heal_and_crash(int(sys.argv[1]), None)[1], range(30))
