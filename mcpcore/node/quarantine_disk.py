"""The file of one group's quarantine, on the disk seam.

This module exists so that ``mcpcore.raft.quarantine`` can speak of bytes that are simply appended,
while here they wait for the disk: written in order, synced together, and written anew as a whole if
the disk refuses once. It must never know what the bytes mean.
"""

from __future__ import annotations

from mcpcore.node.disk import Disk, DiskFile


class QuarantineFile:
    """The bytes of one quarantine: what is on the disk, and what is on its way.

    Args:
        path: of the file; it is made when there is something to write.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._file: DiskFile | None = None
        self._loaded = b""
        self._waiting: list[bytes] = []
        self._size = 0
        self._cut = False
        self._renamed = False
        if disk.exists(path):
            self._file = disk.open(path)
            self._loaded = self._file.read(0, self._file.size())
            self._size = len(self._loaded)

    # --- what the quarantine asks ----------------------------------------------------------------

    def read(self) -> bytes:
        """What stood there at the beginning; to be asked for once."""
        loaded, self._loaded = self._loaded, b""
        return loaded

    def append(self, data: bytes) -> None:
        """Have ``data`` written by the next ``flush``."""
        self._waiting.append(data)

    def truncate(self, size: int) -> None:
        """Have what a crash left torn at the end cut off by the next ``flush``."""
        self._size, self._cut = size, True

    # --- what the driver asks --------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether there is something that is not on the disk."""
        return bool(self._waiting) or self._renamed

    async def flush(self) -> None:
        """Make durable what was appended so far.

        Raises:
            OSError: the disk does not take it. Only ``replace`` helps then: nothing is known of
                what a failed sync has left.
        """
        waiting, self._waiting = self._waiting, []
        try:
            if self._file is None:
                self._file = await self._made()
            if self._renamed:
                await self._disk.sync_dir(self._directory)
                self._renamed = False
            if self._cut:
                await self._file.truncate(self._size)
                self._cut = False
            data = b"".join(waiting)
            await self._file.write(self._size, data, sync=True)
            self._size += len(data)
        except BaseException:  # who asked may have gone away: the next one writes it, there again
            self._waiting = [*waiting, *self._waiting]
            raise

    async def replace(self, whole: bytes) -> None:
        """Make ``whole`` durable in the place of everything, what waits included.

        Raises:
            OSError: the disk does not take it. Either file may stand after a crash.
        """
        stood = len(self._waiting)
        new = f"{self._path}.new"
        file = await self._made(new)
        try:
            await file.truncate(0)
            await file.write(0, whole, sync=True)
            self._disk.rename(new, self._path)
        except BaseException:
            file.close()
            raise
        # From here on the old file has no name: what went there would be lost.
        self.close()
        self._file, self._size, self._cut, self._renamed = file, len(whole), False, True
        await self._disk.sync_dir(self._directory)
        self._renamed = False
        del self._waiting[:stood]

    def close(self) -> None:
        """Give the file back. Twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _directory(self) -> str:
        return self._path.rpartition("/")[0]

    async def _made(self, path: str = "") -> DiskFile:
        directory = self._directory
        if not self._disk.exists(directory):
            self._disk.make_dirs(directory)
            if parent := directory.rpartition("/")[0]:
                await self._disk.sync_dir(parent)
        file = self._disk.open(path or self._path, create=True)
        if not path:
            await self._disk.sync_dir(directory)
        return file
