"""Reading a write-ahead log, and telling a torn tail from rot.

This module exists so that the one dangerous decision of storage, *may these bytes be dropped?*,
stands on one screen. It only reads; the device cuts. No asyncio and no writing may come in here.

The decision rests on one rule of the writer: batch N+1 is never written before the sync of batch N
has returned. So a batch that is not sound was

- never acknowledged, if no later batch was ever begun: a *torn tail*, which may be cut;
- acknowledged, if anything later exists (a sound head in the same segment, a seal, a next
  segment): *rot*. Then the truth is "I no longer know", and nothing may be dropped.

Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018,
section 3. HAZARD: rot in the very last batch looks like a torn tail as long as no seal follows it.
See ``docs/storage.md`` for what shrinks that window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mcpcore.errors import InvalidInput, StorageCorrupt, StorageVersion
from mcpcore.node.disk import Disk
from mcpcore.node.storage.contract import Identity, RecoveryReport, TornTail
from mcpcore.node.storage.log_image import EntriesAppended, LogImage, Record
from mcpcore.node.storage.wal_format import (
    LOST_NAMES,
    SECTOR_BYTES,
    Row,
    SegmentHeader,
    echo_row,
    encode_record,
    find_later_head,
    read_head,
    read_records,
    segment_seed,
)

_SEGMENT_NAME = re.compile(r"[0-9]{8}\.log")


def segment_path(directory: str, number: int) -> str:
    """Where a segment stands."""
    return f"{directory}/{number:08}.log"


def segment_numbers(disk: Disk, directory: str) -> list[int]:
    """The numbers of all segments in a directory, in order."""
    names = disk.list_dir(directory)
    return sorted(int(name[:8]) for name in names if _SEGMENT_NAME.fullmatch(name))


def read_file(disk: Disk, path: str, length: int | None = None) -> bytes:
    """A file's bytes from its beginning, all of them by default.

    Raises:
        OSError: it cannot be read.
    """
    file = disk.open(path)
    try:
        return file.read(0, file.size() if length is None else length)
    finally:
        file.close()


def origin_of(disk: Disk, directory: str, numbers: list[int]) -> int:
    """The newest segment with which a log begins anew after damage; 0 if there is none."""
    for number in reversed(numbers):
        try:
            header = SegmentHeader.decode(
                read_file(disk, segment_path(directory, number), SECTOR_BYTES)
            )
        except (InvalidInput, StorageVersion):
            continue  # judged where it is read
        if header.origin:
            return number
    return 0


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """A sound batch and where it stands.

    Args:
        path: the file.
        segment: the segment's number.
        offset: the first byte.
        end: the first byte after it.
        sequence: counts up by one from batch to batch, across segments.
        records: what it says, in order.
    """

    path: str
    segment: int
    offset: int
    end: int
    sequence: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a log ends, and how.

    Args:
        header: of the last segment.
        seed: of its checksums.
        tail: the offset in the last segment where the next batch goes.
        size_bytes: the size of the last segment's file.
        sequence: the next batch's.
        last_batch: the bytes of the last batch, up to ``tail``.
        last_records: what it says.
        sealed: whether a seal stands at ``tail``.
        torn: what lies behind the last sound batch or seal, if it is not zeros.
    """

    header: SegmentHeader
    seed: int
    tail: int
    size_bytes: int
    sequence: int
    last_batch: bytes
    last_records: tuple[Record, ...]
    sealed: bool
    torn: TornTail | None

    def echo(self) -> Row | None:
        """What the next batch repeats of the last one."""
        rows = [encode_record(record) for record in self.last_records]
        return echo_row(rows, self.last_records)


class LogScan:
    """One pass over a directory. Iterate it once to the end; ``end`` and ``report`` follow."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self.leftovers: list[int] = []
        """Segments that are no part of the log any more: it was written anew after damage."""
        self.segments = self._list()
        self.end: LogEnd | None = None
        """None until the scan is through, and for an empty directory."""
        self._identity: Identity | None = None
        self._batches = 0
        self._entries = 0
        self._sound_end = 0
        self._amnesia = False
        self._last_records: tuple[Record, ...] = ()

    @property
    def report(self) -> RecoveryReport:
        """What was found so far; everything but the groups, which only a replay can know."""
        return RecoveryReport(
            self._directory,
            self._identity,
            segments=len(self.segments),
            batches=self._batches,
            entries=self._entries,
            sealed=self.end is not None and self.end.sealed,
            torn=self.end.torn if self.end is not None else None,
            amnesia=self._amnesia,
        )

    def _list(self) -> list[int]:
        numbers = segment_numbers(self._disk, self._directory)
        origin = origin_of(self._disk, self._directory, numbers)
        self.leftovers = [number for number in numbers if number < origin]
        numbers = numbers[len(self.leftovers) :]
        for at, number in enumerate(numbers):
            expected = numbers[0] + at
            if number != expected:
                raise StorageCorrupt(
                    f"segment {expected} is missing between {expected - 1} and {number}",
                    path=segment_path(self._directory, expected),
                    offset=0,
                )
        return numbers

    def __iter__(self) -> Iterator[LoggedBatch]:
        """Every sound batch, in order.

        Raises:
            StorageCorrupt: rot.
        """
        sequence: int | None = None
        for number in self.segments:
            path = segment_path(self._directory, number)
            buffer = read_file(self._disk, path)
            header = self._header(path, number, buffer, sequence)
            sequence = header.first_sequence
            seed = segment_seed(buffer)
            offset, last = SECTOR_BYTES, SECTOR_BYTES
            while (batch := self._batch(path, number, buffer, offset, seed, sequence)) is not None:
                self._batches += 1
                yield batch
                last, offset, sequence = offset, batch.end, sequence + 1
            if offset == SECTOR_BYTES:
                raise StorageCorrupt(
                    "the first batch of a segment, durable before the segment got its name, is "
                    "not sound",
                    path=path,
                    offset=offset,
                )
            if number == self.segments[-1]:
                self._finish(path, header, buffer, last, offset, sequence)

    def _header(self, path: str, number: int, buffer: bytes, sequence: int | None) -> SegmentHeader:
        try:
            header = SegmentHeader.decode(buffer)
        except InvalidInput as error:
            raise StorageCorrupt(str(error), path=path, offset=0) from error
        if header.number != number or header.identity != (self._identity or header.identity):
            raise StorageCorrupt(
                f"the file is segment {header.number} of node {header.identity.node!r} "
                f"({header.identity.incarnation}), and does not belong here",
                path=path,
                offset=0,
            )
        if sequence is not None and header.first_sequence != sequence:
            raise StorageCorrupt(
                f"the segment goes on with batch {header.first_sequence}, but the one before it "
                f"ends before batch {sequence}: what lies between was durable and is gone",
                path=segment_path(self._directory, number - 1),
                offset=self._sound_end,
            )
        self._identity = header.identity
        self._amnesia = self._amnesia or header.origin == LOST_NAMES
        return header

    def _batch(
        self, path: str, number: int, buffer: bytes, offset: int, seed: int, sequence: int
    ) -> LoggedBatch | None:
        """The batch at ``offset``, or None if the segment's sound part ends there."""
        self._sound_end = offset
        problem = "no sound batch stands here"
        head = read_head(buffer, offset, seed)
        if head is not None and head.sequence == sequence and not head.seal:
            try:
                found = read_records(buffer, head)
            except InvalidInput as error:
                problem = str(error)
            else:
                for record in found:
                    if type(record) is EntriesAppended:
                        self._entries += len(record.block.entries)
                self._last_records = tuple(found)
                return LoggedBatch(path, number, offset, head.end, sequence, self._last_records)
        later = find_later_head(buffer, offset, seed, sequence)
        if later is not None:
            raise StorageCorrupt(
                f"batch {sequence} was durable, since batch {later.sequence} follows at byte "
                f"{later.offset}, but it is damaged: {problem}",
                path=path,
                offset=offset,
            )
        return None

    def _finish(
        self,
        path: str,
        header: SegmentHeader,
        buffer: bytes,
        last: int,
        tail: int,
        sequence: int,
    ) -> None:
        seed = segment_seed(buffer)
        head = read_head(buffer, tail, seed)
        sealed = head is not None and head.seal and head.sequence == sequence
        sound_end = tail + SECTOR_BYTES if sealed else tail
        rest = len(buffer) - sound_end
        torn = None
        if rest > 0 and buffer.count(0, sound_end) != rest:
            torn = TornTail(path, sound_end, rest)
        # A cut may have taken nothing but padding: the batch is sound, and ends where it should.
        last_batch = buffer[last:tail].ljust(tail - last, b"\0")
        self.end = LogEnd(
            header,
            seed,
            tail,
            len(buffer),
            sequence,
            last_batch,
            self._last_records,
            sealed,
            torn,
        )


def replay(scan: LogScan, image: LogImage) -> Iterator[LoggedBatch]:
    """Fold every batch of a scan into ``image``, and hand it on.

    Raises:
        StorageCorrupt: rot, or records that contradict each other.
    """
    batch = None
    try:
        for batch in scan:
            for record in batch.records:
                image.apply(record)
            yield batch
        image.check_complete()
    except InvalidInput as error:
        assert batch is not None, "only records can contradict each other"
        raise StorageCorrupt(str(error), path=batch.path, offset=batch.offset) from error


def records(disk: Disk, directory: str) -> Iterator[LoggedBatch]:
    """Every batch of a log with its records, read-only, in order: what ``log dump`` shows.

    Raises:
        StorageCorrupt: at the first damage, after everything sound before it.
    """
    yield from LogScan(disk, directory)


def verify(disk: Disk, directory: str) -> RecoveryReport:
    """Read a whole log, change nothing, and say how it is. Damage is in the report, not raised.

    A log that a running node is writing may show a torn tail that is none.

    Raises:
        StorageVersion: the log is of a format that this program cannot read.
        OSError: the disk cannot be read.
    """
    try:
        scan = LogScan(disk, directory)
    except StorageCorrupt as error:
        return RecoveryReport(directory, corrupt=error)
    image = LogImage()
    try:
        for _ in replay(scan, image):
            pass
    except StorageCorrupt as error:
        return replace(scan.report, corrupt=error)
    return replace(scan.report, groups=sum(state.live for state in image.states.values()))
