"""Writing and reading one snapshot file.

This module exists so that a file under a snapshot's final name is whole and durable, always: it is
written under another name, synced, and only then renamed. Whoever reads believes nothing: each
chunk is checked as it is read. Which snapshots to keep is ``snapshot_directory``'s business.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Final

from mcpcore.errors import InvalidInput, SnapshotDamaged
from mcpcore.node.disk import Disk, DiskFile
from mcpcore.node.storage.snapshot_format import (
    SECTOR_BYTES,
    Chunking,
    SnapshotHead,
    decode_head,
    encode_head,
    head_length,
)

SYNC_EVERY_BYTES: Final = 8 << 20
"""How much is written between two syncs, so that the last one does not take long and no other
file's sync has to wait behind all of it."""


class SnapshotWriter:
    """A snapshot file as it grows, chunk after chunk, under a name of its own.

    Made by ``create`` or ``resume``; ends with ``finish`` or ``close``. One call at a time.
    """

    def __init__(self, disk: Disk, path: str, file: DiskFile, head: SnapshotHead) -> None:
        self.path = path
        self.head = head
        self._disk = disk
        self._file = file
        self._known = bool(head.payload_bytes)
        self._chunking = Chunking(head)
        self._chunks = 0
        self._written_bytes = 0
        self._rest = bytearray()
        self._unsynced_bytes = 0

    @classmethod
    async def create(cls, disk: Disk, path: str, head: SnapshotHead) -> SnapshotWriter:
        """Begin a file, in the place of any that stands at ``path``.

        Args:
            path: a temporary name, in the directory of the final one.
            head: with ``payload_bytes`` and ``payload_sum`` if they are known (a snapshot that is
                received), so that an interrupted file can be resumed; else with zeros.

        Raises:
            OSError: the disk does not work, or is full.
        """
        file = disk.open(path, create=True)
        try:
            if file.size():
                await file.truncate(0)
            writer = cls(disk, path, file, head)
            if writer._known:
                await file.write(0, encode_head(head), sync=False)
        except BaseException:
            file.close()
            raise
        return writer

    @classmethod
    def resume(cls, disk: Disk, path: str) -> SnapshotWriter:
        """Take up a file whose head says what it is to become, at the end of its sound chunks.

        Raises:
            SnapshotDamaged: the head is not sound; begin anew.
            OSError: there is no such file, or it cannot be read.
        """
        file = disk.open(path)
        try:
            head = _read_head(file, path)
            if not head.payload_bytes:
                raise SnapshotDamaged("it does not say what it is to become", path=path)
            writer = cls(disk, path, file, head)
            for number in range(head.chunks):
                payload = writer._chunking.unwrap(number, file.read(*head.chunk_at(number)))
                if payload is None:
                    break
                writer._chunking.note(payload)
                writer._chunks += 1
                writer._written_bytes += len(payload)
        except BaseException:
            file.close()
            raise
        return writer

    @property
    def offset(self) -> int:
        """Payload bytes taken so far, those included that do not fill a chunk yet."""
        return self._written_bytes + len(self._rest)

    async def add(self, payload: bytes) -> None:
        """Append to the payload; any length will do.

        Raises:
            InvalidInput: it would grow longer than its head says.
            OSError: the disk does not work, or is full. The file is of no use then.
        """
        if self._known and self.offset + len(payload) > self.head.payload_bytes:
            raise InvalidInput(
                f"{self.offset + len(payload)} bytes of a payload of {self.head.payload_bytes}",
                where=self.path,
            )
        self._rest += payload
        size = self.head.chunk_bytes
        whole = len(self._rest) // size
        if self._known and self.offset == self.head.payload_bytes:
            whole = -(-len(self._rest) // size)  # the last chunk may be shorter
        if whole:
            await self._write_chunks(whole)

    async def finish(self, path: str) -> SnapshotHead:
        """Make the file durable and give it its final name.

        Returns:
            The head, with size and hash of the payload.

        Raises:
            SnapshotDamaged: it is not what its head says. Nothing was renamed; begin anew.
            OSError: the disk does not work, or is full. Nothing may be assumed about the file.
        """
        if self._rest:
            await self._write_chunks(-(-len(self._rest) // self.head.chunk_bytes))
        sealed = self.head
        if not self._known:
            sealed = self.head.sealed(self._written_bytes, self._chunking.payload_sum)
        elif (self._written_bytes, self._chunking.payload_sum) != (
            sealed.payload_bytes,
            sealed.payload_sum,
        ):
            raise SnapshotDamaged("the payload is not what its head says", path=self.path)
        if self._file.size() > sealed.file_bytes:
            await self._file.truncate(sealed.file_bytes)
        await self._file.write(0, encode_head(sealed), sync=True)
        self._file.close()
        self._disk.rename(self.path, path)
        await self._disk.sync_dir(posixpath.dirname(path))
        return sealed

    def close(self) -> None:
        """Leave the file as it is, for ``resume`` or for nobody. Twice is harmless."""
        self._file.close()

    async def _write_chunks(self, count: int) -> None:
        """Write ``count`` chunks from the front of what waits; only the last may be short."""
        size, first = self.head.chunk_bytes, self._chunks
        taken = bytes(self._rest[: count * size])
        del self._rest[: count * size]
        data = b"".join(
            self._chunking.wrap(first + number, taken[number * size : (number + 1) * size])
            for number in range(count)
        )
        self._unsynced_bytes += len(data)
        sync = self._unsynced_bytes >= SYNC_EVERY_BYTES
        await self._file.write(self.head.chunk_offset(first), data, sync=sync)
        if sync:
            self._unsynced_bytes = 0
        self._chunks += count
        self._written_bytes += len(taken)


class SnapshotReader:
    """A snapshot file, read and checked. Made by ``open``; close it when done.

    Reading blocks, so a large file is read in a thread or a part at a time.
    """

    def __init__(self, file: DiskFile, path: str, head: SnapshotHead) -> None:
        self.path = path
        self.head = head
        self._file = file
        self._cached: tuple[int, bytes] = (-1, b"")

    @classmethod
    def open(cls, disk: Disk, path: str) -> SnapshotReader:
        """Open a finished file and read its head.

        Raises:
            SnapshotDamaged: the head is not sound, or the file has not the length it tells.
            StorageVersion: it was written in a format that this program cannot read.
            OSError: there is no such file, or it cannot be read.
        """
        file = disk.open(path)
        try:
            head = _read_head(file, path)
            if file.size() != head.file_bytes:
                raise SnapshotDamaged(
                    f"it has {file.size()} bytes, and its head calls for {head.file_bytes}",
                    path=path,
                    offset=min(file.size(), head.file_bytes),
                )
        except BaseException:
            file.close()
            raise
        return cls(file, path, head)

    def chunks(self) -> Iterator[bytes]:
        """The whole payload, a chunk at a time, for ``ReplicatedState.restore``.

        Raises:
            SnapshotDamaged: a chunk, or the payload as a whole, is not what was written.
        """
        chunking = Chunking(self.head)
        for number in range(self.head.chunks):
            payload = self._chunk(chunking, number)
            chunking.note(payload)
            yield payload
        if chunking.payload_sum != self.head.payload_sum:
            raise SnapshotDamaged("the hash of the payload does not match", path=self.path)

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of the payload from ``offset``: to the end of a chunk at most.

        Raises:
            SnapshotDamaged: the chunk that holds them is not what was written.
        """
        if not 0 <= offset < self.head.payload_bytes:
            return b""
        number, start = divmod(offset, self.head.chunk_bytes)
        if self._cached[0] != number:
            self._cached = (number, self._chunk(Chunking(self.head), number))
        return self._cached[1][start : start + length]

    def verify(self) -> None:
        """Read all of it.

        Raises:
            SnapshotDamaged: it is not what was written.
        """
        for _ in self.chunks():
            pass

    def close(self) -> None:
        """Give the file back. Twice is harmless."""
        self._file.close()

    def _chunk(self, chunking: Chunking, number: int) -> bytes:
        at, length = self.head.chunk_at(number)
        payload = chunking.unwrap(number, self._file.read(at, length))
        if payload is None:
            raise SnapshotDamaged(
                f"chunk {number} of {self.head.chunks} does not match its checksum",
                path=self.path,
                offset=at,
            )
        return payload


def _read_head(file: DiskFile, path: str) -> SnapshotHead:
    try:
        return decode_head(file.read(0, head_length(file.read(0, SECTOR_BYTES))))
    except InvalidInput as error:
        raise SnapshotDamaged(str(error), path=path) from error
