"""A torn tail may be cut, rot may not: by brute force over every byte.

Hunt: "a torn tail and rot in the middle of the log treated alike. Only a torn tail may be cut; rot
means 'I no longer know'" (Alagappan et al., FAST 2018).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import product
from random import Random

import pytest

from mcpcore.errors import StorageCorrupt
from mcpcore.node.storage.contract import RecoveryReport
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import records, verify
from mcpcore.raft.types import HardState
from tests.node.storage.ram_disk import SECTOR, RamDisk
from tests.node.storage.world import TRIO, WE, block

PATH = "log/00000001.log"
GROUP_BATCH, BATCHES = 2, 5  # batch 1 is the segment's head, batch 2 creates the group
RESERVE = 12 * SECTOR


@dataclass(frozen=True)
class Log:
    disk: RamDisk
    data: bytes
    spans: list[tuple[int, int]]
    """Where each batch stands."""
    tail: int


async def open_log(disk: RamDisk, **options: int) -> WriteAheadLog:
    return await WriteAheadLog.open(
        disk,
        "log",
        identity=WE,
        monotonic_ns=time.monotonic_ns,
        reserve_bytes=options.pop("reserve_bytes", RESERVE),
        **options,
    )


async def make_log(*, sealed: bool) -> Log:
    """Five batches: head, group, and three appends of one entry, the last over three sectors."""
    disk = RamDisk()
    log = await open_log(disk)
    await log.create_group("g", TRIO)
    for index, size in ((1, 40), (2, 40), (3, 1240)):
        await log.submit("g", HardState(index, ""), [block(index, index, size=size)])
    if sealed:
        await log.close()
    disk = disk.after_process_death()
    spans = [(batch.offset, batch.end) for batch in records(disk, "log")]
    assert len(spans) == BATCHES
    assert spans[-1][1] - spans[-1][0] == 3 * SECTOR
    data = disk.open(PATH).read(0, 1 << 20)
    return Log(disk, data, spans, spans[-1][1])


async def recover(disk: RamDisk) -> tuple[int, RecoveryReport]:
    """How many entries came back, after making sure that the log works on from there."""
    log = await open_log(disk)
    groups = log.groups()
    entries = groups["g"].entries if groups else ()
    assert entries == block(1, 3, size=40).entries[: len(entries)] or len(entries) == 3
    if groups:
        await log.submit("g", None, [block(len(entries) + 1, len(entries) + 1, term=9)])
    await log.close()
    after = verify(disk, "log")
    assert after.corrupt is None
    assert after.torn is None
    again = await open_log(disk)
    if groups:
        assert again.groups()["g"].last.index == len(entries) + 1
    await again.close()
    return len(entries), log.report


async def test_a_log_cut_at_any_byte_keeps_every_batch_before_the_cut() -> None:
    log = await make_log(sealed=False)
    for cut in range(log.tail + 1):
        disk = log.disk.with_file(PATH, log.data[:cut])
        if cut < SECTOR + 24:  # the header and the head of the first batch are durable together
            with pytest.raises(StorageCorrupt) as error:
                await open_log(disk)
            assert error.value.path == PATH
            continue
        whole = sum(cut >= end or not any(log.data[cut:end]) for _, end in log.spans)
        if cut % SECTOR in (0, 1, 24, 48, 511) or cut % 29 == 0:
            entries, report = await recover(disk)
        else:
            report = verify(disk, "log")
            entries = report.entries
            assert report.corrupt is None
        assert entries == max(whole - GROUP_BATCH, 0)
        last_end = log.spans[whole - 1][1]
        assert (report.torn is not None) == (cut > last_end)
        if report.torn is not None:
            assert (report.torn.path, report.torn.offset) == (PATH, last_end)
            assert report.torn.length_bytes == cut - last_end


@pytest.mark.parametrize("sealed", [False, True])
async def test_any_flipped_byte_is_refused_cut_or_harmless(sealed: bool) -> None:
    """Refused wherever something later proves that the byte was durable; never a wrong entry."""
    log = await make_log(sealed=sealed)
    outcomes = {"refused": 0, "cut": 0, "harmless": 0}
    last_start, last_end = log.spans[-1]
    for at in range(len(log.data)):
        data = bytearray(log.data)
        data[at] ^= 0x40
        disk = log.disk.with_file(PATH, bytes(data))
        report = verify(disk, "log")
        if report.corrupt is not None:
            outcomes["refused"] += 1
            assert at < (last_end if sealed else last_start)
            assert report.corrupt.path == PATH
            assert (
                report.corrupt.offset == max([0] + [start for start, _ in log.spans if start <= at])
                or at < SECTOR
            )
            with pytest.raises(StorageCorrupt):
                await open_log(disk)
        elif report.torn is not None:
            outcomes["cut"] += 1
            assert at >= (last_end if sealed else last_start)
            if at % 37 == 0 or at < last_end:  # open, the slow part, on a sample of the zeros
                entries, _ = await recover(disk)
                assert entries == (2 if at < last_end else 3)
        else:
            outcomes["harmless"] += 1  # padding between a batch's bytes and the sector's end
            assert report.entries == 3
    # The rest of what a disk could do to us is decided above; here, that each case was met.
    assert outcomes["refused"] > 800
    assert outcomes["cut"] > 1500
    assert outcomes["harmless"] > 500


@pytest.mark.parametrize("before", ["zeros", "a seal"])
async def test_whatever_sectors_of_the_last_write_survive_the_log_opens(before: str) -> None:
    """A disk may write later sectors of a write and not the earlier ones."""
    for subset in product((False, True), repeat=3):
        disk = RamDisk()
        log = await open_log(disk)
        await log.create_group("g", TRIO)
        await log.submit("g", None, [block(1, 2, size=40)])
        if before == "a seal":
            await log.probe()
        disk.syncs_return.clear()
        start = [batch.end for batch in records(disk, "log")][-1]
        log.submit("g", None, [block(3, 3, size=1240)])
        for _ in range(5):
            await asyncio.sleep(0)
        assert disk.names[PATH].dirty_sectors() == [start, start + SECTOR, start + 2 * SECTOR]
        survivors = {start + SECTOR * nth for nth in range(3) if subset[nth]}
        broken = disk.after_power_failure(survivors)

        entries, report = await recover(broken)

        assert entries == (3 if all(subset) else 2)
        if any(subset) and not all(subset):
            assert report.torn is not None


async def test_a_torn_batch_is_not_taken_for_rot_of_the_one_before() -> None:
    """The next test's counterpart: here the earlier batch is sound."""
    log = await make_log(sealed=False)
    data = bytearray(log.data)
    data[log.spans[-1][0] : log.spans[-1][0] + SECTOR] = bytes(SECTOR)
    entries, report = await recover(log.disk.with_file(PATH, bytes(data)))
    assert entries == 2
    assert report.torn is not None


async def test_the_head_of_a_torn_batch_proves_that_the_one_before_was_durable() -> None:
    log = await make_log(sealed=False)
    data = bytearray(log.data)
    data[log.spans[-1][0] + 2 * SECTOR] ^= 1  # the last batch is torn,
    data[log.spans[-2][0] + 100] ^= 1  # and the one before it is rotten
    with pytest.raises(StorageCorrupt, match="batch 4 was durable, since batch 5 follows"):
        await open_log(log.disk.with_file(PATH, bytes(data)))


async def test_zeroed_batches_in_the_middle_are_rot() -> None:
    log = await make_log(sealed=False)
    for start, end in log.spans[:-1]:
        data = bytearray(log.data)
        data[start:end] = bytes(end - start)
        with pytest.raises(StorageCorrupt) as error:
            await open_log(log.disk.with_file(PATH, bytes(data)))
        assert (error.value.path, error.value.offset) == (PATH, start)


async def test_a_lost_write_under_a_seal_is_rot() -> None:
    log = await make_log(sealed=True)
    start, end = log.spans[-1]
    data = bytearray(log.data)
    data[start:end] = bytes(end - start)
    with pytest.raises(StorageCorrupt, match="batch 5 was durable"):
        await open_log(log.disk.with_file(PATH, bytes(data)))


async def test_the_error_names_file_offset_and_remedy() -> None:
    log = await make_log(sealed=False)
    start, _ = log.spans[2]
    data = bytearray(log.data)
    data[start + 110] ^= 1
    with pytest.raises(StorageCorrupt) as error:
        await open_log(log.disk.with_file(PATH, bytes(data)))
    assert str(error.value).startswith(f"{PATH}, byte {start}: ")
    assert "restore the file from a backup" in str(error.value)
    assert "does not match its checksum" in str(error.value)


async def test_refusing_changes_nothing_on_the_disk() -> None:
    log = await make_log(sealed=False)
    data = bytearray(log.data)
    data[log.spans[1][0] + 60] ^= 1
    disk = log.disk.with_file(PATH, bytes(data))
    with pytest.raises(StorageCorrupt):
        await open_log(disk)
    assert disk.open(PATH).read(0, 1 << 20) == bytes(data)


@pytest.mark.parametrize("seed", range(40))
async def test_leftover_bytes_behind_the_tail_are_cut(seed: int) -> None:
    log = await make_log(sealed=False)
    random = Random(seed)
    junk = random.randbytes(random.randrange(1, 3000))
    entries, report = await recover(log.disk.with_file(PATH, log.data[: log.tail] + junk))
    assert entries == 3
    assert report.torn is not None
    assert report.torn.length_bytes == len(junk)


async def test_an_old_batch_left_behind_the_tail_is_not_believed() -> None:
    """Not even one of this very segment: its sequence number is in the past."""
    log = await make_log(sealed=False)
    start, end = log.spans[2]
    entries, report = await recover(
        log.disk.with_file(PATH, log.data[: log.tail] + log.data[start:end])
    )
    assert entries == 3
    assert report.torn is not None


async def test_a_client_cannot_smuggle_a_batch_in_as_a_value() -> None:
    """A value that looks like a later batch, in a torn write: another log's seed, no proof."""
    other = RamDisk()
    log = await WriteAheadLog.open(
        other,
        "log",
        identity=type(WE)("cluster", "n9", "0" * 16),
        monotonic_ns=time.monotonic_ns,
    )
    await log.create_group("g", TRIO)
    for at in range(1, 9):
        await log.submit("g", None, [block(at, at)])
    await log.close()
    image = other.open(PATH).read(SECTOR, 1 << 20)

    victim = await make_log(sealed=False)
    entries, _ = await recover(victim.disk.with_file(PATH, victim.data[: victim.tail] + image))
    assert entries == 3


# --- Several segments ---------------------------------------------------------------------------


async def make_segments(*, sealed: bool = True) -> RamDisk:
    disk = RamDisk()
    log = await open_log(disk, segment_bytes=4 * SECTOR)
    await log.create_group("g", TRIO)
    for index in range(1, 13):
        await log.submit("g", HardState(index, ""), [block(index, index, size=40)])
    if sealed:
        await log.close()
    assert len(disk.list_dir("log")) > 4
    return disk.after_process_death()


async def test_damage_before_the_last_segment_is_always_rot() -> None:
    disk = await make_segments(sealed=False)
    names = [name for name in disk.list_dir("log") if name.endswith(".log")]
    for name in names[:-1]:
        data = disk.open(f"log/{name}").read(0, 1 << 20)
        ends = [b.end for b in records(disk, "log") if b.path == f"log/{name}"]
        for at in (0, 20, SECTOR + 3, SECTOR + 20, ends[-1] - SECTOR + 30):
            rotten = bytearray(data)
            rotten[at] ^= 0x10
            with pytest.raises(StorageCorrupt) as error:
                await open_log(disk.with_file(f"log/{name}", bytes(rotten)))
            assert error.value.path == f"log/{name}"
        for cut in (0, 100, SECTOR, SECTOR + 10, ends[-1] - SECTOR + 10):
            with pytest.raises(StorageCorrupt) as error:
                await open_log(disk.with_file(f"log/{name}", data[:cut]))
            assert error.value.path == f"log/{name}"


async def test_a_missing_segment_is_rot() -> None:
    disk = await make_segments()
    names = [name for name in disk.list_dir("log") if name.endswith(".log")]
    for name in names[:-1]:
        broken = disk.after_process_death()
        broken.remove(f"log/{name}")
        report = verify(broken, "log")
        assert report.corrupt is not None
        assert "missing" in str(report.corrupt)
        with pytest.raises(StorageCorrupt):
            await open_log(broken)


async def test_a_segment_of_another_log_is_refused() -> None:
    disk = await make_segments()
    stranger = RamDisk()
    log = await WriteAheadLog.open(
        stranger,
        "log",
        identity=type(WE)("cluster", "n9", "0" * 16),
        monotonic_ns=time.monotonic_ns,
    )
    await log.close()
    foreign = stranger.open(PATH).read(0, 1 << 20)
    for name in ("00000001.log", "00000003.log"):
        report = verify(disk.with_file(f"log/{name}", foreign), "log")
        assert report.corrupt is not None
        assert "does not belong here" in str(report.corrupt)


async def test_verify_changes_nothing_and_says_what_open_would_do() -> None:
    disk = await make_segments()
    before = {name: bytes(inode.seen) for name, inode in disk.names.items()}
    report = verify(disk, "log")
    assert {name: bytes(inode.seen) for name, inode in disk.names.items()} == before
    assert (report.entries, report.groups, report.sealed) == (12, 1, True)
    assert report.corrupt is None
    log = await open_log(disk)
    assert log.report == report
    await log.close()


def test_verify_of_nothing_is_an_empty_report() -> None:
    assert verify(RamDisk(), "log") == RecoveryReport("log")
