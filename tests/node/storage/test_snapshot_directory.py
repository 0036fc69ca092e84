"""Where snapshots lie, and which of them may go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.storage.snapshot_directory import SnapshotDirectory, directory_name
from mcpcore.node.storage.snapshot_files import SnapshotWriter
from mcpcore.node.storage.snapshot_format import SnapshotHead
from mcpcore.raft.types import LogPosition
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import TRIO


async def put(directory: SnapshotDirectory, index: int) -> None:
    position = LogPosition(1, index)
    head = SnapshotHead("c", "g", position, TRIO.encode(), b"")
    writer = await SnapshotWriter.create(directory.disk, directory.taking, head)
    await writer.add(b"%d" % index)
    await writer.finish(directory.final(position))


async def test_the_newest_snapshot_comes_first_and_is_never_removed() -> None:
    directory = SnapshotDirectory(RamDisk(), "data", "g")
    for index in (9, 100, 20):
        await put(directory, index)
    assert [each.position.index for each in directory.stored()] == [100, 20, 9]
    assert directory.open(directory.stored()[0]).read(0, 9) == b"100"

    assert len(await directory.drop_below(20)) == 1
    assert [each.position.index for each in directory.stored()] == [100, 20]
    await directory.drop_below(1 << 60)
    assert [each.position.index for each in directory.stored()] == [100]


async def test_at_a_start_what_was_half_taken_goes_and_what_was_half_received_stays() -> None:
    disk = RamDisk()
    directory = SnapshotDirectory(disk, "data", "g")
    await put(directory, 5)
    for path in (directory.taking, directory.receiving, directory.changes()):
        disk.open(path, create=True).close()
    disk.open(f"{directory.changes()}.part", create=True).close()
    await directory.prepare()
    assert disk.list_dir(directory.path) == [
        directory.final(LogPosition(1, 5)).rpartition("/")[2],
        "receiving.part",
    ]


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
@settings(deadline=None)
def test_every_group_has_a_directory_of_its_own_whatever_its_name(one: str, other: str) -> None:
    one, other = (name.encode("utf-8", "replace").decode() for name in (one, other))
    names = directory_name(one), directory_name(other)
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert len(name) <= 80
        assert not set(name) & set("/\\\0 ")
        assert name not in (".", "..")
