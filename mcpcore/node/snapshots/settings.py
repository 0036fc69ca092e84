"""When groups take snapshots, how much of their logs they keep beside them, how fast they send.

This module exists so that every bound of snapshots stands in one place, with its unit and its
reason. It must never hold a value that changes while a group runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """Bounds of every group on one node; nodes may differ in them.

    Args:
        every_entries: take a snapshot when so many entries were applied since the last one.
        every_bytes: or when those entries weigh so much, but not before they weigh as much as the
            last snapshot did, so that a large state is not written over and over for little.
        trailing_entries: entries that stay in the log before a snapshot, so that a member that is
            slightly behind needs none.
        hold_bytes: a leader keeps at most so many bytes of entries more, for members that answer
            and are about to get them.
        chunk_bytes: payload under one checksum in the file.
        incremental: whether to send only what changed, where machine and member allow it.
        bytes_per_s: what all snapshots that leave the node may take together; 0 means as much as
            heartbeats allow.

    Raises:
        InvalidInput: a value is out of range.
    """

    every_entries: int = 50_000
    every_bytes: int = 64 << 20
    trailing_entries: int = 2_000
    hold_bytes: int = 64 << 20
    chunk_bytes: int = 1 << 16
    incremental: bool = True
    bytes_per_s: int = 0

    def __post_init__(self) -> None:
        for name in ("every_entries", "every_bytes", "chunk_bytes"):
            self._at_least(name, 1)
        for name in ("trailing_entries", "hold_bytes", "bytes_per_s"):
            self._at_least(name, 0)
        if self.chunk_bytes > 1 << 20:
            raise InvalidInput(f"{self.chunk_bytes} is above 1 MiB", where="chunk_bytes")
        if type(self.incremental) is not bool:
            raise InvalidInput(
                f"must be true or false, not {self.incremental!r}", where="incremental"
            )

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least:
            raise InvalidInput(f"must be a whole number from {least}, not {value!r}", where=name)
