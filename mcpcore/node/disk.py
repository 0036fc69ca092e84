"""The disk seam: what storage asks of a disk, and nothing more.

This module exists so that the log can be written once and run on a real disk in production and on
a simulated one that tears writes and forgets syncs. Only *waiting for durability* is asynchronous:
reads come from the page cache and happen at start-up. No other module of the kernel opens files.
"""

from __future__ import annotations

from typing import Protocol


class DiskFile(Protocol):
    """An open file, written at explicit offsets."""

    def size(self) -> int:
        """Length in bytes, unsynced writes included."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer at the end of the file."""
        ...

    async def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        """Write all of ``data``; with ``sync``, return only once the file's data is durable.

        Raises:
            OSError: the write or the sync failed. After a failed sync nothing may be assumed about
                any byte written since the last good one, so the caller must stop, not try again.
        """
        ...

    async def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably."""
        ...

    def close(self) -> None:
        """Close without syncing. Closing twice is harmless."""
        ...


class Disk(Protocol):
    """A place for files. Paths are strings, ``/`` between the parts."""

    def make_dirs(self, path: str) -> None:
        """Create a directory and its parents; no error if it is there."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or a directory stands at ``path``."""
        ...

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing; with ``create``, an absent file is made empty.

        Raises:
            OSError: no such file, or no permission.
        """
        ...

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old`` at once; durable after ``sync_dir`` of the parent."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; durable after ``sync_dir`` of the parent."""
        ...

    async def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable."""
        ...
