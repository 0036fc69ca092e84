"""What a node may ask of its log: the contract that every log device keeps.

This module exists so that the node, the tests and the tools speak of durability in one set of
words, whatever lies below: files, a simulated disk, or memory. It promises; it does not act. No
file, no framing and no asyncio machinery may come in here.

The promise in one line: **after a crash the device holds the first k submissions, whole and in
order, where k is at least the number of futures that were resolved.**
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mcpcore.errors import InvalidInput, StorageCorrupt, StorageFailed
from mcpcore.node.meters import Distribution
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.types import Block, Configuration, Entry, HardState, LogPosition

NAME_BYTES_MAX = 120
"""Names of clusters, nodes and groups are at most this long in UTF-8, so that a header fits one
sector whatever they are."""


def check_name(name: str, what: str) -> None:
    """Refuse a name that could not be stored.

    Raises:
        InvalidInput: it is empty, too long, or not a string.
    """
    if type(name) is not str or not 0 < len(name.encode("utf-8", "surrogatepass")) <= (
        NAME_BYTES_MAX
    ):
        raise InvalidInput(f"{what} must be 1 to {NAME_BYTES_MAX} bytes of UTF-8, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} is not valid Unicode: {error}") from error


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log this is.

    Args:
        cluster: the cluster's id.
        node: the node's id.
        incarnation: 16 hex digits, drawn at random by whoever makes the log, and kept on the disk
            from then on. A wiped node comes back with another one, so that nobody takes its
            empty memory for the old one (hunt: "a wiped node votes as if it remembered").
    """

    cluster: str
    node: str
    incarnation: str

    def __post_init__(self) -> None:
        check_name(self.cluster, "a cluster id")
        check_name(self.node, "a node id")
        if len(self.incarnation) != 16 or not set(self.incarnation) <= set("0123456789abcdef"):
            raise InvalidInput(
                f"an incarnation must be 16 hex digits in lower case, not {self.incarnation!r}"
            )


@dataclass(frozen=True, slots=True)
class RecoveredGroup:
    """What the log knew about a group when it was opened.

    Args:
        name: the group.
        hard_state: the newest term and vote.
        base: where the log begins: the position of the snapshot, (0, 0) if there is none.
        configuration: the configuration in force at ``base``. Later ones are CONFIG entries.
        entries: everything after ``base``, without holes.
        doubt: what the disk lost of this group, until ``end_doubt``; then ``entries`` are what
            stands before it.
    """

    name: str
    hard_state: HardState
    base: LogPosition
    configuration: Configuration
    entries: tuple[Entry, ...] = ()
    doubt: Doubt | None = None

    @property
    def last(self) -> LogPosition:
        """The position of the last entry, or ``base`` if there is none."""
        if not self.entries:
            return self.base
        return LogPosition(self.entries[-1].term, self.entries[-1].index)

    def check(self) -> None:
        """Every promise about a recovered group, one per line."""
        before = self.base
        for entry in self.entries:
            assert entry.index == before.index + 1, "no holes"
            assert entry.term >= before.term, "terms never go back"
            before = LogPosition(entry.term, entry.index)


@dataclass(frozen=True, slots=True)
class TornTail:
    """Bytes at the very end that a crash left half written; they were never acknowledged.

    Args:
        path: the file.
        offset: where the tail begins, in bytes.
        length_bytes: how much lies behind that offset.
    """

    path: str
    offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What reading a log found.

    Args:
        path: the directory, or where the log was held.
        identity: whose log it is; None when there is no log.
        segments: how many files.
        batches: how many batches, hence how many syncs are remembered.
        entries: how many entries were read, those later replaced or compacted included.
        groups: how many live groups.
        sealed: whether a seal proves that the last batch was durable. Without one, rot in the
            very last batch cannot be told from a torn write.
        torn: the torn tail, if there is one. ``open`` cuts it; ``verify`` leaves it.
        corrupt: the first damage, from ``verify``; ``open`` raises it instead.
        amnesia: whether groups whose very names are lost may have lived in this log. Then a group
            that is not in it is not known to be new, and begins ``FORGOTTEN``.
    """

    path: str
    identity: Identity | None = None
    segments: int = 0
    batches: int = 0
    entries: int = 0
    groups: int = 0
    sealed: bool = False
    torn: TornTail | None = None
    corrupt: StorageCorrupt | None = None
    amnesia: bool = False


class DeviceStats(NamedTuple):
    """What the device has done since it was opened."""

    syncs: int = 0
    """Batches written and synced."""
    submissions: int = 0
    """Calls that became durable; divided by ``syncs``, what group commit saves."""
    bytes_written: int = 0
    """Bytes of durable batches, framing included."""
    last_sync_ns: int = 0
    """How long the newest write and sync took."""
    sync_times: Distribution | None = None
    """How long all of them took; still counting."""


class LogDevice(Protocol):
    """One log for all groups of a node.

    Everything that changes the log returns a future at once and never blocks: it resolves when the
    change is durable, in the order of the calls, or fails with ``StorageFailed``. A caller may
    drop or cancel the future; the change stays.
    """

    @property
    def identity(self) -> Identity:
        """Whose log this is, with the incarnation that the disk keeps."""
        ...

    @property
    def report(self) -> RecoveryReport:
        """What opening found."""
        ...

    @property
    def full(self) -> bool:
        """Whether work should wait: too much is pending, or the disk has no space.

        While it is false, the next ``submit`` is not refused, whatever its size.
        """
        ...

    @property
    def no_space(self) -> bool:
        """Whether the device waits for space on the disk; it goes on by itself once there is."""
        ...

    @property
    def failure(self) -> StorageFailed | None:
        """Why the device works no more; None while it does."""
        ...

    @property
    def oldest_pending_since_ns(self) -> int | None:
        """When the oldest change that is not durable yet was handed in; None if all are.

        On the clock given at ``open``. A node whose disk does not answer for too long must stop
        renewing its authority.
        """
        ...

    @property
    def stats(self) -> DeviceStats:
        """Counters and the latency of the newest sync."""
        ...

    def pinned_by(self) -> tuple[str, ...]:
        """The groups whose entries alone keep the oldest file: compact them, and it can go.

        Empty when there is nothing old to drop. One quiet group must not keep the whole log.
        """
        ...

    def groups(self) -> dict[str, RecoveredGroup]:
        """The live groups as they were when the device was opened."""
        ...

    def release_recovered(self) -> None:
        """Forget what ``groups`` returns, once the caller has taken it: the log may be large."""
        ...

    def create_group(
        self, name: str, configuration: Configuration, doubt: Doubt | None = None
    ) -> asyncio.Future[None]:
        """Begin the log of a group: empty, at position (0, 0), in ``configuration``.

        A group that was retired here before keeps its term and vote: its log is gone, its promises
        are not (see ``hard_state``).

        Raises:
            InvalidInput: the group exists, or the name cannot be stored.
        """
        ...

    def retire_group(self, name: str) -> asyncio.Future[None]:
        """Drop the log of a group, but not its term and vote.

        Raises:
            InvalidInput: there is no such group.
        """
        ...

    def end_doubt(self, name: str) -> asyncio.Future[None]:
        """Note that a group is in doubt no more: see ``mcpcore.raft.recall``.

        Raises:
            InvalidInput: there is no such group.
        """
        ...

    def hard_state(self, name: str) -> HardState:
        """The newest term and vote handed in for a group, durable or not.

        Raises:
            InvalidInput: there is no such group.
        """
        ...

    def submit(
        self, group: str, hard_state: HardState | None, blocks: Sequence[Block]
    ) -> asyncio.Future[None]:
        """Store a term and vote, entries, or both, all or nothing.

        A block that begins at or before the last index replaces everything from there on. A block
        that would leave a hole or reach below the base is a bug of the caller.

        Raises:
            StorageBusy: there are entries, and the device was ``full``. Term and vote alone are
                never refused: they are small, and elections must go on.
            StorageClosed: the device was closed.
            InvalidInput: there is no such group.
        """
        ...

    def compact(
        self, group: str, base: LogPosition, configuration: Configuration
    ) -> asyncio.Future[None]:
        """Say that a durable snapshot covers everything up to ``base``; keep what comes after.

        Raises:
            InvalidInput: there is no such group.
        """
        ...

    def replace_log(
        self, group: str, base: LogPosition, configuration: Configuration
    ) -> asyncio.Future[None]:
        """Put an installed snapshot in the place of the whole log; the log goes on after it.

        Raises:
            InvalidInput: there is no such group.
        """
        ...

    def probe(self) -> asyncio.Future[None]:
        """Ask the disk for a sign of life; resolves once a write and a sync have come back.

        Leaves nothing behind that grows. On an idle log it also seals the tail.
        """
        ...

    async def close(self) -> None:
        """Finish what is pending, seal the log, give the files back. Twice is harmless.

        What cannot be finished (the disk is full or has failed) fails with ``StorageFailed``.
        """
        ...
