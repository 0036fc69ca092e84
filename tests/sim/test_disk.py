"""A disk keeps what was synced, may keep the rest, and fails as asked."""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.disk import Disk, DiskFile
from mcpcore.sim import Host, World
from mcpcore.sim.disk import SECTOR_BYTES, SimDisk, SimFile


def on_a_host(work: Any, seed: int = 0) -> tuple[Any, World, Host]:
    world = World(seed)
    with world:
        host = world.host("a")
        return world.call(host, work(host.disk)), world, host


def test_the_simulated_disk_offers_exactly_what_the_log_asks_of_a_disk() -> None:
    for asked, offered in ((Disk, SimDisk), (DiskFile, SimFile)):
        for name, method in vars(asked).items():
            if name.startswith("_") or not callable(method):
                continue
            ours = getattr(offered, name)
            ours_shape = [str(each) for each in inspect.signature(ours).parameters.values()]
            assert ours_shape == [
                str(each) for each in inspect.signature(method).parameters.values()
            ]
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(method), name


writes = st.lists(
    st.tuples(st.integers(0, 3_000), st.binary(min_size=1, max_size=1_500), st.booleans()),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(writes, st.integers(0, 2**32))
def test_after_a_power_loss_every_sector_holds_something_that_was_written_since_the_last_sync(
    steps: list[tuple[int, bytes, bool]], seed: int
) -> None:
    """And every byte that was synced, and not written since, is there."""
    possible: list[set[int]] = []
    with World(seed) as world:
        host = world.host("a")

        async def work() -> None:
            disk = host.disk
            disk.make_dirs("d")
            file = disk.open("d/f", create=True)
            await disk.sync_dir("d")
            for offset, data, sync in steps:
                _extend(possible, offset + len(data))
                for index, byte in enumerate(data):
                    possible[offset + index].add(byte)
                await file.write(offset, data, sync=sync)
                if sync:
                    for index, byte in enumerate(file.read(0, file.size())):
                        possible[index] = {byte}
            disk.check()

        world.call(host, work())
        host.crash()
        host.restart()
        found = host.disk.open("d/f")
        data = found.read(0, found.size())
    for byte, allowed in zip(data, possible, strict=False):
        assert byte in allowed
    for allowed in possible[len(data) :]:
        assert 0 in allowed, "what is missing at the end was never synced"


def _extend(possible: list[set[int]], size: int) -> None:
    while len(possible) < size:
        possible.append({0})


def test_an_unsynced_write_is_kept_lost_or_torn_by_seed() -> None:
    async def work(disk: Any) -> None:
        file = disk.open("f", create=True)
        await file.write(0, b"o" * SECTOR_BYTES * 8, sync=True)
        await disk.sync_dir("")
        await file.write(0, b"n" * SECTOR_BYTES * 8, sync=False)

    fates = set()
    for seed in range(40):
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            host.crash()
            host.restart()
            data = host.disk.open("f").read(0, 10_000)
        sectors = {data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES)}
        assert sectors <= {b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES}, "a sector is never torn"
        fates.add(len(sectors) if len(sectors) > 1 else data[:1])
    assert fates == {b"o", b"n", 2}


def test_a_killed_process_loses_nothing_that_it_wrote() -> None:
    async def work(disk: Any) -> None:
        await disk.open("f", create=True).write(0, b"kept", sync=False)

    for seed in range(10):
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            host.kill()
            host.restart()
            assert host.disk.open("f").read(0, 9) == b"kept"


def test_names_survive_for_certain_only_once_their_directory_is_synced() -> None:
    async def unsynced(disk: Any) -> None:
        file = disk.open("new", create=True)
        await file.write(0, b"new", sync=True)
        disk.rename("new", "name")

    async def synced(disk: Any) -> None:
        await unsynced(disk)
        await disk.sync_dir("")

    def after_crash(work: Any, seed: int) -> tuple[str, ...]:
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            host.crash()
            return tuple(host.disk.list_dir(""))

    assert {after_crash(unsynced, seed) for seed in range(40)} == {(), ("new",), ("name",)}
    assert {after_crash(synced, seed) for seed in range(40)} == {("name",)}


def test_a_removal_may_be_undone_by_a_crash_unless_it_was_synced() -> None:
    async def work(disk: Any) -> None:
        disk.open("f", create=True)
        await disk.sync_dir("")
        disk.remove("f")

    seen = set()
    for seed in range(20):
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            assert not host.disk.exists("f")
            host.crash()
            seen.add(host.disk.exists("f"))
    assert seen == {True, False}


def test_a_sync_takes_time_and_syncs_queue_up() -> None:

    async def work(disk: Any) -> float:
        loop = asyncio.get_running_loop()
        file = disk.open("f", create=True)
        before = loop.time()
        await asyncio.gather(*(file.write(number, b"x", sync=True) for number in range(10)))
        return loop.time() - before

    took, *_ = on_a_host(work)
    assert 0.002 < took < 0.008


def test_a_write_made_during_a_sync_is_covered_by_the_next_one_only() -> None:

    async def work(disk: Any, *, again: bool) -> None:
        file = disk.open("f", create=True)
        await disk.sync_dir("")
        first = asyncio.ensure_future(file.write(0, b"early", sync=True))
        await asyncio.sleep(0.000_01)
        await file.write(5, b"late!", sync=False)
        await first
        if again:
            await file.write(0, b"", sync=True)

    def left(seed: int, *, again: bool) -> bytes:
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk, again=again))
            host.crash()
            return host.disk.open("f").read(0, 10)

    assert {left(seed, again=False) for seed in range(20)} == {b"early", b"earlylate!"}
    assert {left(seed, again=True) for seed in range(20)} == {b"earlylate!"}


def test_a_lying_sync_says_yes_and_keeps_nothing() -> None:
    async def work(disk: Any) -> None:
        file = disk.open("f", create=True)
        await disk.sync_dir("")
        disk.lying = True
        await file.write(0, b"promised", sync=True)

    lost = 0
    for seed in range(30):
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            assert host.disk.touched == {"lying_sync": 1}
            host.crash()
            lost += host.disk.open("f").size() == 0
    assert 5 < lost < 30


def test_a_lost_sync_fails_once_and_the_next_one_lies() -> None:
    """Rebello et al. 2020: after a failed fsync the pages are clean and the data is nowhere."""

    async def work(disk: Any) -> None:
        file = disk.open("f", create=True)
        await disk.sync_dir("")
        disk.losing_syncs = 1
        with pytest.raises(OSError, match="Input/output") as caught:
            await file.write(0, b"gone", sync=True)
        assert caught.value.errno == errno.EIO
        await file.write(4, b"here", sync=True)
        assert file.read(0, 8) == b"gonehere"

    for seed in range(5):
        with World(seed) as world:
            host = world.host("a")
            world.call(host, work(host.disk))
            host.crash()
            assert host.disk.open("f").read(0, 9) == b"\0\0\0\0here"


def test_a_full_disk_refuses_growth_and_allows_overwriting() -> None:
    async def work(disk: Any) -> str:
        file = disk.open("f", create=True)
        await file.write(0, bytes(100), sync=True)
        disk.capacity_bytes = 150
        await file.write(0, b"x" * 100, sync=True)
        with pytest.raises(OSError, match="No space") as caught:
            await file.write(100, bytes(51), sync=False)
        assert file.size() == 100
        return errno.errorcode[caught.value.errno or 0]

    assert on_a_host(work)[0] == "ENOSPC"


def test_a_failing_disk_raises_until_it_is_healed() -> None:
    async def work(disk: Any) -> None:
        file = disk.open("f", create=True)
        disk.failing = errno.EIO
        for attempt in (file.write(0, b"x", sync=True), file.truncate(0), disk.sync_dir("")):
            with pytest.raises(OSError, match="simulated disk error"):
                await attempt
        disk.heal()
        await file.write(0, b"x", sync=True)

    on_a_host(work)


def test_a_stalled_disk_answers_when_the_stall_is_over() -> None:
    async def work(disk: Any) -> None:
        await disk.open("f", create=True).write(0, b"x", sync=True)

    with World() as world:
        host = world.host("a")
        host.disk.stall()
        task = host.spawn(work(host.disk))
        world.run(60)
        assert not task.done()
        host.disk.unstall()
        world.run(0.1)
        assert task.done()
        assert host.disk.touched == {"stall": 1}


def test_rot_flips_exactly_as_many_bits_as_asked() -> None:
    async def work(disk: Any) -> int:
        file = disk.open("f", create=True)
        await file.write(0, bytes(4_096), sync=True)
        assert disk.rot(3) == 3
        return sum(byte.bit_count() for byte in file.read(0, 4_096))

    assert on_a_host(work, seed=1)[0] == 3


def test_a_misdirected_write_lands_elsewhere_and_claims_success() -> None:
    async def work(disk: Any) -> bytes:
        file = disk.open("f", create=True)
        await file.write(0, bytes(SECTOR_BYTES * 64), sync=True)
        disk.misdirecting = 1
        await file.write(0, b"hello", sync=True)
        data: bytes = file.read(0, SECTOR_BYTES * 64)
        return data

    data = on_a_host(work)[0]
    assert data.count(b"hello") == 1
    assert data.index(b"hello") % SECTOR_BYTES == 0
    assert not data.startswith(b"hello")


def test_a_stale_read_shows_what_stood_there_before() -> None:
    async def work(disk: Any) -> tuple[bytes, bytes]:
        file = disk.open("f", create=True)
        await file.write(0, b"old-old", sync=True)
        await file.write(0, b"new", sync=True)
        disk.stale_reads = 1
        return file.read(0, 7), file.read(0, 7)

    assert on_a_host(work)[0] == (b"old-old", b"new-old")


def test_a_wiped_disk_is_empty() -> None:
    async def work(disk: Any) -> None:
        disk.make_dirs("x/y")
        await disk.open("x/y/f", create=True).write(0, b"x", sync=True)
        await disk.sync_dir("x/y")

    with World() as world:
        host = world.host("a")
        world.call(host, work(host.disk))
        assert host.disk.list_dir("x") == ["y"]
        host.wipe()
        assert host.disk.list_dir("") == []
        assert not host.disk.exists("x/y/f")


def test_missing_files_and_closed_ones_are_refused() -> None:
    async def work(disk: Any) -> None:
        for attempt in (
            lambda: disk.open("nothing"),
            lambda: disk.open("no/such/dir", create=True),
            lambda: disk.rename("nothing", "x"),
            lambda: disk.remove("nothing"),
            lambda: disk.rot(1, path="nothing"),
        ):
            with pytest.raises(FileNotFoundError):
                attempt()
        file = disk.open("f", create=True)
        file.close()
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read(0, 1)

    on_a_host(work)


def test_a_sync_under_way_when_the_power_goes_never_returns() -> None:
    reached: list[str] = []

    async def work(disk: Any) -> None:
        await disk.open("f", create=True).write(0, b"x", sync=True)
        reached.append("after the sync")

    def coroutine(host: Host) -> Coroutine[Any, Any, None]:
        return work(host.disk)

    with World() as world:
        host = world.host("a")
        host.spawn(coroutine(host))
        world.run(0.000_05)
        host.crash()
        host.restart()
        world.run(10)
    assert reached == []
