"""A snapshot that arrives: put together in a file of its own, verified, installed.

This module exists so that a receiver never serves what is half installed: until the very turn in
which everything is durable and verified, the old state stands and answers. It owns one task, which
takes offers and chunks in the order of arrival, until ``close``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final
from zlib import crc32

from mcpcore.errors import CoordinationError, InvalidInput, SnapshotDamaged, StorageVersion
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.snapshots.marks import DigestMarks
from mcpcore.node.snapshots.workplace import GroupPort, Workplace, check_digest, in_thread
from mcpcore.node.snapshots.writing import write_file
from mcpcore.node.storage.snapshot_files import SnapshotReader, SnapshotWriter
from mcpcore.node.storage.snapshot_format import SnapshotHead, SnapshotId, decode_head
from mcpcore.raft.messages import SnapshotStatus
from mcpcore.raft.snapshot_events import ChunkArrived, SnapshotOffered

logger = logging.getLogger("mcpcore.node.snapshots")

QUEUED_MAX: Final = 4096
"""Chunks that may wait for the disk. More are dropped: the sender hears of it and goes back."""


class Receiving:
    """What a group takes in. There is one for each group, idle most of the time."""

    def __init__(self, place: Workplace, group: GroupPort, marks: DigestMarks) -> None:
        self._place = place
        self._group = group
        self._marks = marks
        self._queue: deque[SnapshotOffered | ChunkArrived] = deque()
        self._news = asyncio.Event()
        self._offer: SnapshotOffered | None = None
        self._head: SnapshotHead | None = None
        self._writer: SnapshotWriter | None = None
        self._installing: SnapshotId | None = None
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """Why the latest one came to nothing; empty if it did not."""
        self.bytes_received = 0
        """Payload that arrived in this life, whatever came twice included."""

    def hear(self, event: SnapshotOffered | ChunkArrived) -> None:
        """An offer or a chunk has come."""
        if self._installing is not None:
            # At work, for as long as it takes. Only the conversation goes on.
            if isinstance(event, SnapshotOffered) and _is_of(event, self._installing):
                self._offer = event
            self._answer(event, SnapshotStatus.INSTALLING)
            return
        if len(self._queue) >= QUEUED_MAX:
            return
        self._queue.append(event)
        self._news.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"receive snapshot of {self._group.name}"
            )

    def status(self) -> dict[str, Any] | None:
        """In plain values; None while nothing arrives."""
        if self._head is None:
            return None
        held = self._writer.offset if self._writer is not None else self._head.payload_bytes
        return {
            "index": self._head.position.index,
            "since": self._head.since,
            "bytes": self._head.payload_bytes,
            "held": held,
            "installing": self._installing is not None,
        }

    async def drop_outdated(self) -> None:
        """Remove what arrived of a snapshot that entries have overtaken.

        Raises:
            OSError: the disk does not work.
        """
        if self._head is not None and self._installing is None and not self._is_news(self._head):
            self._let_go()
            await self._place.directory.discard(self._place.directory.receiving)

    def close(self) -> None:
        """Stop; what arrived stays for a later life."""
        if self._task is not None:
            self._task.cancel()
        self._let_go()

    # --- the task -------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            while self._queue:
                event = self._queue.popleft()
                try:
                    if isinstance(event, SnapshotOffered):
                        await self._offered(event)
                    else:
                        await self._chunk(event)
                except Exception as error:  # noqa: BLE001 - a machine's own, when it restores
                    await self._give_up(event, error)
            self._news.clear()
            await self._news.wait()

    async def _offered(self, event: SnapshotOffered) -> None:
        place = self._place
        head = decode_head(event.offer.head)
        if head.position != (event.offer.last_term, event.offer.last_index) or (
            head.cluster,
            head.group,
        ) != (place.cluster, self._group.name):
            raise InvalidInput(
                f"{event.sender} offers a snapshot of group {head.group} of cluster {head.cluster} "
                f"at {head.position}, under another name"
            )
        if not self._is_news(head):
            self._answer_outdated(event)
            return
        self._offer = event
        if self._head is None or self._head.id != head.id or self._writer is None:
            await self._begin(head)
        assert self._writer is not None
        facts = self._marks.tell(self._group.applied, self._group.state.digest())
        if self._group.raft.state.stateless or not place.settings.incremental:
            facts = b""
        self._answer(event, SnapshotStatus.WANTED, self._writer.offset, facts)
        await self._install_if_whole()

    async def _begin(self, head: SnapshotHead) -> None:
        """Take up the part of an earlier connection or life, or begin anew."""
        self._let_go()
        directory = self._place.directory
        path = directory.receiving
        writer = None
        if directory.disk.exists(path):
            try:
                writer = await in_thread(lambda: SnapshotWriter.resume(directory.disk, path))
            except (SnapshotDamaged, StorageVersion) as error:
                logger.info("group %s: %s", self._group.name, error)
            if writer is not None and writer.head.id != head.id:
                writer.close()
                writer = None
        if writer is None:
            await directory.make()
            writer = await SnapshotWriter.create(directory.disk, path, head)
        self._writer, self._head = writer, head

    async def _chunk(self, event: ChunkArrived) -> None:
        offer, writer, chunk = self._offer, self._writer, event.chunk
        if (
            offer is None
            or writer is None
            or (offer.sender, offer.offer.session, offer.offer.transfer)
            != (event.sender, chunk.session, chunk.transfer)
        ):
            return  # of an offer that was given up
        self.bytes_received += len(chunk.data)
        if self._head is not None and not self._is_news(self._head):
            self._answer_outdated(offer)
            await self._place.directory.discard(self._place.directory.receiving)
            self._let_go()
            return
        if chunk.offset == writer.offset and crc32(chunk.data) == chunk.checksum:
            await writer.add(chunk.data)
        self._answer(event, SnapshotStatus.WANTED, writer.offset)
        await self._install_if_whole()

    async def _install_if_whole(self) -> None:
        writer, head = self._writer, self._head
        if writer is None or head is None or writer.offset < head.payload_bytes:
            return
        assert self._offer is not None
        self._installing = head.id
        self._answer(self._offer, SnapshotStatus.INSTALLING)
        try:
            await self._install(writer, head)
        finally:
            self._installing = None
            self._let_go()

    async def _install(self, writer: SnapshotWriter, head: SnapshotHead) -> None:
        directory, group = self._place.directory, self._group
        path = directory.changes() if head.since else directory.final(head.position)
        await writer.finish(path)
        reader = SnapshotReader.open(directory.disk, path)
        try:
            fresh = await self._fresh(reader)
        except (InvalidInput, SnapshotDamaged):
            await directory.discard(path)
            raise
        finally:
            reader.close()
        if head.since:
            await self._keep_whole(fresh, head)
            await directory.discard(path)
        if group.become(head.position, head.configuration, fresh):
            logger.info(
                "group %s: installed a snapshot at index %d from %s (%d bytes%s)",
                group.name,
                head.position.index,
                self._offer.sender if self._offer else "?",
                head.payload_bytes,
                f", changes since {head.since}" if head.since else "",
            )
        self.problem = ""
        assert self._offer is not None
        self._answer(self._offer, SnapshotStatus.INSTALLED)

    async def _fresh(self, reader: SnapshotReader) -> ReplicatedState:
        """The state that the snapshot stands for, beside the one that is served."""
        place = self._place
        since = reader.head.since
        if not since:
            return await in_thread(lambda: place.restored(reader))
        if self._group.applied != since:
            raise InvalidInput(
                f"changes since {since}, and we are at {self._group.applied}", where=reader.path
            )
        ours = self._group.state.snapshot()

        def changed() -> ReplicatedState:
            fresh = ReplicatedState(place.make())
            fresh.restore(ours)
            fresh.apply_changes(reader.chunks())
            check_digest(fresh, reader)
            return fresh

        return await in_thread(changed)

    async def _keep_whole(self, fresh: ReplicatedState, head: SnapshotHead) -> None:
        """Changes are of no use to a later life: keep the whole state that they led to."""
        directory = self._place.directory
        whole = SnapshotHead(
            head.cluster,
            head.group,
            head.position,
            head.configuration_data,
            head.digest,
            created_ns=head.created_ns,
            chunk_bytes=head.chunk_bytes,
        )
        await write_file(
            directory, whole, fresh.snapshot(), directory.taking, directory.final(head.position)
        )

    # --- inside ---------------------------------------------------------------------------------

    def _is_news(self, head: SnapshotHead) -> bool:
        state = self._group.raft.state
        return state.stateless or head.position.index > state.commit

    def _answer_outdated(self, event: SnapshotOffered) -> None:
        """Entries have overtaken it since it was offered."""
        self._answer(event, SnapshotStatus.INSTALLED)

    async def _give_up(self, event: SnapshotOffered | ChunkArrived, error: Exception) -> None:
        """It is of no use, or there is no room for it: say so, and keep nothing of it."""
        self.problem = str(error) if isinstance(error, CoordinationError) else repr(error)
        logger.error("group %s: a snapshot is refused: %s", self._group.name, self.problem)
        self._let_go()
        directory = self._place.directory
        try:
            await directory.discard(directory.receiving)
        except OSError as again:
            logger.error("group %s: %s", self._group.name, again)
        self._answer(self._offer or event, SnapshotStatus.REFUSED)
        self._offer = None

    def _answer(
        self,
        event: SnapshotOffered | ChunkArrived,
        status: SnapshotStatus,
        offset: int = 0,
        facts: bytes = b"",
    ) -> None:
        self._group.raft.snapshots.answer(event, status, offset=offset, facts=facts)
        self._group.wake()

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._head = None


def _is_of(event: SnapshotOffered, wanted: SnapshotId) -> bool:
    try:
        return decode_head(event.offer.head).id == wanted
    except (InvalidInput, StorageVersion):
        return False
