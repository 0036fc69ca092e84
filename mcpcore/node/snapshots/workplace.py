"""What the parts that take, send and receive snapshots share: one group, its files, its bounds.

This module exists so that those parts know each other only through it. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mcpcore.errors import InvalidInput
from mcpcore.node.clocks import Clocks
from mcpcore.node.machine import ReplicatedState, StateMachine
from mcpcore.node.snapshots.pacing import TokenBucket
from mcpcore.node.snapshots.settings import SnapshotSettings
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.raft.core import Raft
from mcpcore.raft.types import Configuration, LogPosition

T = TypeVar("T")


class GroupPort(Protocol):
    """What snapshots need of a group."""

    name: str
    raft: Raft

    @property
    def state(self) -> ReplicatedState:
        """The applied state."""
        ...

    @property
    def applied(self) -> int:
        """The highest index that it holds."""
        ...

    def wake(self) -> None:
        """Give the group a turn in this loop turn."""
        ...

    def become(
        self, position: LogPosition, configuration: Configuration, fresh: ReplicatedState
    ) -> bool:
        """Install a durable snapshot; whether it was news."""
        ...


@dataclass(slots=True)
class Workplace:
    """Everything but the group itself, which begins later than its files are read.

    Args:
        cluster: the cluster's id.
        bucket: the bandwidth that all groups of the node share.
        make: makes an empty state machine of this group.
    """

    cluster: str
    directory: SnapshotDirectory
    settings: SnapshotSettings
    clocks: Clocks
    bucket: TokenBucket
    make: Callable[[], StateMachine]

    def restored(self, reader: SnapshotReader) -> ReplicatedState:
        """A state made from a snapshot file; to be called in a thread.

        Raises:
            SnapshotDamaged: the file is not what was written.
            InvalidInput: the machine cannot read it, or became something else.
        """
        fresh = ReplicatedState(self.make())
        fresh.restore(reader.chunks())
        check_digest(fresh, reader)
        return fresh


def check_digest(state: ReplicatedState, reader: SnapshotReader) -> None:
    """Make sure that a state is the one that a snapshot was taken of.

    Raises:
        InvalidInput: it is not.
    """
    if state.digest() != reader.head.digest:
        raise InvalidInput(
            f"restoring gave a state with digest {state.digest().hex()} instead of "
            f"{reader.head.digest.hex()}",
            where=reader.path,
            remedy="the machine must become, byte for byte, what its snapshot holds",
        )


async def in_thread(work: Callable[[], T]) -> T:
    """Do what takes long, or reads from a disk, off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
