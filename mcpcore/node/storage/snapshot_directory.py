"""Which snapshots of a group there are: names, order, what may go.

This module exists so that one place knows where snapshots lie and which of them are still needed,
whether a node, a repair or a backup asks. A directory ``snapshots`` beside the log holds one
directory for each group. It never judges a snapshot's contents against the log.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

from mcpcore.node.disk import Disk
from mcpcore.node.storage.contract import check_name
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.raft.types import LogPosition

TAKING: Final = "taking.part"
"""The snapshot that this node is writing of its own state; worth nothing after a crash."""
RECEIVING: Final = "receiving.part"
"""The snapshot that is arriving from another member; a later life goes on with it."""
_NAME: Final = re.compile(r"([0-9]{20})-([0-9]{20})\.snap")
_CHANGES: Final = re.compile(r"[0-9]+\.changes(\.part)?")


class StoredSnapshot(NamedTuple):
    """A finished snapshot, by its name."""

    position: LogPosition
    path: str


class SnapshotDirectory:
    """The snapshots of one group on one node.

    Args:
        disk: where they are.
        data: the node's data directory, which also holds the log.
        group: the group's name.
    """

    def __init__(self, disk: Disk, data: str, group: str) -> None:
        check_name(group, "a group's name")
        self.disk = disk
        self.path = f"{data}/snapshots/{directory_name(group)}"
        self._changes = 0

    async def prepare(self) -> None:
        """Make the directory, durably, and remove what an earlier life left half done.

        Raises:
            OSError: the disk does not work.
        """
        disk = self.disk
        if not disk.exists(self.path):
            disk.make_dirs(self.path)
            parts = self.path.split("/")
            for depth in (-1, -2):
                if parents := "/".join(parts[:depth]):
                    await disk.sync_dir(parents)
        for name in disk.list_dir(self.path):
            if name == TAKING or _CHANGES.fullmatch(name):
                disk.remove(f"{self.path}/{name}")

    @property
    def taking(self) -> str:
        """Where a snapshot of our own state is written."""
        return f"{self.path}/{TAKING}"

    @property
    def receiving(self) -> str:
        """Where a snapshot from another member is put together."""
        return f"{self.path}/{RECEIVING}"

    def changes(self) -> str:
        """A name for a file of changes that is made for one member; gone at the next start."""
        self._changes += 1
        return f"{self.path}/{self._changes}.changes"

    def final(self, position: LogPosition) -> str:
        """The name of a finished snapshot."""
        return f"{self.path}/{position.index:020}-{position.term:020}.snap"

    def stored(self) -> list[StoredSnapshot]:
        """The finished snapshots, newest first, damaged ones included."""
        found = []
        for name in self.disk.list_dir(self.path):
            match = _NAME.fullmatch(name)
            if match is not None:
                position = LogPosition(int(match[2]), int(match[1]))
                found.append(StoredSnapshot(position, f"{self.path}/{name}"))
        return sorted(found, key=lambda each: each.position.index, reverse=True)

    def open(self, stored: StoredSnapshot) -> SnapshotReader:
        """Read one of them; see ``SnapshotReader.open``."""
        return SnapshotReader.open(self.disk, stored.path)

    async def drop_below(self, index: int) -> list[str]:
        """Remove the finished snapshots that end before ``index``, but never the newest.

        Returns:
            The names of what is gone.

        Raises:
            OSError: the disk does not work.
        """
        gone = [each.path for each in self.stored()[1:] if each.position.index < index]
        for path in gone:
            self.disk.remove(path)
        if gone:
            await self.disk.sync_dir(self.path)
        return gone

    async def discard(self, path: str) -> None:
        """Remove one file, if it is there.

        Raises:
            OSError: the disk does not work.
        """
        if self.disk.exists(path):
            self.disk.remove(path)
            await self.disk.sync_dir(self.path)


def directory_name(group: str) -> str:
    """A name for the directory of a group: readable, short, and unlike every other group's."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", group)[:60].lstrip(".")
    return f"{readable}-{blake2b(group.encode(), digest_size=6).hexdigest()}"
