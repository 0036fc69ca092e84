"""A disk that keeps only what it promised, and in bad hands not even that.

This module exists so that storage code meets, under virtual time, every way in which disks fail:
unsynced writes lost or torn when the power goes, syncs that fail, lie or stall, rot, writes that
land elsewhere, reads that return the past, a full device. It offers the methods of the kernel's
disk seam (``mcpcore.node.disk``) without importing it. No real file is ever touched.

Two views of each file are kept: what programs see (the page cache) and what the platter holds.
Names work likewise: a creation, renaming or removal survives a power loss for certain only once
the directory is synced. Directories themselves are durable at once.

Source: the failure modes are those of Alagappan et al. 2018, "Protocol-aware recovery for
consensus-based storage", and Rebello et al. 2020, "Can applications recover from fsync failures?".
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcpcore.sim.delay import Delay

if TYPE_CHECKING:
    from mcpcore.sim.host import Host

_USUAL_SYNC = Delay("uniform", 0.2, 0.6)
SECTOR_BYTES = 512
"""What a device writes in one piece: a torn write is torn here."""


class _Inode:
    """One file: what programs see, what the platter holds, and the writes in between."""

    __slots__ = ("cache", "forgotten", "last_write", "pending", "platter")

    def __init__(self) -> None:
        self.cache = bytearray()
        self.platter = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []
        """Writes since the last sync: (offset, data), or (size, None) for a truncation."""
        self.forgotten = False
        """Whether a failed sync dropped dirty pages: they look clean and are nowhere."""
        self.last_write: tuple[int, bytes] = (0, b"")
        """Where the last write went and what stood there before, for stale reads."""


def _apply(store: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if len(store) > offset:
            del store[offset:]
        else:
            store.extend(bytes(offset - len(store)))
        return
    if len(store) < offset:
        store.extend(bytes(offset - len(store)))
    store[offset : offset + len(data)] = data


class SimDisk:
    """The disk of one host.

    Args:
        host: whose disk it is.
        draw: the disk's own random stream.
    """

    def __init__(self, host: Host, draw: random.Random) -> None:
        self._host = host
        self._draw = draw
        self.sync_delay = _USUAL_SYNC
        """How long a sync takes. Change it to make the disk slow."""
        self.capacity_bytes: int | None = None
        self.lying = False
        """While true, syncs report success and make nothing durable."""
        self.failing: int | None = None
        """While an ``errno``, every write, sync and truncation raises it."""
        self.losing_syncs = 0
        """How many of the next syncs fail with EIO and forget the dirty pages."""
        self.misdirecting = 0
        """How many of the next writes land elsewhere."""
        self.stale_reads = 0
        """How many of the next reads return what stood there before the last write."""
        self.syncs = 0
        """How many syncs and truncations were asked for."""
        self.touched: dict[str, int] = {}
        """How often each fault had an effect."""
        self._stalled = False
        self._stalled_work: list[Callable[[], None]] = []
        self._free_at_ns = 0
        self._dirs: dict[str, None] = {}
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._name_changes: list[tuple[str, Callable[[dict[str, _Inode]], None]]] = []

    # --- the seam ---------------------------------------------------------------------------------

    def make_dirs(self, path: str) -> None:
        """Create a directory and its parents; no error if it is there."""
        path = _clean(path)
        while path and path not in self._dirs:
            self._dirs[path] = None
            path = posixpath.dirname(path)

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        path = _clean(path)
        return sorted(
            posixpath.basename(each)
            for each in (*self._names, *self._dirs)
            if each and posixpath.dirname(each) == path
        )

    def exists(self, path: str) -> bool:
        """Whether a file or a directory stands at ``path``."""
        path = _clean(path)
        return path in self._names or path in self._dirs or path == ""

    def open(self, path: str, *, create: bool = False) -> SimFile:
        """Open for reading and writing; with ``create``, an absent file is made empty.

        Raises:
            FileNotFoundError: no such file, or no such directory.
        """
        path = _clean(path)
        inode = self._names.get(path)
        if inode is None:
            parent = posixpath.dirname(path)
            if not create or (parent and parent not in self._dirs):
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            fresh = inode = _Inode()
            self._change_names(parent, lambda names: names.__setitem__(path, fresh))
        return SimFile(self, inode, path)

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old`` at once; durable after ``sync_dir`` of the parent.

        Raises:
            FileNotFoundError: no such file.
        """
        old, new = _clean(old), _clean(new)
        inode = self._names.get(old)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", old)

        def change(names: dict[str, _Inode]) -> None:
            names.pop(old, None)
            names[new] = inode

        self._change_names(posixpath.dirname(new), change)

    def remove(self, path: str) -> None:
        """Remove a file; durable after ``sync_dir`` of the parent.

        Raises:
            FileNotFoundError: no such file.
        """
        path = _clean(path)
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

        def change(names: dict[str, _Inode]) -> None:
            names.pop(path, None)

        self._change_names(posixpath.dirname(path), change)

    async def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable.

        Raises:
            OSError: the disk failed; nothing may be assumed about the names.
        """
        path = _clean(path)
        mine = [change for change in self._name_changes if change[0] == path]
        await self._work(path, self.sync_delay)
        if self._lies():
            return
        for change in mine:
            if change in self._name_changes:
                self._name_changes.remove(change)
                change[1](self._durable_names)

    def _change_names(self, parent: str, change: Callable[[dict[str, _Inode]], None]) -> None:
        change(self._names)
        self._name_changes.append((parent, change))

    # --- what files ask for -----------------------------------------------------------------------

    def read(self, inode: _Inode, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes as programs see them."""
        data = bytearray(inode.cache[offset : offset + length])
        if self.stale_reads and data:
            self.stale_reads -= 1
            where, before = inode.last_write
            self._touch("stale_read")
            for index, byte in enumerate(before):
                if 0 <= where + index - offset < len(data):
                    data[where + index - offset] = byte
        return bytes(data)

    async def write(self, inode: _Inode, path: str, offset: int, data: bytes, sync: bool) -> None:
        """Write, and sync if asked."""
        self._refuse_if_failing(path)
        growth = max(0, offset + len(data) - len(inode.cache))
        if self.capacity_bytes is not None and self.used_bytes() + growth > self.capacity_bytes:
            self._touch("full")
            raise OSError(errno.ENOSPC, "No space left on device", path)
        if self.misdirecting and data:
            self.misdirecting -= 1
            self._touch("misdirected_write")
            sectors = max(1, len(inode.cache) // SECTOR_BYTES)
            offset = self._draw.randrange(sectors) * SECTOR_BYTES + offset % SECTOR_BYTES
        inode.last_write = (offset, bytes(inode.cache[offset : offset + len(data)]))
        _apply(inode.cache, offset, data)
        inode.pending.append((offset, data))
        self._note("disk_write", path, offset, len(data))
        if sync:
            await self._sync(inode, path)

    async def truncate(self, inode: _Inode, path: str, size: int) -> None:
        """Cut, durably."""
        self._refuse_if_failing(path)
        _apply(inode.cache, size, None)
        inode.pending.append((size, None))
        self._note("disk_truncate", path, size)
        await self._sync(inode, path)

    async def _sync(self, inode: _Inode, path: str) -> None:
        covered = len(inode.pending)
        await self._work(path, self.sync_delay)
        if self.losing_syncs:
            # The kernel reports the error once and marks the pages clean: see Rebello et al.
            self.losing_syncs -= 1
            self._touch("lost_sync")
            del inode.pending[:covered]
            inode.forgotten = True
            raise OSError(errno.EIO, "Input/output error", path)
        if self._lies():
            return
        for offset, data in inode.pending[:covered]:
            _apply(inode.platter, offset, data)
        del inode.pending[:covered]
        self._note("disk_sync", path, len(inode.platter))

    async def _work(self, path: str, delay: Delay) -> None:
        """Wait for the device. Syncs queue up behind each other, as they do in one device."""
        self._refuse_if_failing(path)
        self.syncs += 1
        loop = self._host.loop
        done: asyncio.Future[None] = loop.create_future()
        start_ns = max(loop.true_ns(), self._free_at_ns)
        self._free_at_ns = start_ns + delay.draw_ns(self._draw)

        def finish() -> None:
            if self._stalled:
                self._touch("stall")
                self._stalled_work.append(finish)
            elif not done.done() and not loop.is_closed():
                done.set_result(None)

        loop.timeline.at(self._free_at_ns, finish)
        await done
        self._refuse_if_failing(path)

    def _refuse_if_failing(self, path: str) -> None:
        if self.failing is not None:
            self._touch("error")
            raise OSError(self.failing, "simulated disk error", path)

    def _lies(self) -> bool:
        if self.lying:
            self._touch("lying_sync")
        return self.lying

    def _touch(self, kind: str) -> None:
        self.touched[kind] = self.touched.get(kind, 0) + 1
        self._note("disk_fault", kind)

    def _note(self, kind: str, *detail: str | int) -> None:
        self._host.timeline.trace.note(self._host.name, kind, *detail)

    # --- faults -----------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Bytes in all files, as programs see them."""
        return sum(len(inode.cache) for inode in self._names.values())

    def stall(self) -> None:
        """Let nothing finish until :meth:`unstall`."""
        self._stalled = True

    def unstall(self) -> None:
        """Finish what waited."""
        self._stalled = False
        work, self._stalled_work = self._stalled_work, []
        for finish in work:
            finish()

    def heal(self) -> None:
        """Be honest and quick from now on. What is lost or rotten stays so."""
        self.unstall()
        self.capacity_bytes = self.failing = None
        self.lying = False
        self.losing_syncs = self.misdirecting = self.stale_reads = 0
        self.sync_delay = _USUAL_SYNC

    def rot(self, bits: int = 1, *, path: str | None = None) -> int:
        """Flip bits at random places of the platter (and of the cache); return how many.

        Args:
            path: in this file only; else anywhere, each byte being equally likely.

        Raises:
            FileNotFoundError: no such file.
        """
        flipped = 0
        names = self._names
        if path is not None:
            found = names.get(_clean(path))
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            names = {path: found}
        for _ in range(bits):
            total = sum(len(inode.platter) for inode in names.values())
            if total == 0:
                break
            at = self._draw.randrange(total)
            for inode in names.values():
                if at < len(inode.platter):
                    mask = 1 << self._draw.randrange(8)
                    inode.platter[at] ^= mask
                    if at < len(inode.cache):
                        inode.cache[at] ^= mask
                    break
                at -= len(inode.platter)
            flipped += 1
            self._touch("bit_rot")
        return flipped

    def power_lost(self) -> None:
        """Forget what was not durable: each unsynced write is kept, lost or torn, by seed."""
        for inode in self._every_inode():
            for offset, data in inode.pending:
                self._survive(inode, offset, data)
            inode.pending.clear()
            inode.cache = bytearray(inode.platter)
            inode.last_write = (0, b"")
        # Names are journalled: a crash keeps a prefix of the changes, never a later one alone.
        kept = self._draw.randint(0, len(self._name_changes))
        for _, change in self._name_changes[:kept]:
            change(self._durable_names)
        self._name_changes.clear()
        self._names = dict(self._durable_names)
        self._stalled_work.clear()
        self._free_at_ns = 0

    def _survive(self, inode: _Inode, offset: int, data: bytes | None) -> None:
        fate = self._draw.randrange(3)
        if data is None:
            if fate:
                _apply(inode.platter, offset, None)
            return
        if fate == 0:
            self._note("disk_lost", offset, len(data))
        elif fate == 1:
            _apply(inode.platter, offset, data)
        else:
            self._note("disk_torn", offset, len(data))
            self._tear(inode, offset, data)

    def _tear(self, inode: _Inode, offset: int, data: bytes) -> None:
        """Keep some sectors of a write. Its end may reach the file's size before its bytes do."""
        start = 0
        while start < len(data):
            end = min(len(data), start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES)
            if self._draw.random() < 0.5:
                _apply(inode.platter, offset + start, data[start:end])
            start = end

    def wipe(self) -> None:
        """Lose everything."""
        self._names.clear()
        self._durable_names.clear()
        self._name_changes.clear()
        self._dirs.clear()
        self._stalled_work.clear()

    def _every_inode(self) -> list[_Inode]:
        seen: dict[int, _Inode] = {}
        for inode in (*self._durable_names.values(), *self._names.values()):
            seen.setdefault(id(inode), inode)
        return list(seen.values())

    def check(self) -> None:
        """Every promise this disk makes about itself."""
        for path, inode in self._names.items():
            assert path == _clean(path), "names are kept in one spelling"
            if not inode.pending and not inode.forgotten and not self.touched:
                assert inode.cache == inode.platter, f"{path}: clean pages are on the platter"
        if not self._name_changes:
            assert self._names == self._durable_names, "no change of names is outstanding"


class SimFile:
    """An open file, written at explicit offsets."""

    def __init__(self, disk: SimDisk, inode: _Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self._closed = False

    def size(self) -> int:
        """Length in bytes, unsynced writes included."""
        return len(self._inode.cache)

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer at the end of the file."""
        self._must_be_open()
        return self._disk.read(self._inode, offset, length)

    async def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        """Write all of ``data``; with ``sync``, return only once the file's data is durable.

        Raises:
            OSError: the write or the sync failed. After a failed sync nothing may be assumed about
                any byte written since the last good one.
        """
        self._must_be_open()
        await self._disk.write(self._inode, self._path, offset, bytes(data), sync)

    async def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably.

        Raises:
            OSError: the disk failed.
        """
        self._must_be_open()
        await self._disk.truncate(self._inode, self._path, size)

    def close(self) -> None:
        """Close without syncing. Closing twice is harmless."""
        self._closed = True

    def _must_be_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._path}: the file is closed")


def _clean(path: str) -> str:
    return posixpath.normpath(path).strip("/") if path.strip("/") not in ("", ".") else ""
