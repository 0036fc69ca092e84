"""Segments of a write-ahead log: the one being written, and which old ones are still needed.

This module exists so that the log device need not count bytes and indexes. It does not decide what
goes into a batch, and never reads. No asyncio may come in here: it awaits the disk, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcpcore.node.disk import Disk, DiskFile
from mcpcore.node.storage.log_image import (
    BaseMoved,
    EntriesAppended,
    GroupRetired,
    GroupState,
    Record,
    RunKept,
)
from mcpcore.node.storage.wal_format import (
    SECTOR_BYTES,
    Row,
    SegmentHeader,
    encode_batch,
    encode_seal,
    segment_seed,
)
from mcpcore.node.storage.wal_recovery import LogEnd, segment_path


class SegmentWriter:
    """The segment at the end of the log.

    ``tail`` is where the next batch goes; up to ``reserved_end`` the file holds zeros (or a seal)
    that are already durable. One sector of it is always left for a seal, so that probing and
    closing never need space. While ``tail`` is still at ``first_tail``, a new segment would be no
    emptier than this one.
    """

    __slots__ = ("_file", "_seed", "first_tail", "number", "path", "reserved_end", "tail")

    def __init__(
        self, file: DiskFile, path: str, number: int, seed: int, tail: int, reserved_end: int
    ) -> None:
        self._file = file
        self._seed = seed
        self.path = path
        self.number = number
        self.first_tail = self.tail = tail
        self.reserved_end = reserved_end

    @classmethod
    async def create(
        cls,
        disk: Disk,
        directory: str,
        header: SegmentHeader,
        rows: Sequence[Row],
        reserve_bytes: int,
    ) -> SegmentWriter:
        """Make a segment with its first batch. It exists whole and durable, or not at all.

        Raises:
            OSError: nothing of it is left under a segment's name.
        """
        path = segment_path(directory, header.number)
        under_way = f"{directory}/{header.number:08}.tmp"
        sector = header.encode()
        seed = segment_seed(sector)
        data = sector + encode_batch(header.first_sequence, rows, seed)
        reserved_end = max(len(data) + SECTOR_BYTES, reserve_bytes)
        file = disk.open(under_way, create=True)
        try:
            await file.write(0, data.ljust(reserved_end, b"\0"), sync=True)
        except OSError:
            file.close()
            disk.remove(under_way)  # or a full disk would stay full of our attempts
            raise
        file.close()
        disk.rename(under_way, path)
        await disk.sync_dir(directory)
        return cls(disk.open(path), path, header.number, seed, len(data), reserved_end)

    @classmethod
    async def resume(cls, disk: Disk, directory: str, end: LogEnd) -> SegmentWriter:
        """Go on where a log ends: cut the torn tail, make certain of the last batch, seal it.

        The last batch is written once more. It was read from the operating system's cache, and if
        a sync failed in an earlier life, the cache may hold what the disk never got.

        Raises:
            OSError: the disk does not work.
        """
        path = segment_path(directory, end.header.number)
        file = disk.open(path)
        try:
            size_bytes = end.size_bytes
            if end.torn is not None:
                size_bytes = end.torn.offset
                await file.truncate(size_bytes)
            seal = encode_seal(end.sequence, end.seed, end.echo())
            start = end.tail - len(end.last_batch)
            await file.write(start, end.last_batch + seal, sync=True)
        except OSError:
            file.close()
            raise
        reserved_end = max(size_bytes, end.tail + len(seal))
        segment = cls(file, path, end.header.number, end.seed, end.tail, reserved_end)
        segment.first_tail = 0  # it is old: the next batch may begin a new one
        return segment

    async def reserve(self, size: int, step_bytes: int, segment_bytes: int) -> None:
        """Make sure that ``size`` bytes at the tail, and a sector, are durable zeros (or a seal).

        Args:
            size: what the next batch needs, in bytes.
            step_bytes: by how much to go ahead,
            segment_bytes: unless the segment gets larger than this.

        Raises:
            OSError: of whatever kind, everything before the reserve is as it was.
        """
        needed_end = self.tail + size + SECTOR_BYTES
        if needed_end > self.reserved_end:
            ahead = min(self.reserved_end + step_bytes, segment_bytes + SECTOR_BYTES)
            length = max(needed_end, ahead) - self.reserved_end
            await self._file.write(self.reserved_end, bytes(length), sync=True)
            self.reserved_end += length

    async def append(self, sequence: int, rows: Sequence[Row]) -> int:
        """Write and sync a batch; returns its size in bytes.

        Raises:
            OSError: it may be on the disk whole, in part, or not at all.
        """
        data = encode_batch(sequence, rows, self._seed)
        assert self.tail + len(data) < self.reserved_end, "room is made before a batch is written"
        await self._file.write(self.tail, data, sync=True)
        self.tail += len(data)
        return len(data)

    async def seal(self, sequence: int, echo: Row | None) -> None:
        """Write and sync a seal where the next batch will go, with the last one's echo.

        Raises:
            OSError: the disk does not work. No batch is touched.
        """
        assert self.tail < self.reserved_end, "there is always room for a seal"
        await self._file.write(self.tail, encode_seal(sequence, self._seed, echo), sync=True)

    def check(self) -> None:
        """Every promise about the segment, one per line."""
        assert self.tail % SECTOR_BYTES == 0, "a batch starts on a sector boundary"
        assert self.first_tail <= self.tail < self.reserved_end, "there is room for a seal"
        assert self.reserved_end <= self._file.size(), "the reserve is in the file"

    def close(self) -> None:
        """Close the file, without a sync."""
        self._file.close()


class SegmentIndex:
    """Which segments hold entries that somebody still needs."""

    __slots__ = ("_last_index", "_newest", "_segments")

    def __init__(self) -> None:
        self._segments: dict[int, dict[int, int]] = {}
        self._newest: dict[int, int] = {}
        self._last_index: dict[int, int] = {}

    def begin(self, segment: int) -> None:
        """Count a segment in; they come in ascending order."""
        self._newest = self._segments.setdefault(segment, {})

    def record(self, record: Record) -> None:
        """Take note of a record in the newest segment."""
        if type(record) is EntriesAppended:
            group, block = record
            if block.entries[0].index <= self._last_index.get(group, 0):
                self._cut(group, block.entries[0].index - 1)
            self._newest[group] = self._last_index[group] = block.entries[-1].index
        elif type(record) is RunKept:
            group, block = record
            self._newest[group] = max(self._newest.get(group, 0), block.entries[-1].index)
        elif type(record) is GroupRetired or (type(record) is BaseMoved and not record.suffix_kept):
            self._cut(record.group, 0)
            self._last_index.pop(record.group, None)

    def _cut(self, group: int, last: int) -> None:
        for held in self._segments.values():
            if held.get(group, 0) > last:
                held[group] = last

    def oldest(self) -> int | None:
        """The oldest segment, unless it is the one that is being written."""
        return next(iter(self._segments)) if len(self._segments) > 1 else None

    def finished(self) -> list[int]:
        """Every segment but the one that is being written."""
        return list(self._segments)[:-1]

    def needed_by(self, segment: int, states: Mapping[int, GroupState]) -> list[int]:
        """The groups that need entries of a segment."""
        return [
            group
            for group, last in self._segments[segment].items()
            if last > states[group].base.index
        ]

    def drop(self, segment: int) -> None:
        """Forget a segment."""
        del self._segments[segment]
