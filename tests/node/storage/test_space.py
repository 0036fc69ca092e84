"""Space on the disk: waiting for it, and giving back what nobody needs."""

from __future__ import annotations

import asyncio
import time

import pytest

from mcpcore.errors import StorageBusy, StorageFailed
from mcpcore.node.storage import wal
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.raft.types import HardState, LogPosition
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import TRIO, WE, block


async def open_log(disk: RamDisk, **options: int) -> WriteAheadLog:
    options.setdefault("segment_bytes", 4096)
    return await WriteAheadLog.open(
        disk, "log", identity=WE, monotonic_ns=time.monotonic_ns, **options
    )


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- Full ---------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_entries_and_goes_on_by_itself_once_there_is_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wal, "NO_SPACE_RETRY_S", 0.01)
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=8192, reserve_bytes=4096)
    await log.create_group("g", TRIO)
    disk.capacity_bytes = disk.used_bytes
    last = log.submit("g", None, [block(1, 1, size=4096)])
    await asyncio.sleep(0.05)

    assert log.no_space
    assert log.full
    assert not last.done()
    assert log.failure is None
    with pytest.raises(StorageBusy):
        log.submit("g", None, [block(2, 2)])
    assert log.oldest_pending_since_ns is not None

    disk.capacity_bytes = None
    await last
    assert not log.no_space
    assert not log.full
    await log.submit("g", None, [block(2, 2)])
    await log.close()
    log = await open_log(disk)
    assert log.groups()["g"].last.index == 2
    await log.close()


async def test_a_disk_that_fills_up_while_a_segment_begins_leaves_no_half_segment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wal, "NO_SPACE_RETRY_S", 0.01)
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=2048)
    await log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 1)])
    disk.capacity_bytes = disk.used_bytes + 100
    last = log.submit("g", None, [block(2, 2)])
    await asyncio.sleep(0.05)

    assert log.no_space
    assert disk.list_dir("log") == ["00000001.log", "lock"]
    disk.capacity_bytes = None
    await last
    assert disk.list_dir("log") == ["00000001.log", "00000002.log", "lock"]
    await log.close()


async def test_closing_on_a_full_disk_does_not_wait_for_space() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=8192, reserve_bytes=4096)
    await log.create_group("g", TRIO)
    disk.capacity_bytes = disk.used_bytes
    last = log.submit("g", None, [block(1, 1, size=4096)])
    await turns()
    async with asyncio.timeout(0.5):
        await log.close()
    with pytest.raises(StorageFailed, match="disk was full"):
        await last


async def test_a_full_disk_still_takes_batches_into_space_that_was_reserved() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=1 << 16, reserve_bytes=1 << 14)
    await log.create_group("g", TRIO)
    disk.capacity_bytes = disk.used_bytes
    for at in range(1, 20):
        await log.submit("g", HardState(at, "n1"), [])
    await log.close()


@pytest.mark.parametrize("size", range(1, 4000, 300))
async def test_probing_and_closing_never_need_space(size: int) -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=1 << 16, reserve_bytes=1)
    await log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 1, size=size)])
    disk.capacity_bytes = disk.used_bytes
    await log.probe()
    await log.close()
    assert log.failure is None
    log = await open_log(disk)
    assert log.report.sealed
    await log.close()
    assert log.failure is None


# --- Space that comes back ----------------------------------------------------------------------


def segments(disk: RamDisk) -> list[int]:
    return [int(name[:8]) for name in disk.list_dir("log") if name.endswith(".log")]


async def test_old_segments_go_once_no_group_needs_them() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=4096)
    log.create_group("busy", TRIO)
    await log.create_group("quiet", TRIO)
    await log.submit("quiet", HardState(3, "n2"), [block(1, 2)])
    for at in range(1, 40):
        await log.submit("busy", None, [block(at, at, size=400)])
    assert segments(disk)[0] == 1
    assert len(segments(disk)) > 4

    await log.compact("busy", LogPosition(1, 39), TRIO)
    assert segments(disk)[0] == 1, "the quiet group's entries live there"
    assert log.pinned_by() == ("quiet",)
    await log.compact("quiet", LogPosition(1, 2), TRIO)
    assert len(segments(disk)) == 1
    assert log.pinned_by() == ()
    await log.close()

    log = await open_log(disk)
    groups = log.groups()
    assert groups["quiet"].hard_state == HardState(3, "n2")
    assert groups["quiet"].base == LogPosition(1, 2)
    assert groups["busy"].base == LogPosition(1, 39)
    await log.close()


async def test_votes_alone_never_make_the_log_grow_without_end() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=4096)
    await log.create_group("g", TRIO)
    for term in range(1, 200):
        await log.submit("g", HardState(term, "n1"), [])
    assert len(segments(disk)) <= 2
    await log.close()
    log = await open_log(disk)
    assert log.groups()["g"].hard_state == HardState(199, "n1")
    await log.close()


async def test_entries_that_were_replaced_do_not_pin_a_segment() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=4096)
    await log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 50, size=80)])  # fills the first segment
    for term in range(2, 30):
        await log.submit("g", None, [block(2, 2, term=term, size=400)])
    await log.compact("g", LogPosition(29, 2), TRIO)
    assert len(segments(disk)) == 1
    await log.close()


async def test_what_pins_a_segment_is_known_again_after_a_restart() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=4096)
    log.create_group("a", TRIO)
    log.create_group("b", TRIO)
    log.create_group("c", TRIO)
    await log.submit("c", None, [block(1, 1)])
    await log.submit("b", None, [block(1, 1)])
    for at in range(1, 20):
        await log.submit("a", None, [block(at, at, size=400)])
    await log.retire_group("c")
    await log.close()

    log = await open_log(disk, segment_bytes=4096)
    assert log.pinned_by() == ("a", "b")
    await log.compact("a", LogPosition(1, 19), TRIO)
    assert log.pinned_by() == ("b",)
    await log.replace_log("b", LogPosition(4, 44), TRIO)
    assert len(segments(disk)) == 1
    await log.close()


@pytest.mark.parametrize("crash_after_removals", [0, 1, 2])
async def test_a_crash_while_old_segments_go_leaves_no_gap(crash_after_removals: int) -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=2048)
    await log.create_group("g", TRIO)
    for at in range(1, 12):
        await log.submit("g", None, [block(at, at, size=400)])
    removed: list[str] = []
    frozen: list[RamDisk] = []
    plain_remove = disk.remove

    def remove(path: str) -> None:
        if len(removed) == crash_after_removals:
            # Removals of which no sync told anything may be durable or not: take them all as lost
            # but keep what a sync of the directory has confirmed.
            frozen.append(disk.after_power_failure())
        removed.append(path)
        plain_remove(path)

    disk.remove = remove  # type: ignore[method-assign]
    await log.compact("g", LogPosition(1, 11), TRIO)
    await log.close()

    assert segments(frozen[0])[0] == crash_after_removals + 1
    log = await open_log(frozen[0], segment_bytes=2048)
    assert log.groups()["g"].base == LogPosition(1, 11)
    await log.close()


async def test_restarts_do_not_make_a_segment_grow_beyond_its_size() -> None:
    disk = RamDisk()
    for at in range(1, 20):
        log = await open_log(disk, segment_bytes=2048)
        if at == 1:
            log.create_group("g", TRIO)
        await log.submit("g", None, [block(at, at, size=400)])
        await log.close()
    assert len(segments(disk)) > 5
    assert max(len(inode.seen) for inode in disk.names.values()) <= 2048 + 512


async def test_a_segment_that_was_never_finished_is_removed_at_open() -> None:
    disk = RamDisk()
    await (await open_log(disk)).close()
    half = disk.with_file("log/00000002.tmp", b"half a segment")
    log = await open_log(half)
    assert half.list_dir("log") == ["00000001.log", "lock"]
    await log.close()


async def test_a_batch_larger_than_a_segment_is_stored_whole() -> None:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=2048)
    await log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 3, size=5000)])
    await log.submit("g", None, [block(4, 4)])
    await log.close()
    log = await open_log(disk)
    assert log.groups()["g"].last.index == 4
    await log.close()
