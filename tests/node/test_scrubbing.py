"""Rot is found in the background, while memory still has what the disk lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mcpcore.node.scrubbing import Scrubber
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import verify
from mcpcore.raft.types import Entry, HardState
from tests.node.storage.ram_disk import SECTOR, RamDisk
from tests.node.storage.world import TRIO, WE, block


@dataclass
class Memory:
    """A group whose log is in memory."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    busy: bool = False

    def stored_entries(self) -> list[Entry] | None:
        return None if self.busy else self.entries


async def written(disk: RamDisk) -> tuple[WriteAheadLog, dict[str, Memory]]:
    """Two groups over many small segments; ``h`` writes in the first ones only."""
    log = await WriteAheadLog.open(
        disk,
        "log",
        identity=WE,
        monotonic_ns=time.monotonic_ns,
        segment_bytes=4 * SECTOR,
        reserve_bytes=SECTOR,
    )
    groups = {name: Memory(name) for name in "gh"}
    for name in groups:
        await log.create_group(name, TRIO)
    for index in range(1, 13):
        for name in "gh" if index < 4 else "g":
            new = block(index, index, size=300)
            await log.submit(name, HardState(1, ""), [new])
            groups[name].entries += new.entries
    return log, groups


def scrubber(disk: RamDisk, log: WriteAheadLog, groups: dict[str, Memory]) -> Scrubber:
    return Scrubber(disk, "log", log, groups.values, bytes_per_s=1 << 40)


def rot(disk: RamDisk, number: int, at: int = SECTOR + 100) -> None:
    inode = disk.names[f"log/{number:08}.log"]
    inode.seen[at] ^= 1
    inode.durable[at] ^= 1


async def test_a_sound_log_is_read_and_left_as_it_is() -> None:
    disk = RamDisk()
    log, groups = await written(disk)
    before = {name: bytes(inode.seen) for name, inode in disk.names.items()}
    scrub = scrubber(disk, log, groups)
    await scrub.round()
    assert scrub.status.damaged == []
    assert scrub.status.bytes_read > 4_000
    assert {name: bytes(inode.seen) for name, inode in disk.names.items()} == before
    await log.close()


async def test_damage_in_any_finished_segment_is_reported_and_mended_from_memory() -> None:
    disk = RamDisk()
    log, _ = await written(disk)
    segments = log.finished_segments()
    await log.close()
    assert len(segments) > 4
    for number in segments:
        for at in (5, SECTOR + 3, SECTOR + 100, 2 * SECTOR + 30):
            disk = RamDisk()
            log, groups = await written(disk)
            rot(disk, number, at)
            if verify(disk, "log").corrupt is None:
                await log.close()
                continue  # padding
            scrub = scrubber(disk, log, groups)
            await scrub.round()
            assert len(scrub.status.damaged) == 1, (number, at)
            assert f"{number:08}.log" in scrub.status.damaged[0]
            assert scrub.status.mended == 1
            assert number not in log.finished_segments()
            await log.submit("g", None, [block(13, 13)])
            await log.close()
            assert verify(disk, "log").corrupt is None
            again = await WriteAheadLog.open(
                disk, "log", identity=WE, monotonic_ns=time.monotonic_ns
            )
            assert list(again.groups()["h"].entries) == groups["h"].entries
            assert list(again.groups()["g"].entries[:12]) == groups["g"].entries
            assert again.groups()["g"].last.index == 13
            await again.close()


async def test_a_file_that_cannot_be_read_is_mended_too() -> None:
    disk = RamDisk()
    log, groups = await written(disk)
    disk.remove("log/00000002.log")
    disk.names["log/00000002.log"] = type(disk.names["log/00000003.log"])()
    scrub = scrubber(disk, log, groups)
    await scrub.round()
    assert scrub.status.mended == 1
    await log.close()
    assert verify(disk, "log").corrupt is None


async def test_whenever_the_power_fails_meanwhile_no_entry_is_lost_that_was_not_rotten() -> None:
    for number in range(1, 10):
        disk = RamDisk()
        log, groups = await written(disk)
        rot(disk, 2)
        disk.fail_sync_number = disk.syncs + number
        scrub = scrubber(disk, log, groups)
        await scrub.round()
        await log.close()
        report = verify(disk.after_power_failure(), "log")
        assert report.corrupt is None or "00000002.log" in str(report.corrupt)


async def test_a_group_that_is_behind_is_mended_another_time() -> None:
    disk = RamDisk()
    log, groups = await written(disk)
    rot(disk, 2)
    groups["h"].busy = True
    scrub = scrubber(disk, log, groups)
    await scrub.round()
    assert (len(scrub.status.damaged), scrub.status.mended) == (1, 0)
    groups["h"].busy = False
    await scrub.round()
    assert scrub.status.mended == 1
    await log.close()
