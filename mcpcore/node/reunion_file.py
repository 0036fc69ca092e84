"""What must survive a restart about one group's reunions, in a small file of its own.

This module exists so that an operator's refusal to decide is not undone by a restart, nor an answer
forgotten by one, and so that the reports of past cuts are there when somebody asks. It is replaced
as a whole, and no file stands where there is nothing to remember. It must never decide anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final
from zlib import crc32

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.node.disk import Disk
from mcpcore.raft.reunion import Answer

_MAGIC: Final = b"MCPREUN1"
REPORTS_MAX: Final = 16
"""Reports that are kept; the oldest go first."""


@dataclass(slots=True)
class ReunionMemory:
    """What is remembered.

    Args:
        split: the verdict was ``split``, and no reunion has followed yet.
        agreed: an answer that was given and not yet carried out.
        reports: of past cuts, as ``DivergenceReport.as_dict`` has them, the oldest first.
    """

    split: bool = False
    agreed: Answer | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remember."""
        return not (self.split or self.agreed or self.reports)

    def add(self, report: dict[str, Any]) -> None:
        """Remember one more report; a newer one of an episode takes the place of the older."""
        rest = [each for each in self.reports if each["episode"] != report["episode"]]
        self.reports = [*rest, report][-REPORTS_MAX:]

    def encode(self) -> bytes:
        """The bytes of the file: a mark, a checksum, and a map."""
        body: bytes = msgpack.packb(asdict(self) | {"agreed": self.agreed})
        return _MAGIC + crc32(body).to_bytes(4, "big") + body

    @classmethod
    def decode(cls, encoded: bytes) -> ReunionMemory:
        """Read what ``encode`` made.

        Raises:
            InvalidInput: these are not its bytes.
        """
        head, check, body = encoded[:8], encoded[8:12], encoded[12:]
        if head != _MAGIC or int.from_bytes(check, "big") != crc32(body):
            raise InvalidInput("not a file about reunions, or a damaged one", where="reunion")
        try:
            found = msgpack.unpackb(body)
            agreed = None if found["agreed"] is None else Answer(*found["agreed"])
            return cls(bool(found["split"]), agreed, list(found["reports"]))
        except Exception as error:  # whatever a checksummed file of another program holds
            raise InvalidInput(f"not a file about reunions: {error!r}", where="reunion") from error


class ReunionFile:
    """The memory on a disk.

    Args:
        path: of the file; there is none while there is nothing to remember.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self.memory = ReunionMemory()
        self.problem = ""
        """Why the file could not be read; else empty."""
        self._there = disk.exists(path)
        if self._there:
            file = disk.open(path)
            try:
                self.memory = ReunionMemory.decode(file.read(0, file.size()))
            except InvalidInput as error:
                self.problem = f"{path}: {error}"
            finally:
                file.close()

    async def store(self) -> None:
        """Make the memory durable as it is now.

        Raises:
            OSError: the disk does not take it; the old file stands.
        """
        disk, directory = self._disk, self._path.rpartition("/")[0]
        if self.memory.empty:
            if self._there:
                disk.remove(self._path)
                await disk.sync_dir(directory)
                self._there = False
            return
        if not disk.exists(directory):
            disk.make_dirs(directory)
            await disk.sync_dir(directory.rpartition("/")[0])
        new = f"{self._path}.new"
        file = disk.open(new, create=True)
        try:
            await file.truncate(0)
            await file.write(0, self.memory.encode(), sync=True)
        finally:
            file.close()
        disk.rename(new, self._path)
        await disk.sync_dir(directory)
        self._there = True
