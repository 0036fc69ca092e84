"""A log device in memory: the same promises, and crashes on demand.

This module exists for tests and for groups that need no durability. What a sync would have made
durable survives ``crash`` in a ``MemoryStore``; what was pending does not. No file and no framing
may come in here; order, refusal and failure are ``queued_log``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mcpcore.errors import StorageFailed, StorageInUse, WrongIdentity
from mcpcore.node.log_image import LogImage, LogTails
from mcpcore.node.queued_log import PENDING_BYTES_MAX, QueuedLog, QueueOptions, Submission
from mcpcore.node.storage import Identity, RecoveryReport


class MemoryStore:
    """What outlives a device in memory: a disk without files."""

    def __init__(self) -> None:
        self._identity: Identity | None = None
        self._image = LogImage()
        self._batches = 0
        self._in_use = False


class MemoryLog(QueuedLog):
    """A log device in memory. Made by ``open``; keeps the promises of ``LogDevice``."""

    def __init__(
        self, store: MemoryStore, identity: Identity, report: RecoveryReport, options: QueueOptions
    ) -> None:
        recovered = store._image.recovered()
        super().__init__(
            identity, report, recovered, LogTails(store._image.states, recovered), options
        )
        self._store = store
        self._released: asyncio.Future[None] | None = None
        self._broken: OSError | None = None
        self._owns_store = True

    @classmethod
    async def open(
        cls,
        store: MemoryStore,
        *,
        identity: Identity,
        monotonic_ns: Callable[[], int],
        pending_bytes_max: int = PENDING_BYTES_MAX,
        on_failure: Callable[[StorageFailed], None] | None = None,
    ) -> MemoryLog:
        """Take up what a store holds, or begin. The arguments are those of ``WriteAheadLog.open``.

        Raises:
            WrongIdentity: it is the log of another cluster or node.
            StorageInUse: another device has the store open.
        """
        if store._in_use:
            raise StorageInUse("memory: the log is open elsewhere; stop that first")
        known = store._identity or identity
        if (known.cluster, known.node) != (identity.cluster, identity.node):
            raise WrongIdentity(
                f"it is the log of node {known.node!r} of cluster {known.cluster!r}",
                where="memory",
                remedy="Give the node its own store",
            )
        store._identity = known
        store._in_use = True
        live = sum(state.live for state in store._image.states.values())
        report = RecoveryReport("memory", known, batches=store._batches, groups=live, sealed=True)
        options = QueueOptions(monotonic_ns, pending_bytes_max, on_failure)
        return cls(store, known, report, options)

    # --- Faults for tests -----------------------------------------------------------------------

    def hold(self) -> None:
        """Let no sync return any more, until ``release``: a disk that does not answer."""
        if self._released is None:
            self._released = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """Let syncs return again."""
        if self._released is not None:
            self._released.set_result(None)
            self._released = None

    def break_disk(self, error: OSError) -> None:
        """Let the next sync fail."""
        self._broken = error

    def crash(self) -> MemoryStore:
        """Stop at once, losing whatever was not durable, and hand back what was.

        Futures that were pending fail with ``StorageFailed``: whether a real disk would hold their
        changes is not known.
        """
        self._closing.set()
        self._on_failure = None  # nobody is left to be told
        self._writer.cancel()
        self._release()
        return self._store

    # --- Where a batch goes ---------------------------------------------------------------------

    def pinned_by(self) -> tuple[str, ...]:
        """Nothing: there are no files."""
        return ()

    async def _write_batch(self, batch: Sequence[Submission]) -> int:
        await self._touch()
        for submission in batch:
            for record in submission.records:
                self._store._image.apply(record)
        self._store._batches += 1
        return sum(submission.size_bytes for submission in batch)

    async def _touch(self) -> None:
        if self._released is not None:
            await asyncio.shield(self._released)
        await asyncio.sleep(0)
        if self._broken is not None:
            raise self._broken

    async def _finish(self) -> None:
        await self._touch()

    def _release(self) -> None:
        if self._owns_store:
            self._owns_store = self._store._in_use = False
