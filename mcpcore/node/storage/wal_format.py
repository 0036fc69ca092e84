"""The bytes of the write-ahead log: segments, batches, records.

This module exists so that the format stands in one place that can be read against
``docs/storage.md``. Pure: bytes in, records out. No file and no asyncio may come in here.

A segment is one sector of header and then batches. **A batch starts on a sector boundary**, so
writing the next one never touches a sector that holds a durable one: a write that is cut by a power
failure can only spoil itself. A batch is a head, a table with one row for each record, and the
records' bytes. Each record has its own checksum in the table; the head's checksum covers head and
table. So every byte is summed once, and when a record rots, the table still says whose it was.

The checksum is CRC-32 from zlib: it is in the standard library, runs in C at over 1 GB/s and
lets go of the interpreter lock. CRC-32C would catch some more multi-bit patterns in records beyond
11 KiB, and cost a dependency. Sums start from a seed that is the checksum of the segment's header,
so that no other batch, in no other segment, log or value that a client stored, can pass for one of
this segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import msgpack

from mcpcore.errors import InvalidInput, StorageVersion
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.log_image import (
    BaseMoved,
    DoubtEnded,
    Echo,
    Echoed,
    EntriesAppended,
    EntriesNoted,
    GroupRecorded,
    GroupRetired,
    GroupState,
    HardStateSaved,
    Record,
    RunKept,
)
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.types import MAX_UINT, Block, Configuration, HardState, LogPosition

FORMAT_VERSION = 1
SECTOR_BYTES = 512
"""The unit that a disk writes whole or not at all. Larger ones (4096) are multiples of it."""

_SEGMENT_MAGIC = b"mcpcWAL\n"
_SEGMENT = struct.Struct("<8sII")
"""Magic, checksum of the body, length of the body; then the body, msgpack."""

_MAGIC = b"\xb1MC"
_BATCH_MAGIC, _SEAL_MAGIC = _MAGIC + b"B", _MAGIC + b"S"
_HEAD = struct.Struct("<4sIQII")
"""Magic, checksum of all the rest and the table, sequence, rows, bytes of the records."""
_SUMMED_FROM = 8
_ROW = struct.Struct("<BxxxIIIQ")
"""Kind, group, length, checksum of the record's bytes, index (of the first entry, or the base)."""

GROUP, HARD_STATE, ENTRIES, BASE, RETIRED, RUN, DOUBT_ENDED, ECHO = range(1, 9)
"""The kinds of records."""

ECHO_BYTES_MAX = 16 << 10
"""A batch that would need a longer echo has none: hundreds of groups changed in it at once."""


BEGINS, LOST_NAMES = 1, 2
"""Where a log was written anew after damage: it begins here; the same, and groups may be lost whose
very names are not known any more."""


class SegmentHeader(NamedTuple):
    """The first sector of a segment."""

    identity: Identity
    number: int
    first_sequence: int
    """The sequence number of its first batch: numbers run on from segment to segment."""
    origin: int = 0
    """0: it goes on from the segment before; otherwise ``BEGINS`` or ``LOST_NAMES``, whatever older
    segments lie around."""

    def encode(self) -> bytes:
        """One sector."""
        fields = [
            FORMAT_VERSION,
            self.number,
            self.first_sequence,
            self.identity.cluster,
            self.identity.node,
            self.identity.incarnation,
        ]
        body = msgpack.packb([*fields, self.origin] if self.origin else fields)
        data: bytes = _SEGMENT.pack(_SEGMENT_MAGIC, crc32(body), len(body)) + body
        assert len(data) <= SECTOR_BYTES, "names are bounded so that a header fits one sector"
        return data.ljust(SECTOR_BYTES, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> SegmentHeader:
        """Read the first sector of a segment.

        Raises:
            InvalidInput: it is none.
            StorageVersion: it is of a format that this program cannot read.
        """
        if len(data) < SECTOR_BYTES:
            raise InvalidInput("the file is too short to hold a segment's header")
        magic, checksum, length = _SEGMENT.unpack_from(data)
        body = data[_SEGMENT.size : _SEGMENT.size + length]
        if magic != _SEGMENT_MAGIC:
            raise InvalidInput("the file does not begin like a segment of the log")
        if length > SECTOR_BYTES - _SEGMENT.size or crc32(body) != checksum:
            raise InvalidInput("the checksum of the segment's header does not match")
        try:
            version, *rest = msgpack.unpackb(body)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"the segment's header is malformed: {error}") from error
        if version != FORMAT_VERSION:
            raise StorageVersion(
                f"the log has format version {version!r}, this program reads {FORMAT_VERSION}: "
                "run the version that wrote it"
            )
        match rest:
            case [int(number), int(first), str(cluster), str(node), str(incarnation)]:
                return cls(Identity(cluster, node, incarnation), number, first)
            case [int(number), int(first), str(cluster), str(node), str(incarnation), int(origin)]:
                return cls(Identity(cluster, node, incarnation), number, first, origin)
        raise InvalidInput(f"the segment's header is malformed: {rest!r}")


class Row(NamedTuple):
    """A record as it goes into a batch."""

    kind: int
    group: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    data: bytes


class BatchHead(NamedTuple):
    """A batch whose head and table are sound; its records may still not be."""

    offset: int
    sequence: int
    seal: bool
    """Whether it is no batch but a seal: the proof that the batch before ``sequence`` was synced.
    The next batch is written in its place."""
    rows: int
    end: int
    """The offset where the next batch starts."""


def segment_seed(header: bytes) -> int:
    """Where the checksums of a segment's batches start, from its first sector."""
    return crc32(header[:SECTOR_BYTES])


def padded(size: int) -> int:
    """``size`` rounded up to whole sectors."""
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES


def batch_bytes(rows: int, data_bytes: int) -> int:
    """How many bytes a batch takes in the file."""
    return padded(_HEAD.size + rows * _ROW.size + data_bytes)


def encode_batch(sequence: int, rows: Sequence[Row], seed: int) -> bytes:
    """A batch, padded to whole sectors."""
    return _encode(_BATCH_MAGIC, sequence, rows, seed)


def encode_seal(sequence: int, seed: int, echo: Row | None = None) -> bytes:
    """A seal, one sector: ``sequence`` is the next batch's. An echo is in it if it fits."""
    rows = (echo,) if echo and batch_bytes(1, len(echo.data)) == SECTOR_BYTES else ()
    return _encode(_SEAL_MAGIC, sequence, rows, seed)


def _encode(magic: bytes, sequence: int, rows: Sequence[Row], seed: int) -> bytes:
    pack = _ROW.pack
    table = b"".join(
        [pack(kind, group, len(data), crc32(data), at) for kind, group, at, data in rows]
    )
    parts = [data for _, _, _, data in rows]
    data_bytes = sum(map(len, parts))
    unsummed = _HEAD.pack(magic, 0, sequence, len(rows), data_bytes)
    checksum = crc32(table, crc32(unsummed[_SUMMED_FROM:], crc32(magic, seed)))
    head = _HEAD.pack(magic, checksum, sequence, len(rows), data_bytes)
    size = len(head) + len(table) + data_bytes
    return b"".join((head, table, *parts, bytes(padded(size) - size)))


def read_head(buffer: bytes, offset: int, seed: int) -> BatchHead | None:
    """The batch or seal that starts at ``offset``; None if head and table are not sound."""
    if offset + _HEAD.size > len(buffer):
        return None
    magic, checksum, sequence, rows, data_bytes = _HEAD.unpack_from(buffer, offset)
    table_end = offset + _HEAD.size + rows * _ROW.size
    if magic not in (_BATCH_MAGIC, _SEAL_MAGIC) or table_end > len(buffer):
        return None
    if crc32(buffer[offset + _SUMMED_FROM : table_end], crc32(magic, seed)) != checksum:
        return None
    end = offset + padded(table_end - offset + data_bytes)
    return BatchHead(offset, sequence, magic == _SEAL_MAGIC, rows, end)


def peek_sequence(buffer: bytes, offset: int) -> int | None:
    """The sequence that a batch's head claims, sound or not; None if it is no head at all."""
    if offset + _HEAD.size > len(buffer) or not buffer.startswith(_BATCH_MAGIC, offset):
        return None
    sequence: int = _HEAD.unpack_from(buffer, offset)[2]
    return sequence if sequence <= MAX_UINT else None


def find_later_head(buffer: bytes, offset: int, seed: int, sequence: int) -> BatchHead | None:
    """The first sound head from ``offset`` on, of a batch or seal later than ``sequence``.

    Its existence proves that batch ``sequence`` was durable, since no batch is begun before the
    one before it is.
    """
    at = buffer.find(_MAGIC, offset)
    while at >= 0:
        if at % SECTOR_BYTES == 0:
            head = read_head(buffer, at, seed)
            if head is not None and head.sequence > sequence:
                return head
        at = buffer.find(_MAGIC, at + 1)
    return None


def read_records(buffer: bytes, head: BatchHead) -> list[Record]:
    """The records of a batch.

    Raises:
        InvalidInput: the bytes of a record do not match its checksum, or mean nothing.
    """
    records: list[Record] = []
    for found in read_each(buffer, head):
        if isinstance(found, Unreadable):
            raise InvalidInput(found.problem)
        records.append(found)
    return records


class Unreadable(NamedTuple):
    """A record whose bytes are damaged, and what the batch's table says of it."""

    kind: int
    group: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    problem: str


def checksums_match(buffer: bytes, head: BatchHead) -> bool:
    """Whether every record of a batch is what was written, whatever it means."""
    row_at = head.offset + _HEAD.size
    data_at = row_at + head.rows * _ROW.size
    for _, _, length, checksum, _ in _ROW.iter_unpack(buffer[row_at:data_at]):
        if crc32(buffer[data_at : data_at + length]) != checksum:
            return False
        data_at += length
    return True


def read_each(buffer: bytes, head: BatchHead) -> Iterator[Record | Unreadable]:
    """The records of a batch one by one, damaged ones included."""
    row_at = head.offset + _HEAD.size
    data_at = row_at + head.rows * _ROW.size
    for kind, group, length, checksum, index in _ROW.iter_unpack(buffer[row_at:data_at]):
        data = buffer[data_at : data_at + length]
        data_at += length
        what = f"a record of {length} bytes ({_name(kind)} of group number {group}"
        what += f", index {index})" if index else ")"
        if crc32(data) != checksum or len(data) != length:
            yield Unreadable(kind, group, index, f"{what} does not match its checksum")
            continue
        try:
            yield decode_record(kind, group, data)
        except InvalidInput as error:
            yield Unreadable(kind, group, index, f"{what} means nothing: {error}")


def _name(kind: int) -> str:
    names = {
        GROUP: "state",
        HARD_STATE: "term and vote",
        ENTRIES: "entries",
        BASE: "base",
        RETIRED: "retirement",
        RUN: "entries behind a hole",
        DOUBT_ENDED: "end of a doubt",
        ECHO: "echo",
    }
    return names.get(kind, f"kind {kind}")


def encode_record(record: Record) -> Row:
    """A record as bytes. Entries go in as they came: ``Block.encoded``."""
    match record:
        case EntriesAppended(group, block):
            return Row(ENTRIES, group, block.entries[0].index, block.encoded)
        case HardStateSaved(group, hard_state):
            return Row(HARD_STATE, group, 0, msgpack.packb(hard_state))
        case GroupRecorded(group, state):
            name, live, hard_state, base, configuration, doubt = state
            fields = [name, live, hard_state, base, configuration.encode()]
            if doubt is not None:
                fields.append(doubt[:3])
            return Row(GROUP, group, base.index, msgpack.packb(fields))
        case BaseMoved(group, base, configuration, suffix_kept):
            data = msgpack.packb([base, configuration.encode(), suffix_kept])
            return Row(BASE, group, base.index, data)
        case GroupRetired(group):
            return Row(RETIRED, group, 0, b"")
        case RunKept(group, block):
            return Row(RUN, group, block.entries[0].index, block.encoded)
        case DoubtEnded(group):
            return Row(DOUBT_ENDED, group, 0, b"")
        case Echo(records):
            return Row(ECHO, 0, 0, msgpack.packb([_echoed(each) for each in records]))


def echo_row(rows: Sequence[Row], records: Sequence[Record]) -> Row | None:
    """The echo of a batch for the one after it, from the batch's rows and records, if it is short.

    Entries are echoed as a range: what they said, peers know.
    """
    parts: list[tuple[int, int, object]] = []
    size = 0
    for row, record in zip(rows, records, strict=True):
        if type(record) is EntriesAppended:
            entries = record.block.entries
            parts.append((ENTRIES, row.group, (entries[0].index, entries[-1].index)))
            size += 24
        elif type(record) is not Echo:
            parts.append((row.kind, row.group, row.data))
            size += len(row.data) + 16
    if not parts or size > ECHO_BYTES_MAX:
        return None
    return Row(ECHO, 0, 0, msgpack.packb(parts))


def _echoed(record: Echoed) -> tuple[int, int, object]:
    if isinstance(record, EntriesNoted):
        return (ENTRIES, record.group, (record.first_index, record.last_index))
    row = encode_record(record)
    return (row.kind, row.group, row.data)


def _decode_echo(data: bytes) -> Echo:
    records: list[Echoed] = []
    for kind, group, rest in msgpack.unpackb(data, use_list=False):
        if kind == ENTRIES:
            first, last = rest
            if not (type(first) is int and type(last) is int and 0 < first <= last <= MAX_UINT):
                raise ValueError("an echo of entries needs their first and last index")
            records.append(EntriesNoted(group, first, last))
        else:
            record = decode_record(kind, group, rest)
            if isinstance(record, Echo | EntriesAppended):
                raise ValueError("an echo of an echo")
            records.append(record)
    return Echo(tuple(records))


def decode_record(kind: int, group: int, data: bytes) -> Record:
    """The record that ``encode_record`` made.

    Raises:
        InvalidInput: the bytes mean nothing.
    """
    if kind in (ENTRIES, RUN):
        block = Block.decode(data)
        if not block.entries:
            raise InvalidInput("a record of no entries")
        return EntriesAppended(group, block) if kind == ENTRIES else RunKept(group, block)
    if kind == RETIRED:
        return GroupRetired(group)
    if kind == DOUBT_ENDED:
        return DoubtEnded(group)
    try:
        if kind == ECHO:
            return _decode_echo(data)
        value = msgpack.unpackb(data)
        if kind == HARD_STATE:
            return HardStateSaved(group, _hard_state(value))
        if kind == GROUP:
            name, live, hard_state, base, configuration, *doubt = value
            if type(name) is not str or type(live) is not bool:
                raise TypeError("a group needs a name and whether it lives")
            state = GroupState(
                name,
                live,
                _hard_state(hard_state),
                _position(base),
                Configuration.decode(configuration),
                _doubt(*doubt) if doubt else None,
            )
            return GroupRecorded(group, state)
        if kind == BASE:
            base, configuration, suffix_kept = value
            if type(suffix_kept) is not bool:
                raise TypeError("a base needs to say whether the suffix is kept")
            return BaseMoved(
                group, _position(base), Configuration.decode(configuration), suffix_kept
            )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(f"a record of {_name(kind)} is malformed: {error}") from error
    raise InvalidInput(f"a record of an unknown kind {kind}")


def _doubt(value: object) -> Doubt:
    match value:
        case [int(term), int(until), bool(is_open)] if 0 <= term <= MAX_UINT and until >= 0:
            return Doubt(term, until, is_open)
    raise ValueError(f"not a doubt: {value!r}")


def _hard_state(value: object) -> HardState:
    match value:
        case [int(term), str(voted_for)] if 0 <= term <= MAX_UINT:
            return HardState(term, voted_for)
    raise ValueError(f"not a term and a vote: {value!r}")


def _position(value: object) -> LogPosition:
    match value:
        case [int(term), int(index)] if 0 <= term <= MAX_UINT and 0 <= index <= MAX_UINT:
            return LogPosition(term, index)
    raise ValueError(f"not a position: {value!r}")
