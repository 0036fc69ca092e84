"""A disk in memory that remembers what is durable, for tests of everything above the disk seam.

It exists so that a test can say "the power fails here, and these sectors made it": the simulator's
disk draws such things at random, a unit test wants to choose them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Container
from dataclasses import dataclass, field

SECTOR = 512


@dataclass
class Inode:
    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)

    def dirty_sectors(self) -> list[int]:
        size = max(len(self.seen), len(self.durable))
        return [
            at
            for at in range(0, size, SECTOR)
            if self.seen[at : at + SECTOR] != self.durable[at : at + SECTOR]
        ]

    def after_power_failure(self, survivors: Container[int]) -> bytearray:
        """Any subset of the unsynced sectors may have reached the platter."""
        data = bytearray(self.durable)
        for at in self.dirty_sectors():
            if at in survivors:
                part = self.seen[at : at + SECTOR]
                data.extend(bytes(max(0, at + len(part) - len(data))))
                data[at : at + len(part)] = part
        return data


class RamDisk:
    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.capacity_bytes: int | None = None
        self.writes = 0
        self.syncs = 0
        self.reads = 0
        self.fail_write_number: int | None = None
        self.fail_sync_number: int | None = None
        self.syncs_return = asyncio.Event()
        self.syncs_return.set()
        self.syncs_under_way = 0

    # --- The seam ---

    def make_dirs(self, path: str) -> None:
        pass

    def list_dir(self, path: str) -> list[str]:
        return sorted(n[len(path) + 1 :] for n in self.names if n.rpartition("/")[0] == path)

    def exists(self, path: str) -> bool:
        return path in self.names

    def open(self, path: str, *, create: bool = False) -> RamFile:
        if path not in self.names:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.names[path] = Inode()
        return RamFile(self, self.names[path])

    def rename(self, old: str, new: str) -> None:
        self.names[new] = self.names.pop(old)

    def remove(self, path: str) -> None:
        del self.names[path]

    async def sync_dir(self, path: str) -> None:
        await asyncio.sleep(0)
        self.durable_names = dict(self.names)

    # --- What a test does to it ---

    @property
    def used_bytes(self) -> int:
        return sum(len(inode.seen) for inode in self.names.values())

    def after_process_death(self) -> RamDisk:
        """kill -9: the operating system's cache is still there."""
        disk = RamDisk()
        disk.names = {
            n: Inode(bytearray(i.seen), bytearray(i.durable)) for n, i in self.names.items()
        }
        disk.durable_names = dict(disk.names)
        return disk

    def after_power_failure(self, survivors: Container[int] = ()) -> RamDisk:
        """What is left if, of all unsynced sectors, those at ``survivors`` were written."""
        disk = RamDisk()
        for name, inode in self.durable_names.items():
            data = inode.after_power_failure(survivors)
            disk.names[name] = Inode(bytearray(data), bytearray(data))
        disk.durable_names = dict(disk.names)
        return disk

    def with_file(self, path: str, data: bytes) -> RamDisk:
        """The same disk with other bytes in one file."""
        disk = self.after_process_death()
        disk.names[path] = Inode(bytearray(data), bytearray(data))
        disk.durable_names = dict(disk.names)
        return disk


class RamFile:
    def __init__(self, disk: RamDisk, inode: Inode) -> None:
        self.disk = disk
        self.inode = inode
        self.closed = False

    def size(self) -> int:
        return len(self.inode.seen)

    def read(self, offset: int, length: int) -> bytes:
        self.disk.reads += 1
        return bytes(self.inode.seen[offset : offset + length])

    async def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        assert not self.closed
        disk, seen = self.disk, self.inode.seen
        disk.writes += 1
        if disk.writes == disk.fail_write_number:
            raise OSError(errno.EIO, "the write failed")
        growth = max(0, offset + len(data) - len(seen))
        if disk.capacity_bytes is not None and disk.used_bytes + growth > disk.capacity_bytes:
            raise OSError(errno.ENOSPC, "no space left")
        seen.extend(bytes(growth))
        seen[offset : offset + len(data)] = data
        if sync:
            await self.sync()

    async def sync(self) -> None:
        disk = self.disk
        disk.syncs += 1
        if disk.syncs == disk.fail_sync_number:
            raise OSError(errno.EIO, "the sync failed")
        disk.syncs_under_way += 1
        assert disk.syncs_under_way == 1, "one write and sync at a time"
        snapshot = bytearray(self.inode.seen)
        await asyncio.sleep(0)
        await disk.syncs_return.wait()
        disk.syncs_under_way -= 1
        self.inode.durable = snapshot

    async def truncate(self, size: int) -> None:
        await asyncio.sleep(0)
        del self.inode.seen[size:]
        self.inode.durable = bytearray(self.inode.seen)

    def close(self) -> None:
        self.closed = True
