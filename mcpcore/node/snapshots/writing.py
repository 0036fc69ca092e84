"""Writing a state into a snapshot file while the group goes on.

This module exists so that "off the loop, in portions, and whole or not at all" is written once, for
snapshots of our own state and for the changes that one member misses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mcpcore.node.snapshots.workplace import in_thread
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.snapshot_files import SnapshotWriter
from mcpcore.node.storage.snapshot_format import SnapshotHead

PORTION_BYTES: Final = 1 << 18
"""How much is taken from the machine between two writes."""


async def write_file(
    directory: SnapshotDirectory,
    head: SnapshotHead,
    chunks: Iterator[bytes],
    part: str,
    path: str,
    *,
    payload_bytes_max: int | None = None,
) -> SnapshotHead | None:
    """Write ``chunks`` under ``part`` and, once all is durable, name the file ``path``.

    Args:
        payload_bytes_max: beyond this it is not worth it: nothing is left behind.

    Returns:
        The finished head; None if there was too much.

    Raises:
        OSError: the disk does not work, or is full. Nothing is left behind that counts.
    """
    await directory.make()
    writer = await SnapshotWriter.create(directory.disk, part, head)
    done = None
    try:
        while True:
            portion = await in_thread(lambda: _portion(chunks))
            if not portion:
                done = await writer.finish(path)
                return done
            if payload_bytes_max is not None and (writer.offset + len(portion) > payload_bytes_max):
                return None
            await writer.add(portion)
    finally:
        writer.close()
        if done is None and directory.disk.exists(part):
            directory.disk.remove(part)


def _portion(chunks: Iterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= PORTION_BYTES:
            break
    return b"".join(parts)
