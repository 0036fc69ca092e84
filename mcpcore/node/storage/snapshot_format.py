"""The bytes of a snapshot file: a head, then chunks that each carry their own checksum.

This module exists so that the format stands in one place that can be read against
``docs/snapshots.md``, by whoever takes, sends, receives, backs up or inspects a snapshot. Pure:
bytes in, values out. No file and no asyncio may come in here.

The *payload* is what the state machine and its sessions gave (``ReplicatedState.snapshot``). It is
cut into chunks of one size, so chunk ``n`` stands where arithmetic says, a receiver knows after a
crash how far its half-received file is sound, and one damaged chunk is named by its number. A
chunk's checksum starts from the checksum of the head's body and the chunk's number, so that no
chunk of another snapshot, and none from another place, passes for it. The head carries the size and
a hash of the whole payload; a writer that does not know them yet writes the head last.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

import msgpack

from mcpcore.errors import InvalidInput, StorageVersion
from mcpcore.raft.types import MAX_UINT, Configuration, LogPosition

FORMAT_VERSION: Final = 1
SECTOR_BYTES: Final = 512
CHUNK_BYTES: Final = 1 << 16
"""Payload of one chunk, the last one excepted: small enough to be sent again without regret."""
CHUNK_BYTES_MAX: Final = 1 << 24
SUM_BYTES: Final = 16
HEAD_BYTES_MAX: Final = 1 << 20
"""A head longer than this is not believed: a configuration of thousands of members fits."""

_MAGIC: Final = b"mcpcSNAP"
_HEAD: Final = struct.Struct("<8sIIQ16s")
"""Magic; CRC-32 of all that follows; length of the body; payload bytes; BLAKE2b of the payload."""
_SUMMED_FROM: Final = 12
_CHECKSUM: Final = struct.Struct("<I")
_NUMBER: Final = struct.Struct("<Q")


class SnapshotId(NamedTuple):
    """Two snapshots with the same id have the same payload, whoever took them."""

    position: LogPosition
    since: int
    payload_bytes: int
    payload_sum: bytes


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """What a snapshot is of.

    Args:
        cluster: the cluster's id.
        group: the group's name.
        position: the last entry it covers.
        configuration_data: in force at ``position``, encoded: kept as it came, so that a head read
            from a file of an older program stands for the same bytes.
        digest: of the state (``ReplicatedState.digest``), to be compared after restoring.
        created_ns: the taker's wall clock, nanoseconds since the Unix epoch; for people only.
        since: 0 for a whole state; else the payload holds what changed after this index.
        payload_bytes: its length.
        payload_sum: BLAKE2b-128 of it.
        chunk_bytes: payload in each chunk but the last.
    """

    cluster: str
    group: str
    position: LogPosition
    configuration_data: bytes
    digest: bytes
    created_ns: int = 0
    since: int = 0
    payload_bytes: int = 0
    payload_sum: bytes = bytes(SUM_BYTES)
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        numbers = (*self.position, self.created_ns, self.since, self.payload_bytes)
        if not all(type(number) is int and 0 <= number <= MAX_UINT for number in numbers):
            raise InvalidInput(f"a number out of range: {numbers}", where="snapshot head")
        if not 0 < self.chunk_bytes <= CHUNK_BYTES_MAX:
            raise InvalidInput(f"chunks of {self.chunk_bytes} bytes", where="snapshot head")
        if self.since and self.since > self.position.index:
            raise InvalidInput(
                f"changes since {self.since} cannot end at {self.position.index}",
                where="snapshot head",
            )
        if len(self.payload_sum) != SUM_BYTES or len(self.digest) > 64:
            raise InvalidInput("a hash of an impossible length", where="snapshot head")

    @property
    def configuration(self) -> Configuration:
        """In force at ``position``.

        Raises:
            InvalidInput: the bytes are none.
        """
        return Configuration.decode(self.configuration_data)

    @property
    def id(self) -> SnapshotId:
        """What tells this payload from every other."""
        return SnapshotId(self.position, self.since, self.payload_bytes, self.payload_sum)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.payload_bytes // self.chunk_bytes)

    @property
    def file_bytes(self) -> int:
        """How long the file is."""
        return head_bytes(self) + self.payload_bytes + self.chunks * _CHECKSUM.size

    def chunk_at(self, number: int) -> tuple[int, int]:
        """Where chunk ``number`` stands in the file, and how many bytes it takes there."""
        length = min(self.chunk_bytes, self.payload_bytes - number * self.chunk_bytes)
        return self.chunk_offset(number), length + _CHECKSUM.size

    def chunk_offset(self, number: int) -> int:
        """Where chunk ``number`` stands in the file, whether or not there is so much payload."""
        return head_bytes(self) + number * (self.chunk_bytes + _CHECKSUM.size)

    def sealed(self, payload_bytes: int, payload_sum: bytes) -> SnapshotHead:
        """The same head, once the payload is known."""
        return replace(self, payload_bytes=payload_bytes, payload_sum=payload_sum)


def encode_head(head: SnapshotHead) -> bytes:
    """The head, padded to whole sectors."""
    body = _body(head)
    fields = _HEAD.pack(_MAGIC, 0, len(body), head.payload_bytes, head.payload_sum)
    checksum = crc32(body, crc32(fields[_SUMMED_FROM:]))
    fields = _HEAD.pack(_MAGIC, checksum, len(body), head.payload_bytes, head.payload_sum)
    return (fields + body).ljust(_padded(len(fields) + len(body)), b"\0")


def head_bytes(head: SnapshotHead) -> int:
    """How many bytes the head takes in the file: the payload's size does not matter for it."""
    return _padded(_HEAD.size + len(_body(head)))


def head_length(prefix: bytes) -> int:
    """How many bytes to read for the head of a file that begins with ``prefix``, one sector.

    Raises:
        InvalidInput: it does not begin like a snapshot.
    """
    if len(prefix) < _HEAD.size or not prefix.startswith(_MAGIC):
        raise InvalidInput("the file does not begin like a snapshot")
    length = _padded(_HEAD.size + _HEAD.unpack_from(prefix)[2])
    if length > HEAD_BYTES_MAX:
        raise InvalidInput(f"a head of {length} bytes is not to be believed")
    return length


def decode_head(data: bytes) -> SnapshotHead:
    """The head that ``encode_head`` made, believed in nothing.

    Raises:
        InvalidInput: the bytes are no sound head.
        StorageVersion: they are, of a format that this program cannot read.
    """
    length = head_length(data)
    _, checksum, body_bytes, payload_bytes, payload_sum = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + body_bytes]
    if len(data) < length or crc32(body, crc32(data[_SUMMED_FROM : _HEAD.size])) != checksum:
        raise InvalidInput("the checksum of the snapshot's head does not match")
    try:
        version, *rest = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(f"the snapshot's head is malformed: {error}") from error
    if version != FORMAT_VERSION:
        raise StorageVersion(
            f"the snapshot has format version {version!r}, this program reads {FORMAT_VERSION}: "
            "run the version that wrote it"
        )
    match rest:
        case [
            str(cluster),
            str(group),
            [int(term), int(index)],
            bytes(configuration),
            bytes(digest),
            int(created_ns),
            int(since),
            int(chunk_bytes),
        ]:
            Configuration.decode(configuration)  # in force once installed: refuse it before that
            return SnapshotHead(
                cluster,
                group,
                LogPosition(term, index),
                configuration,
                digest,
                created_ns,
                since,
                payload_bytes,
                payload_sum,
                chunk_bytes,
            )
    raise InvalidInput(f"the snapshot's head is malformed: {rest!r}")


def _body(head: SnapshotHead) -> bytes:
    body: bytes = msgpack.packb(
        [
            FORMAT_VERSION,
            head.cluster,
            head.group,
            head.position,
            head.configuration_data,
            head.digest,
            head.created_ns,
            head.since,
            head.chunk_bytes,
        ]
    )
    return body


def _padded(size: int) -> int:
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES


class Chunking:
    """The checksums of one snapshot's chunks, and the hash of its payload as it grows.

    Args:
        head: whose chunks they are; the payload's size and hash need not be known.
    """

    __slots__ = ("_hash", "_seed")

    def __init__(self, head: SnapshotHead) -> None:
        self._seed = crc32(_body(head))
        self._hash = blake2b(digest_size=SUM_BYTES)

    def wrap(self, number: int, payload: bytes) -> bytes:
        """A chunk as it stands in the file; its payload counts into ``payload_sum``."""
        self._hash.update(payload)
        return _CHECKSUM.pack(self._checksum(number, payload)) + payload

    def unwrap(self, number: int, data: bytes) -> bytes | None:
        """The payload of a chunk read from a file, or None if it is damaged."""
        if len(data) <= _CHECKSUM.size:
            return None
        payload = data[_CHECKSUM.size :]
        if self._checksum(number, payload) != _CHECKSUM.unpack_from(data)[0]:
            return None
        return payload

    def note(self, payload: bytes) -> None:
        """Count a chunk's payload into ``payload_sum`` that stands in the file already."""
        self._hash.update(payload)

    @property
    def payload_sum(self) -> bytes:
        """The hash of everything wrapped or noted so far."""
        return self._hash.digest()

    def _checksum(self, number: int, payload: bytes) -> int:
        return crc32(payload, crc32(_NUMBER.pack(number), self._seed))
