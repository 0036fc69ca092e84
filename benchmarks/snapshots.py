"""What snapshots cost: bytes of the whole state and of what changed; taking and restoring it."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time

from benchmarks.harness.bench import Bench
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.kv import Delete, KeyValueMachine, Put, encode_command
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.snapshots.writing import write_file
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.node.storage.snapshot_format import SnapshotHead
from mcpcore.raft.types import Configuration, Entry, EntryKind, LogPosition

CONFIGURATION = Configuration.of(["a", "b", "c"]).encode()


class Filled:
    """A state of ``records`` keys, and commands that change it."""

    def __init__(self, records: int, value_bytes: int) -> None:
        self.draw = random.Random(1)
        self.records, self.value_bytes = records, value_bytes
        self.state = ReplicatedState(KeyValueMachine())
        self.index = 0
        for number in range(records):
            self.put(number)

    def apply(self, command: bytes) -> None:
        self.index += 1
        self.state.apply(Entry(1, self.index, EntryKind.COMMAND, command))

    def put(self, number: int) -> None:
        value = self.draw.randbytes(self.value_bytes)
        self.apply(encode_command(Put(b"key/%012d" % number, value)))

    def change(self, share: float) -> None:
        """That share of the keys is written anew, a tenth of those deleted instead."""
        for number in self.draw.sample(range(self.records), int(share * self.records)):
            if self.draw.random() < 0.1:
                self.apply(encode_command(Delete(b"key/%012d" % number)))
            else:
                self.put(number)


RECORDS, FULL_RECORDS = (10_000, 20_000, 50_000, 100_000), (100_000, 250_000, 500_000, 1_000_000)
VALUE_BYTES = 200
WHO = "mcpcore"


def measure(bench: Bench) -> None:
    """What travels, what it takes to write and to read; four sizes."""
    sizes = FULL_RECORDS if bench.options.full else RECORDS
    bench.answer.method = (
        f"A key-value state with values of {VALUE_BYTES} B, one process, no network: bytes are "
        "those that would travel. A tenth of the changes are deletions. Each once."
    )
    filled = Filled(sizes[-1], VALUE_BYTES)
    changes(bench, filled)
    for records in sizes:
        bench.progress.step("snapshots", {"records": records})
        files(bench, Filled(records, VALUE_BYTES))


def changes(bench: Bench, filled: Filled) -> None:
    """The whole state against what changed."""
    table = f"full against incremental, {filled.records:,} records"
    for share in (0.001, 0.01, 0.1, 0.3):
        case = {"changed since": f"{share:.1%}"}
        bench.progress.step(table, case)
        since = filled.index
        away = ReplicatedState(KeyValueMachine())
        away.restore(filled.state.snapshot())
        filled.change(share)
        whole = sum(map(len, filled.state.snapshot()))
        bench.figure(table, WHO, case, "whole state", [whole / 1e6], unit="MB", better="less")
        parts = filled.state.changes_since(since)
        if parts is None:
            bench.skip(f"the changes of {share:.1%}", "so many deletions are not remembered")
            continue
        pieces = list(parts)
        size = sum(map(len, pieces))
        began_s = time.perf_counter()
        away.apply_changes(pieces)
        took_s = time.perf_counter() - began_s
        assert away.digest() == filled.state.digest(), "byte for byte the same state"
        bench.figure(table, WHO, case, "changes", [size / 1e6], unit="MB", better="less")
        bench.figure(table, WHO, case, "saved", [100 * (1 - size / whole)], unit="%", better="more")
        bench.figure(table, WHO, case, "applied", [took_s * 1e3], unit="ms", better="less")


def files(bench: Bench, filled: Filled) -> None:
    """Take, write, verify, restore."""
    found = asyncio.run(through_a_file(filled))
    for name, (value, unit, better) in found.items():
        case = {"records": filled.records}
        bench.figure("through a file", WHO, case, name, [value], unit=unit, better=better)


async def through_a_file(filled: Filled) -> dict[str, tuple[float, str, str]]:
    """What each step took; and how long the event loop was held up meanwhile."""
    found: dict[str, tuple[float, str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        disk = FileDisk()
        directory = SnapshotDirectory(disk, name, "bench")
        head = SnapshotHead(
            "c", "bench", LogPosition(1, filled.index), CONFIGURATION, filled.state.digest()
        )
        longest_s, done = 0.0, False

        async def watch() -> None:
            nonlocal longest_s
            while not done:
                before_s = time.perf_counter()
                await asyncio.sleep(0.001)
                longest_s = max(longest_s, time.perf_counter() - before_s - 0.001)

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.05)
        began_s = time.perf_counter()
        chunks = filled.state.snapshot()
        found["view"] = ((time.perf_counter() - began_s) * 1e3, "ms", "less")
        path = directory.final(head.position)
        written = await write_file(directory, head, chunks, directory.taking, path)
        took_s = time.perf_counter() - began_s
        done = True
        await watching
        assert written is not None
        megabytes = written.payload_bytes / 1e6
        found["state"] = (megabytes, "MB", "less")
        found["written"] = (megabytes / took_s, "MB per s", "more")
        found["loop held up"] = (longest_s * 1e3, "ms", "less")
        reader = SnapshotReader.open(disk, path)
        began_s = time.perf_counter()
        reader.verify()
        found["verified"] = (megabytes / (time.perf_counter() - began_s), "MB per s", "more")
        fresh = ReplicatedState(KeyValueMachine())
        began_s = time.perf_counter()
        fresh.restore(reader.chunks())
        found["restored"] = (megabytes / (time.perf_counter() - began_s), "MB per s", "more")
        began_s = time.perf_counter()
        filled.state.adopt(fresh)
        found["swapped"] = ((time.perf_counter() - began_s) * 1e3, "ms", "less")
        reader.close()
        disk.close()
    return found
