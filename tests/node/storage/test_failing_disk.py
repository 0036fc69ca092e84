"""What a log device does when its disk stalls or fails."""

from __future__ import annotations

import asyncio
import errno
import gc
import time

import pytest

from mcpcore.errors import StorageClosed, StorageFailed
from mcpcore.node.memory_storage import MemoryLog, MemoryStore
from mcpcore.node.wal import WriteAheadLog
from mcpcore.raft.types import HardState
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import TRIO, WE, block


async def open_log(disk: RamDisk, **options: object) -> WriteAheadLog:
    options.setdefault("monotonic_ns", time.monotonic_ns)
    options.setdefault("segment_bytes", 4096)
    return await WriteAheadLog.open(disk, "log", identity=WE, **options)  # type: ignore[arg-type]


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- Failed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["write", "sync"])
async def test_after_a_failed_write_or_sync_nothing_is_tried_again(what: str) -> None:
    """After a failed sync the cache forgets what it could not write; a second one would lie."""
    disk = RamDisk()
    told: list[StorageFailed] = []
    log = await open_log(disk, on_failure=told.append)
    await log.create_group("g", TRIO)
    if what == "write":
        disk.fail_write_number = disk.writes + 1
    else:
        disk.fail_sync_number = disk.syncs + 1

    first = log.submit("g", None, [block(1, 1)])
    await asyncio.sleep(0)
    waiting = log.submit("g", None, [block(2, 2)])
    with pytest.raises(StorageFailed, match=f"the {what} failed"):
        await first
    with pytest.raises(StorageFailed):
        await waiting
    writes = disk.writes
    with pytest.raises(StorageFailed):
        await log.submit("g", HardState(1, "n1"), [])
    with pytest.raises(StorageFailed):
        await log.probe()

    assert disk.writes == writes, "a failed device never touches its disk again"
    assert told == [log.failure]
    assert log.oldest_pending_since_ns is None
    await log.close()
    assert disk.writes == writes
    assert first.exception() is not None


@pytest.mark.parametrize("size", [100, 9000])
async def test_an_error_while_making_room_is_final_unless_it_says_full(size: int) -> None:
    """Both ways of making room: more zeros in the segment, or a new segment."""
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=1 << 20 if size > 100 else 2048, reserve_bytes=2048)
    await log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 1)])
    disk.fail_sync_number = disk.syncs + 1
    with pytest.raises(StorageFailed, match="the sync failed"):
        await log.submit("g", None, [block(2, 2, size=size)])
    assert log.failure is not None
    assert not log.no_space


async def test_what_a_failed_sync_left_in_the_cache_is_written_again_at_recovery() -> None:
    """The cache shows a batch that the disk never got: recovery must not trust the cache alone."""
    disk = RamDisk()
    log = await open_log(disk)
    await log.create_group("g", TRIO)
    disk.fail_sync_number = disk.syncs + 1
    with pytest.raises(StorageFailed):
        await log.submit("g", None, [block(1, 1)])
    await log.close()
    # As Linux does: the pages count as clean now, so that only rewriting them makes them durable.
    inode = disk.names["log/00000001.log"]
    lost = inode.dirty_sectors()
    written: set[int] = set()
    plain_write = type(disk.open("log/00000001.log")).write

    async def noting_write(self: object, offset: int, data: bytes, *, sync: bool) -> None:
        written.update(range(offset, offset + len(data), 512))
        await plain_write(self, offset, data, sync=sync)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(disk.open("log/00000001.log")), "write", noting_write)
        log = await open_log(disk)

    assert log.groups()["g"].last.index == 1
    assert set(lost) <= written
    await log.close()


async def test_what_was_recovered_is_durable_before_open_returns() -> None:
    """kill -9 leaves unsynced bytes in the cache; whoever reads them may act on them."""
    disk = RamDisk()
    log = await open_log(disk)
    await log.create_group("g", TRIO)
    disk.syncs_return.clear()
    log.submit("g", HardState(5, "n2"), [])
    await turns()
    killed = disk.after_process_death()

    log = await open_log(killed)
    assert log.groups()["g"].hard_state == HardState(5, "n2")
    after = await open_log(killed.after_power_failure())

    assert after.groups()["g"].hard_state == HardState(5, "n2")


async def test_a_disk_that_fails_at_open_is_reported_as_such() -> None:
    disk = RamDisk()
    disk.fail_write_number = 1
    with pytest.raises(StorageFailed, match="cannot be opened"):
        await open_log(disk)


async def test_a_bug_in_the_writer_fails_the_callers_instead_of_hanging_them() -> None:
    log = await open_log(RamDisk())

    async def broken(batch: object) -> int:
        raise AssertionError("an invariant is broken")

    log._write_batch = broken  # type: ignore[method-assign]
    with pytest.raises(StorageFailed, match="an invariant is broken"):
        await log.create_group("g", TRIO)
    assert isinstance(log._writer.exception(), AssertionError)


async def test_cancelling_the_writer_fails_the_callers() -> None:
    disk = RamDisk()
    log = await open_log(disk)
    disk.syncs_return.clear()
    future = log.create_group("g", TRIO)
    await turns()
    log._writer.cancel()
    with pytest.raises(StorageFailed):
        await future


async def test_futures_that_were_dropped_do_not_flood_the_loop_with_one_failure() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    disk = RamDisk()
    log = await open_log(disk)
    await log.create_group("g", TRIO)
    disk.fail_sync_number = disk.syncs + 1
    for at in range(1, 10):
        log.submit("g", None, [block(at, at)])
    await turns()
    log.submit("g", HardState(1, "n1"), [])
    await log.close()
    gc.collect()
    assert complaints == []
    assert log.failure is not None


# --- Stalled ------------------------------------------------------------------------------------


async def test_a_stalled_sync_can_be_seen_and_everything_behind_it_waits() -> None:
    """Hunt: a leader whose sync never returns keeps sending heartbeats."""
    now = [1_000]
    disk = RamDisk()
    log = await open_log(disk, monotonic_ns=lambda: now[0])
    await log.create_group("g", TRIO)
    disk.syncs_return.clear()
    stuck = log.submit("g", None, [block(1, 1)])
    now[0] = 5_000
    await turns()
    behind = log.submit("g", None, [block(2, 2)])
    await turns()

    assert log.oldest_pending_since_ns == 1_000
    assert not stuck.done()
    assert not behind.done()

    now[0] = 9_000
    disk.syncs_return.set()
    await behind
    assert stuck.done()
    assert log.oldest_pending_since_ns is None
    await log.close()


async def test_everything_handed_in_during_a_sync_goes_out_in_the_next_one() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=1 << 20)
    await log.create_group("g", TRIO)
    disk.syncs_return.clear()
    log.submit("g", None, [block(1, 1)])
    await turns()
    futures = []
    for at in range(2, 50):
        futures.append(log.submit("g", None, [block(at, at)]))
        await asyncio.sleep(0)
    before = disk.syncs
    disk.syncs_return.set()
    await asyncio.gather(*futures)

    assert disk.syncs == before + 1
    await log.close()


async def test_the_memory_device_stalls_and_fails_on_demand() -> None:
    log = await MemoryLog.open(MemoryStore(), identity=WE, monotonic_ns=time.monotonic_ns)
    log.hold()
    log.hold()
    future = log.create_group("g", TRIO)
    await turns()
    assert not future.done()
    assert log.oldest_pending_since_ns is not None
    log.release()
    await future
    log.release()
    log.break_disk(OSError(errno.EIO, "broken"))
    with pytest.raises(StorageFailed, match="broken"):
        await log.probe()
    await log.close()


async def test_a_crash_of_the_memory_device_tells_nobody_and_fails_what_is_pending() -> None:
    told: list[StorageFailed] = []
    log = await MemoryLog.open(
        MemoryStore(), identity=WE, monotonic_ns=time.monotonic_ns, on_failure=told.append
    )
    await log.create_group("g", TRIO)
    log.hold()
    future = log.submit("g", None, [block(1, 1)])
    await turns()
    store = log.crash()
    again = await MemoryLog.open(store, identity=WE, monotonic_ns=time.monotonic_ns)
    with pytest.raises(StorageFailed):
        await future
    with pytest.raises(StorageClosed):
        log.probe()
    assert told == []
    assert again.groups()["g"].entries == ()
    await again.submit("g", None, [block(1, 1)])
    await again.close()
