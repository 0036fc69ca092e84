"""A node's clock seam and disk seam, with an experiment's hand on them.

This module exists so that a real node meets wrong clocks and bad disks at the seams it has anyway:
no line of the node knows of it. Used by ``mcpctl serve --steering FILE`` alone, which only
experiments call.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Final

from mcpcore.experiment.steering.page import Page, Wrongs
from mcpcore.node.clocks import Clocks, SystemClocks
from mcpcore.node.disk import DiskFile
from mcpcore.node.file_disk import FileDisk

_LOOK_AGAIN_S: Final = 0.02
"""How often a stalled sync looks whether it may return."""


class Steering:
    """What is wrong, as one process sees it. Its clocks and its disk share it."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._version = -1
        self._wrongs = Wrongs()
        self.met = page.met()

    @property
    def now(self) -> Wrongs:
        """What is wrong at this moment."""
        version = self._page.version
        if version != self._version:
            self._wrongs, self._version = self._page.read(), version
        return self._wrongs

    def tell(self) -> None:
        """Let the experiment see ``met``."""
        self._page.report(self.met)


class SteeredClocks:
    """See ``Clocks``: the machine's, made wrong."""

    def __init__(self, steering: Steering, truth: Clocks | None = None) -> None:
        self._steering = steering
        self._truth = truth or SystemClocks()
        self._latest_ns = 0

    def monotonic_ns(self) -> int:
        """See ``Clocks``. It never goes back, not even while it is being made slower."""
        clock = self._steering.now.clock
        shown_ns = clock.monotonic_ns(self._truth.monotonic_ns())
        self._latest_ns = max(self._latest_ns, shown_ns)
        return self._latest_ns

    def wall_ns(self) -> int:
        """See ``Clocks``."""
        steering, true_wall_ns = self._steering, self._truth.wall_ns()
        shown_ns = steering.now.clock.wall_ns(self._truth.monotonic_ns(), true_wall_ns)
        steering.met.readings += 1
        steering.met.wall_ahead_ns = shown_ns - true_wall_ns
        steering.tell()
        return shown_ns


class SteeredDisk:
    """See ``Disk``: real files, made bad."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._disk = FileDisk()

    def make_dirs(self, path: str) -> None:
        """See ``Disk``."""
        self._disk.make_dirs(path)

    def list_dir(self, path: str) -> list[str]:
        """See ``Disk``."""
        return self._disk.list_dir(path)

    def exists(self, path: str) -> bool:
        """See ``Disk``."""
        return self._disk.exists(path)

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """See ``Disk``."""
        return _File(self._steering, self._disk.open(path, create=create))

    def rename(self, old: str, new: str) -> None:
        """See ``Disk``."""
        self._disk.rename(old, new)

    def remove(self, path: str) -> None:
        """See ``Disk``."""
        self._disk.remove(path)

    async def sync_dir(self, path: str) -> None:
        """See ``Disk``."""
        await _suffer(self._steering)
        await self._disk.sync_dir(path)

    def close(self) -> None:
        """See ``FileDisk``."""
        self._disk.close()


class _File:
    """See ``DiskFile``."""

    def __init__(self, steering: Steering, file: DiskFile) -> None:
        self._steering = steering
        self._file = file

    def size(self) -> int:
        """See ``DiskFile``."""
        return self._file.size()

    def read(self, offset: int, length: int) -> bytes:
        """See ``DiskFile``."""
        return self._file.read(offset, length)

    async def write(self, offset: int, data: bytes, *, sync: bool) -> None:
        """See ``DiskFile``. A full disk still takes what was made room for before."""
        grows = offset + len(data) > self._file.size()
        _fail(self._steering, grows=grows)
        await self._file.write(offset, data, sync=sync)
        if sync:
            await _suffer(self._steering)

    async def truncate(self, size: int) -> None:
        """See ``DiskFile``."""
        _fail(self._steering, grows=size > self._file.size())
        await self._file.truncate(size)
        await _suffer(self._steering)

    def close(self) -> None:
        """See ``DiskFile``."""
        self._file.close()


async def _suffer(steering: Steering) -> None:
    """A sync, as slow as it is to be; it may turn out to have failed."""
    met = steering.met
    if delay_ns := steering.now.sync_delay_ns:
        met.slowed += 1
        await asyncio.sleep(delay_ns / 1e9)
    if steering.now.stalled:
        met.stalled += 1
        steering.tell()
        while steering.now.stalled:  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(_LOOK_AGAIN_S)
    _fail(steering, grows=False)
    met.syncs += 1
    steering.tell()


def _fail(steering: Steering, *, grows: bool) -> None:
    code = steering.now.errno
    if code and (grows or code != errno.ENOSPC):
        steering.met.failed += 1
        steering.tell()
        raise OSError(code, f"{os.strerror(code)} (an experiment's doing)")
