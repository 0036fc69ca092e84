"""The three worlds in which a log device must keep the same promises, and words for tests."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from mcpcore.node.file_disk import FileDisk
from mcpcore.node.memory_storage import MemoryLog, MemoryStore
from mcpcore.node.queued_log import QueuedLog
from mcpcore.node.storage import Identity
from mcpcore.node.wal import WriteAheadLog
from mcpcore.raft.types import Block, Configuration, Entry
from tests.node.storage.ram_disk import RamDisk

WE = Identity("cluster", "n1", "00000000000000aa")
TRIO = Configuration.of(["n1", "n2", "n3"])
PAIR = Configuration.of(["n1", "n2"], learners=["n3"])


def block(first: int, last: int, term: int = 1, size: int = 3) -> Block:
    """Entries ``first`` to ``last``, each with data that tells index and term."""
    return Block(
        tuple(
            Entry(term, index, 1, f"{index}@{term}".encode().ljust(size, b"."))
            for index in range(first, last + 1)
        )
    )


class MemoryWorld:
    """A device in memory: a crash loses everything that is pending."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.log: MemoryLog | None = None

    async def open(self, identity: Identity = WE, **options: int) -> QueuedLog:
        options.pop("segment_bytes", None)
        self.log = await MemoryLog.open(
            self.store, identity=identity, monotonic_ns=time.monotonic_ns, **options
        )
        return self.log

    def crash(self) -> None:
        assert self.log is not None
        self.store = self.log.crash()

    def end(self) -> None:
        pass


class RamWorld:
    """The write-ahead log on a disk in memory: a crash loses everything that is not synced."""

    def __init__(self) -> None:
        self.disk = RamDisk()

    async def open(self, identity: Identity = WE, **options: int) -> QueuedLog:
        options.setdefault("segment_bytes", 4096)
        return await WriteAheadLog.open(
            self.disk, "log", identity=identity, monotonic_ns=time.monotonic_ns, **options
        )

    def crash(self) -> None:
        self.disk = self.disk.after_power_failure()

    def end(self) -> None:
        pass


class FileWorld:
    """The write-ahead log on files: a crash leaves what the operating system knew."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = FileDisk()
        self.life = 0

    @property
    def path(self) -> str:
        return str(self.directory / f"log{self.life}")

    async def open(self, identity: Identity = WE, **options: int) -> QueuedLog:
        options.setdefault("segment_bytes", 4096)
        return await WriteAheadLog.open(
            self.disk, self.path, identity=identity, monotonic_ns=time.monotonic_ns, **options
        )

    def crash(self) -> None:
        before = self.path
        self.life += 1
        shutil.copytree(before, self.path)

    def end(self) -> None:
        self.disk.close()
