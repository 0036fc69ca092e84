"""The queue in front of a log: group commit, back-pressure, failure, evidence about the disk.

This module exists so that every log device keeps the same promises about order, refusal and
failure, and differs only in where a batch goes. Everything handed in while a batch is on its way
goes out together as the next one. No file and no framing may come in here.

Only the running loop is used, and no thread, so that a simulated loop can replace it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mcpcore.errors import StorageBusy, StorageClosed, StorageFailed
from mcpcore.node.meters import Distribution
from mcpcore.node.storage.contract import DeviceStats, Identity, RecoveredGroup, RecoveryReport
from mcpcore.node.storage.log_image import LogTails, Record
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.types import Block, Configuration, HardState, LogPosition

PENDING_BYTES_MAX = 64 << 20
"""How much may wait for the disk before ``full`` says so: about a second of a slow disk's work."""

RECORD_OVERHEAD_BYTES = 64
"""What a record is reckoned to cost in memory beside its entries."""


class QueueOptions(NamedTuple):
    """What the owner of a log device may choose about its queue."""

    monotonic_ns: Callable[[], int]
    """The clock of the evidence about the disk."""
    pending_bytes_max: int = PENDING_BYTES_MAX
    """From when on the device is ``full``."""
    on_failure: Callable[[StorageFailed], None] | None = None
    """Called once, from the loop, when the device fails for good."""


class Submission:
    """One call, waiting to become durable."""

    __slots__ = ("done", "records", "since_ns", "size_bytes")

    def __init__(
        self, records: Sequence[Record], size_bytes: int, done: asyncio.Future[None], since_ns: int
    ) -> None:
        self.records = records
        self.size_bytes = size_bytes
        self.done = done
        self.since_ns = since_ns


class QueuedLog(ABC):
    """A log device without a place for its bytes. See ``LogDevice`` for the promises.

    Args:
        identity: whose log it is.
        report: what opening found.
        recovered: the live groups.
        tails: where every group's log stands.
        options: limits, clock, and whom to tell about a failure.
    """

    def __init__(
        self,
        identity: Identity,
        report: RecoveryReport,
        recovered: dict[str, RecoveredGroup],
        tails: LogTails,
        options: QueueOptions,
    ) -> None:
        self._identity = identity
        self._report = report
        self._recovered = recovered
        self._tails = tails
        self._loop = asyncio.get_running_loop()
        self._monotonic_ns = options.monotonic_ns
        self._pending_bytes_max = options.pending_bytes_max
        self._on_failure = options.on_failure
        self._waiting: list[Submission] = []
        self._writing: list[Submission] = []
        self._pending_bytes = 0
        self._idle: asyncio.Future[None] | None = None
        self._failure: StorageFailed | None = None
        self._closing = asyncio.Event()
        self._sync_times = Distribution()
        self._syncs = self._submissions = self._bytes_written = self._last_sync_ns = 0
        self._writer = self._loop.create_task(self._write_all(), name="log-writer")

    # --- Where a batch goes ---------------------------------------------------------------------

    @abstractmethod
    async def _write_batch(self, batch: Sequence[Submission]) -> int:
        """Make a batch durable; returns the bytes that it took.

        Raises:
            OSError: it may or may not be durable.
            StorageFailed: the device is closing and cannot finish it.
        """

    @abstractmethod
    async def _touch(self) -> None:
        """Write and sync something that leaves the log as it is.

        Raises:
            OSError: the disk does not work.
        """

    @abstractmethod
    async def _finish(self) -> None:
        """Seal the log: called once, after the last batch of a device that works.

        Raises:
            OSError: the disk does not work.
        """

    @abstractmethod
    def _release(self) -> None:
        """Give everything back, without a sync. Called once, whatever happened before."""

    # --- What is known --------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Whose log this is."""
        return self._identity

    @property
    def report(self) -> RecoveryReport:
        """What opening found."""
        return self._report

    @property
    def failure(self) -> StorageFailed | None:
        """Why the device works no more."""
        return self._failure

    @property
    def no_space(self) -> bool:
        """Whether the device waits for space on the disk."""
        return False

    @property
    def full(self) -> bool:
        """Whether work should wait."""
        return self._pending_bytes >= self._pending_bytes_max or self.no_space

    @property
    def oldest_pending_since_ns(self) -> int | None:
        """When the oldest change that is not durable yet was handed in."""
        for submissions in (self._writing, self._waiting):
            if submissions:
                return submissions[0].since_ns
        return None

    @property
    def stats(self) -> DeviceStats:
        """Counters and the latency of the newest sync."""
        return DeviceStats(
            self._syncs,
            self._submissions,
            self._bytes_written,
            self._last_sync_ns,
            self._sync_times,
        )

    def groups(self) -> dict[str, RecoveredGroup]:
        """The live groups as they were at ``open``."""
        return dict(self._recovered)

    def release_recovered(self) -> None:
        """Forget what ``groups`` returns."""
        self._recovered = {}

    def hard_state(self, name: str) -> HardState:
        """The newest term and vote handed in for a group."""
        return self._tails.tail(name).hard_state

    def check(self) -> None:
        """Every promise about the queue, one per line."""
        self._tails.check()
        pending = self._writing + self._waiting
        assert self._pending_bytes == sum(submission.size_bytes for submission in pending)
        assert self._failure is None or not pending, "a failed device keeps nobody waiting"
        since = [submission.since_ns for submission in pending]
        assert since == sorted(since), "first come, first written"

    # --- What changes the log -------------------------------------------------------------------

    def create_group(
        self, name: str, configuration: Configuration, doubt: Doubt | None = None
    ) -> asyncio.Future[None]:
        """Begin the log of a group."""
        self._check_open()
        return self._enqueue((self._tails.create(name, configuration, doubt),), 0)

    def end_doubt(self, name: str) -> asyncio.Future[None]:
        """Note that a group is in doubt no more."""
        self._check_open()
        return self._enqueue((self._tails.end_doubt(name),), 0)

    def retire_group(self, name: str) -> asyncio.Future[None]:
        """Drop the log of a group, but not its term and vote."""
        self._check_open()
        return self._enqueue((self._tails.retire(name),), 0)

    def submit(
        self, group: str, hard_state: HardState | None, blocks: Sequence[Block]
    ) -> asyncio.Future[None]:
        """Store a term and vote, entries, or both."""
        self._check_open()
        if blocks and self.full:
            raise StorageBusy(self._pending_bytes, self._pending_bytes_max)
        records = self._tails.append(group, hard_state, blocks)
        return self._enqueue(records, sum([len(block.encoded) for block in blocks]))

    def compact(
        self, group: str, base: LogPosition, configuration: Configuration
    ) -> asyncio.Future[None]:
        """Say that a durable snapshot covers everything up to ``base``."""
        self._check_open()
        return self._enqueue(
            (self._tails.move_base(group, base, configuration, suffix_kept=True),), 0
        )

    def replace_log(
        self, group: str, base: LogPosition, configuration: Configuration
    ) -> asyncio.Future[None]:
        """Put an installed snapshot in the place of the whole log."""
        self._check_open()
        return self._enqueue(
            (self._tails.move_base(group, base, configuration, suffix_kept=False),), 0
        )

    def probe(self) -> asyncio.Future[None]:
        """Ask the disk for a sign of life."""
        self._check_open()
        return self._enqueue((), 0)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StorageClosed("the log device is closed; open it again")

    def _enqueue(self, records: Sequence[Record], size_bytes: int) -> asyncio.Future[None]:
        done = self._loop.create_future()
        if self._failure is not None:
            _fail(done, self._failure)
            return done
        size_bytes += RECORD_OVERHEAD_BYTES * len(records)
        self._pending_bytes += size_bytes
        self._waiting.append(Submission(records, size_bytes, done, self._monotonic_ns()))
        self._wake()
        return done

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # --- The writer -----------------------------------------------------------------------------

    async def _write_all(self) -> None:
        try:
            while True:
                if self._waiting:
                    self._writing, self._waiting = self._waiting, []
                    await self._write_one(self._writing)
                    self._writing = []
                elif self._closing.is_set():
                    await self._finish()
                    return
                else:
                    self._idle = self._loop.create_future()
                    await self._idle
                    self._idle = None
        except OSError as error:
            self._fail(StorageFailed(f"{self._report.path}: writing the log failed: {error}"))
        except StorageFailed as error:
            self._fail(error)
        except BaseException as error:
            # Cancelled, or a bug of ours: callers must not wait for ever.
            self._fail(StorageFailed(f"{self._report.path}: the log's writer ended: {error!r}"))
            raise
        finally:
            self._release()

    async def _write_one(self, batch: list[Submission]) -> None:
        started_ns = self._monotonic_ns()
        if any(submission.records for submission in batch):
            self._bytes_written += await self._write_batch(batch)
        else:
            await self._touch()
        self._last_sync_ns = self._monotonic_ns() - started_ns
        self._sync_times.add(self._last_sync_ns)
        self._syncs += 1
        self._submissions += len(batch)
        for submission in batch:
            self._pending_bytes -= submission.size_bytes
            if not submission.done.done():
                submission.done.set_result(None)

    def _fail(self, failure: StorageFailed) -> None:
        self._failure = failure
        pending = self._writing + self._waiting
        self._writing, self._waiting = [], []
        self._pending_bytes = 0
        for submission in pending:
            _fail(submission.done, failure)
        if self._on_failure is not None:
            self._on_failure(failure)

    async def close(self) -> None:
        """Finish what is pending and give everything back."""
        self._closing.set()
        self._wake()
        await asyncio.wait([self._writer])


def _fail(done: asyncio.Future[None], failure: StorageFailed) -> None:
    if not done.done():
        done.set_exception(failure)
        # Whoever dropped the future learns of the failure from the device; asyncio need not
        # report each of a thousand futures as "exception never retrieved".
        done.exception()
