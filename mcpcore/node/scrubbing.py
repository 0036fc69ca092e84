"""Reading the log again in the background, so that rot is found while it can still be mended.

This module exists because a damaged sector that nobody reads is found at the worst moment: at the
next start, perhaps on two nodes at once. Finished segments are read slowly and their checksums
compared. What is damaged is stored once more from memory, which still has it; the bad file goes.

Storing again is one batch, all or nothing, at the end of the log; it replaces the same entries by
themselves. So at every instant the disk holds one whole log, and no older file is needed any more.

HAZARD: a read may be answered from the operating system's cache, which hides rot on the platter
until the cache lets go of it. The segment that is being written is read once it is finished.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from mcpcore.errors import CoordinationError, InvalidInput, Rejected, StorageVersion
from mcpcore.node.disk import Disk, DiskFile
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_format import (
    SECTOR_BYTES,
    SegmentHeader,
    checksums_match,
    read_head,
    segment_seed,
)
from mcpcore.node.storage.wal_recovery import read_file, segment_path
from mcpcore.raft.types import Block, Entry

logger = logging.getLogger("mcpcore.node.scrubbing")

PAUSE_S = 60.0
"""Between two rounds, at least."""
_STEP_BYTES = 256 << 10


class Scrubbed(Protocol):
    """What a scrubber needs of a group: ``Group`` fits."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def stored_entries(self) -> list[Entry] | None:
        """Everything after its base, as the device has it; None if that cannot be said now."""
        ...


@dataclass(slots=True)
class ScrubStatus:
    """What scrubbing has done since the node started."""

    rounds: int = 0
    bytes_read: int = 0
    damaged: list[str] = field(default_factory=list)
    """Damage that was found, newest last, one sentence each."""
    mended: int = 0
    """How many damaged files were replaced."""


class Scrubber:
    """The background reader of one node's log.

    Args:
        device: the open log.
        groups: the groups that are served here.
        bytes_per_s: how fast to read.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        device: WriteAheadLog,
        groups: Callable[[], Iterable[Scrubbed]],
        *,
        bytes_per_s: int,
    ) -> None:
        if bytes_per_s <= 0:
            raise InvalidInput(f"must be above zero, not {bytes_per_s}", where="scrub_bytes_per_s")
        self._disk = disk
        self._directory = directory
        self._device = device
        self._groups = groups
        self._bytes_per_s = bytes_per_s
        self.status = ScrubStatus()

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(PAUSE_S)

    async def round(self) -> None:
        """Read every finished segment once; mend what is damaged."""
        for number in self._device.finished_segments():
            problem = await self._read(number)
            if problem and number in self._device.finished_segments():
                path = segment_path(self._directory, number)
                if f"{path}: {problem}" not in self.status.damaged:
                    self.status.damaged.append(f"{path}: {problem}")
                    logger.error("%s rotted: %s", path, problem)
                await self._mend(number)
                break  # the files have changed: begin anew
        self.status.rounds += 1

    async def _read(self, number: int) -> str:
        """What is wrong with a segment; empty if nothing is."""
        path = segment_path(self._directory, number)
        try:
            header = read_file(self._disk, path, SECTOR_BYTES)
            if SegmentHeader.decode(header).number != number:
                return "byte 0: it is another segment"
            file = self._disk.open(path)
        except (InvalidInput, StorageVersion) as error:
            return f"byte 0: {error}"
        except OSError as error:
            # Dropped meanwhile, which is fine; or it cannot be read, which ``_mend`` cures.
            return f"it cannot be read: {error}"
        try:
            return await self._read_batches(file, segment_seed(header))
        except OSError as error:
            return f"it cannot be read: {error}"
        finally:
            file.close()

    async def _read_batches(self, file: DiskFile, seed: int) -> str:
        offset, size = SECTOR_BYTES, file.size()
        while offset < size:
            length = _STEP_BYTES
            buffer = file.read(offset, length)
            head = read_head(buffer, 0, seed)
            while head is None and length < size - offset and not _is_zero(buffer):
                length *= 4  # a table longer than a step
                buffer = file.read(offset, length)
                head = read_head(buffer, 0, seed)
            if head is None:
                return "" if self._is_rest(file, offset, size) else f"byte {offset}: no sound batch"
            if head.end > len(buffer):
                buffer = file.read(offset, head.end)
            if not checksums_match(buffer, head):
                return f"byte {offset}: a record does not match its checksum"
            offset += head.end
            self.status.bytes_read += head.end
            await asyncio.sleep(head.end / self._bytes_per_s)
        return ""

    @staticmethod
    def _is_rest(file: DiskFile, offset: int, size: int) -> bool:
        """Whether only zeros, reserved and never used, are left."""
        return _is_zero(file.read(offset, size - offset))

    async def _mend(self, number: int) -> None:
        """Store again what the damaged segment and those before it hold; then they can go."""
        served = {group.name: group for group in self._groups()}
        blocks: dict[str, list[Entry]] = {}
        for name in self._device.groups_in(number):
            entries = served[name].stored_entries() if name in served else None
            if entries is None:
                logger.error(
                    "segment %d cannot be replaced now: group %s is not at hand", number, name
                )
                return
            blocks[name] = entries
        try:
            await self._device.rewrite(
                {name: [Block(tuple(entries))] for name, entries in blocks.items() if entries}
            )
        except Rejected as refusal:
            logger.warning("segment %d is replaced later: %s", number, refusal)
            return
        except CoordinationError as error:
            logger.error("segment %d could not be replaced: %s", number, error)
            return
        if number not in self._device.finished_segments():
            self.status.mended += 1
            logger.warning("segment %d was replaced: nothing is lost", number)


def _is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)
