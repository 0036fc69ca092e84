"""A snapshot file is whole, durable and told from every other, or it is not used."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, SnapshotDamaged, StorageVersion
from mcpcore.node.storage import snapshot_format
from mcpcore.node.storage.snapshot_files import SnapshotReader, SnapshotWriter
from mcpcore.node.storage.snapshot_format import (
    SECTOR_BYTES,
    SnapshotHead,
    decode_head,
    encode_head,
)
from mcpcore.raft.types import LogPosition
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import TRIO

PART, PATH = "snapshots/taking.part", "snapshots/1.snap"


def head(chunk_bytes: int = 16, index: int = 7, since: int = 0) -> SnapshotHead:
    return SnapshotHead(
        "cluster",
        "g",
        LogPosition(3, index),
        TRIO.encode(),
        b"0123456789abcdef",
        created_ns=1,
        since=since,
        chunk_bytes=chunk_bytes,
    )


async def written(disk: RamDisk, payload: bytes, pieces: int = 5) -> SnapshotHead:
    writer = await SnapshotWriter.create(disk, PART, head())
    for at in range(0, len(payload), pieces):
        await writer.add(payload[at : at + pieces])
    return await writer.finish(PATH)


def flip(disk: RamDisk, path: str, at: int) -> None:
    for view in (disk.names[path].seen, disk.names[path].durable):
        view[at] ^= 1


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32, 100])
async def test_what_was_written_is_read_back_whatever_the_pieces(size: int) -> None:
    disk, payload = RamDisk(), bytes(range(size))
    for pieces in (1, 5, 16, 200):
        sealed = await written(disk, payload, pieces)
        reader = SnapshotReader.open(disk, PATH)
        assert b"".join(reader.chunks()) == payload
        assert b"".join(reader.read(at, 1) for at in range(size)) == payload
        assert reader.head == sealed
        assert reader.head.payload_bytes == size
        reader.close()


async def test_equal_payloads_have_one_id_and_others_another() -> None:
    disk = RamDisk()
    one = await written(disk, b"state" * 9, 1)
    assert (await written(disk, b"state" * 9, 7)).id == one.id
    assert (await written(disk, b"stale" * 9)).id != one.id


async def test_a_file_under_its_final_name_survives_the_power_whatever_else_does() -> None:
    disk = RamDisk()
    await written(disk, b"x" * 1000)
    after = disk.after_power_failure()
    reader = SnapshotReader.open(after, PATH)
    assert b"".join(reader.chunks()) == b"x" * 1000
    assert after.list_dir("snapshots") == ["1.snap"]


async def test_every_flipped_bit_is_found() -> None:
    disk = RamDisk()
    sealed = await written(disk, bytes(range(100)))
    padding = 0
    for at in range(sealed.file_bytes):
        flip(disk, PATH, at)
        try:
            SnapshotReader.open(disk, PATH).verify()
            padding += 1
        except SnapshotDamaged:
            pass
        flip(disk, PATH, at)
    SnapshotReader.open(disk, PATH).verify()
    # The only bytes without a meaning are the zeros that fill the head's last sector.
    assert padding == SECTOR_BYTES - len(encode_head(sealed).rstrip(b"\0"))


async def test_a_chunk_of_another_snapshot_or_another_place_is_not_taken_for_ours() -> None:
    disk = RamDisk()
    sealed = await written(disk, bytes(64))
    data = disk.names[PATH].seen
    (first, length), (second, _) = sealed.chunk_at(0), sealed.chunk_at(1)
    assert data[first + 4 : first + length] == data[second + 4 : second + length]
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )
    with pytest.raises(SnapshotDamaged, match="chunk 0 of 4"):
        SnapshotReader.open(disk, PATH).verify()


async def test_a_file_that_is_too_short_or_too_long_is_damaged() -> None:
    disk = RamDisk()
    await written(disk, bytes(64))
    data = disk.names[PATH].seen
    data.append(0)
    with pytest.raises(SnapshotDamaged, match="its head calls for"):
        SnapshotReader.open(disk, PATH)
    del data[-2:]
    with pytest.raises(SnapshotDamaged, match="its head calls for"):
        SnapshotReader.open(disk, PATH)


@given(
    payload=st.binary(min_size=1, max_size=200),
    cut=st.integers(0, 200),
    survivors=st.sets(st.integers(0, 8).map(lambda n: n * SECTOR_BYTES)),
)
@settings(deadline=None)
async def test_a_received_file_resumes_after_a_crash_at_its_last_sound_chunk(
    payload: bytes, cut: int, survivors: set[int]
) -> None:
    disk = RamDisk()
    complete = await written(disk, payload)
    disk = RamDisk()
    writer = await SnapshotWriter.create(disk, PART, complete)
    await writer.add(payload[:cut])
    disk.durable_names = dict(disk.names)
    disk = disk.after_power_failure(survivors)
    try:
        writer = SnapshotWriter.resume(disk, PART)
    except SnapshotDamaged:
        writer = await SnapshotWriter.create(disk, PART, complete)
    assert writer.head.id == complete.id
    assert writer.offset <= min(cut, len(payload))
    await writer.add(payload[writer.offset :])
    assert await writer.finish(PATH) == complete
    assert b"".join(SnapshotReader.open(disk, PATH).chunks()) == payload


async def test_a_received_payload_that_is_not_the_announced_one_never_gets_its_name() -> None:
    disk = RamDisk()
    complete = await written(disk, b"true state")
    disk.remove(PATH)
    writer = await SnapshotWriter.create(disk, PART, complete)
    await writer.add(b"false stat")
    with pytest.raises(SnapshotDamaged, match="not what its head says"):
        await writer.finish(PATH)
    assert not disk.exists(PATH)
    with pytest.raises(InvalidInput, match="11 bytes of a payload of 10"):
        await writer.add(b"!")


async def test_a_payload_that_ends_too_early_never_gets_its_name() -> None:
    disk = RamDisk()
    complete = await written(disk, b"true state" * 5)
    writer = await SnapshotWriter.create(disk, PART, complete)
    await writer.add(b"true state")
    with pytest.raises(SnapshotDamaged):
        await writer.finish("snapshots/2.snap")


async def test_a_failed_sync_leaves_the_older_file_alone() -> None:
    disk = RamDisk()
    await written(disk, b"older")
    disk.fail_sync_number = disk.syncs + 1
    with pytest.raises(OSError, match=r".*"):
        await written(disk, b"newer")
    assert b"".join(SnapshotReader.open(disk, PATH).chunks()) == b"older"


def test_a_head_of_a_later_version_says_which_program_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_format, "FORMAT_VERSION", 2)
    data = encode_head(head())
    monkeypatch.undo()
    with pytest.raises(StorageVersion, match="format version 2"):
        decode_head(data)


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_no_bytes_make_the_head_fail_in_any_other_way(data: bytes) -> None:
    for start in (b"", b"mcpcSNAP"):
        with pytest.raises(InvalidInput):
            decode_head(start + data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": LogPosition(1, -1)},
        {"since": 8},
        {"chunk_bytes": 0},
        {"payload_sum": b"short"},
        {"created_ns": 1 << 63},
    ],
)
def test_a_head_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    facts: dict[str, object] = {
        "cluster": "c",
        "group": "g",
        "position": LogPosition(1, 7),
        "configuration_data": TRIO.encode(),
        "digest": b"",
    }
    with pytest.raises(InvalidInput):
        SnapshotHead(**{**facts, **wrong})  # type: ignore[arg-type]
