"""A member that comes back over a thin link catches up beside the other traffic, not before it.

The real node on simulated hosts: two groups share the connections, and one of them owes a member
megabytes. What the other group's entries have to wait is measured with pacing and without.
``python -m tests.node.test_pacing_in_simulator`` prints the figures of docs/split.md.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from unittest import mock

import pytest

from mcpcore.raft import backlog
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.sim import Delay, Link, World
from tests.node.test_many_groups_in_simulator import Crowd

SETTINGS = RaftSettings(election_timeout_ns=2000 * MILLISECOND, heartbeat_ns=400 * MILLISECOND)
ENTRIES, ENTRY_BYTES = 2500, 1000
EVERY_S = 0.1


class Measured(NamedTuple):
    """What came of one reunion.

    Args:
        waits_s: how long each entry of the other group took to be applied on the member.
        took_s: until the member had its backlog.
        elections: how many leaders were elected meanwhile.
    """

    waits_s: list[float]
    took_s: float
    elections: int

    def share(self, of: float) -> float:
        waits = sorted(self.waits_s)
        return waits[min(len(waits) - 1, int(of * len(waits)))]


def reunion(*, kib_per_s: int, one_way_ms: float, paced: bool, seed: int = 1) -> Measured:
    unlimited = 1 << 40
    with (
        mock.patch.object(backlog, "FRESH_ENTRIES", backlog.FRESH_ENTRIES if paced else unlimited),
        mock.patch.object(backlog, "PROBE_BYTES", backlog.PROBE_BYTES if paced else unlimited),
        World(seed=seed) as world,
    ):
        crowd = Crowd(world, 2, settings=SETTINGS)
        crowd.settle()
        leader = crowd.leader("g0")
        if crowd.leader("g1") != leader:
            other = crowd.nodes[crowd.leader("g1")].group("g1")
            world.call(crowd.leader("g1"), _now(lambda: other.transfer_leadership(leader)))
            world.run_until(lambda: crowd.leader("g1") == leader, within_s=10)
        away = next(name for name in crowd.hosts if name != leader)
        link = Link(
            delay=Delay("uniform", one_way_ms, 0.2),
            bandwidth_bps=kib_per_s * 8192,
            queue_bytes=64 << 20,
        )
        world.network.isolate(away)
        world.run(3)
        busy, quiet = (crowd.nodes[leader].group(name) for name in ("g0", "g1"))

        async def write() -> None:
            for number in range(ENTRIES):
                busy.propose(number.to_bytes(4) * (ENTRY_BYTES // 4))
                if number % 50 == 0:
                    await asyncio.sleep(0.01)

        world.call(leader, write(), within_s=30)
        world.run(2)
        world.network.set_link(leader, away, link)
        world.network.set_link(away, leader, link)
        world.heal()
        crowd.elections.clear()
        group = crowd.nodes[away].group
        target, healed_s = busy.raft.state.commit, world.now_s
        world.run_until(lambda: group("g1").raft.leader == leader, within_s=60)
        sent: dict[int, float] = {}
        waits: list[float] = []

        def look() -> None:
            for index in [index for index in sent if index <= group("g1").applied]:
                waits.append(world.now_s - sent.pop(index))

        world.check_each_instant(look)
        began_s = world.now_s
        while group("g0").applied < target and world.now_s - began_s < 90:
            world.call(leader, _now(lambda: quiet.propose(b"ping")), within_s=1)
            sent[quiet.raft.state.log.last_index] = world.now_s
            world.run(EVERY_S)
        took_s = world.now_s - healed_s
        world.run(20)
        assert not sent, "everything arrived in the end"
        return Measured(waits, took_s, len(crowd.elections))


async def _now(act) -> None:
    act()


def test_a_backlog_leaves_the_link_to_others() -> None:
    measured = reunion(kib_per_s=256, one_way_ms=20, paced=True)
    assert measured.share(0.99) < 0.25
    assert measured.took_s < 25, "and uses what they leave: 2.5 MB at 256 KiB/s take 10 s"
    assert measured.elections == 0


def test_without_pacing_the_others_wait_behind_the_backlog() -> None:
    """Why it is there: the same reunion, all at once."""
    measured = reunion(kib_per_s=256, one_way_ms=20, paced=False)
    assert measured.share(0.99) > 1.0


@pytest.mark.soak
@pytest.mark.parametrize("kib_per_s", [128, 512, 2048])
@pytest.mark.parametrize("one_way_ms", [5, 110])
def test_a_backlog_leaves_any_link_to_others(kib_per_s: int, one_way_ms: float) -> None:
    measured = reunion(kib_per_s=kib_per_s, one_way_ms=one_way_ms, paced=True)
    assert measured.share(0.99) < 2 * one_way_ms / 1000 + 0.3


if __name__ == "__main__":
    print("| link | | p50 | p99 | worst | caught up after | elections |")  # noqa: T201
    for kib, ms in ((256, 20), (256, 110), (1024, 20), (1024, 110)):
        for paced in (False, True):
            found = reunion(kib_per_s=kib, one_way_ms=ms, paced=paced)
            print(  # noqa: T201
                f"| {kib} KiB/s, {ms} ms | {'paced' if paced else 'at once'} "
                f"| {found.share(0.5):.3f} s | {found.share(0.99):.3f} s "
                f"| {max(found.waits_s):.3f} s | {found.took_s:.1f} s | {found.elections} |",
                flush=True,
            )
