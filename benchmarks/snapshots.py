"""What snapshots cost: bytes of the whole state against what changed, and taking and restoring it.

    python -m benchmarks.snapshots [--records 200000] [--value 200]

One process, no network: the bytes are those that would travel, the times those of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time

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


def table(filled: Filled) -> None:
    print("| changed since | whole state | changes | saved | apply the changes |")
    print("|---|---|---|---|---|")
    for share in (0.0, 0.001, 0.01, 0.1, 0.3):
        since = filled.index
        away = ReplicatedState(KeyValueMachine())
        away.restore(filled.state.snapshot())
        filled.change(share)
        whole = sum(map(len, filled.state.snapshot()))
        parts = filled.state.changes_since(since)
        if parts is None:
            print(f"| {share:.1%} | {whole / 1e6:.1f} MB | deletions forgotten | | |")
            continue
        changes = list(parts)
        size = sum(map(len, changes))
        began = time.perf_counter()
        away.apply_changes(changes)
        took = time.perf_counter() - began
        assert away.digest() == filled.state.digest(), "byte for byte the same state"
        print(
            f"| {share:.1%} | {whole / 1e6:.1f} MB | {size / 1e6:.3f} MB | "
            f"{1 - size / whole:.1%} | {took * 1e3:.0f} ms |"
        )


async def files(filled: Filled) -> None:
    with tempfile.TemporaryDirectory() as name:
        disk = FileDisk()
        directory = SnapshotDirectory(disk, name, "bench")
        head = SnapshotHead(
            "c", "bench", LogPosition(1, filled.index), CONFIGURATION, filled.state.digest()
        )
        longest, done = 0.0, False

        async def watch() -> None:
            nonlocal longest
            while not done:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before - 0.001)

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        chunks = filled.state.snapshot()
        view = time.perf_counter() - began
        path = directory.final(head.position)
        written = await write_file(directory, head, chunks, directory.taking, path)
        took = time.perf_counter() - began
        done = True
        await watching
        assert written is not None
        size = written.payload_bytes
        print(f"take: view {view * 1e3:.0f} ms on the loop, {size / took / 1e6:.0f} MB/s to disk,")
        print(f"      the loop was held up for {longest * 1e3:.0f} ms at most")
        reader = SnapshotReader.open(disk, path)
        began = time.perf_counter()
        reader.verify()
        took = time.perf_counter() - began
        print(f"verify: {size / took / 1e6:.0f} MB/s")
        fresh = ReplicatedState(KeyValueMachine())
        began = time.perf_counter()
        fresh.restore(reader.chunks())
        took = time.perf_counter() - began
        began = time.perf_counter()
        filled.state.adopt(fresh)
        swap = time.perf_counter() - began
        print(
            f"restore: {size / took / 1e6:.0f} MB/s in a thread, then {swap * 1e3:.1f} ms to swap"
        )
        print(f"file: {written.file_bytes / size - 1:.2%} more than the state")
        reader.close()
        disk.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=200_000)
    options.add_argument("--value", type=int, default=200)
    chosen = options.parse_args()
    filled = Filled(chosen.records, chosen.value)
    print(f"{chosen.records} keys of {chosen.value} bytes each\n")
    table(filled)
    print()
    asyncio.run(files(filled))


if __name__ == "__main__":
    main()
