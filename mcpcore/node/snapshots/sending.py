"""One snapshot on its way to one member.

This module exists so that a transfer survives what transfers die of: a connection that breaks (the
other side says where to go on), a receiver that takes its time (there is no deadline), a slow link
(heartbeats go on beside it), a leader's file that turns out damaged (another is taken). It owns one
task, until ``close``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from zlib import crc32

from mcpcore.errors import InvalidInput, SnapshotDamaged
from mcpcore.node.snapshots.marks import DigestMarks
from mcpcore.node.snapshots.pacing import Window
from mcpcore.node.snapshots.workplace import GroupPort, Workplace, in_thread
from mcpcore.node.snapshots.writing import write_file
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.node.storage.snapshot_format import SnapshotHead, encode_head
from mcpcore.raft.messages import SnapshotReply, SnapshotStatus
from mcpcore.raft.types import LogPosition

logger = logging.getLogger("mcpcore.node.snapshots")

RETRY_S: Final = 1.0
"""After a disk or a machine failed, how long not to try again."""
PATIENCE_S_MAX: Final = 60.0
"""However long nothing is heard, the other side is asked again after this."""
WORTH_IT: Final = 0.75
"""Changes that take more than this part of the whole are not worth the receiver's extra work."""

Choose = Callable[[int], Awaitable[SnapshotReader]]
"""Finds or takes a snapshot that ends at an index or later."""


class Sending:
    """A transfer to one member; begins at once.

    Args:
        choose: finds or takes the snapshot.
        ended: called when there is nothing more to do for this member.
    """

    def __init__(
        self,
        place: Workplace,
        group: GroupPort,
        marks: DigestMarks,
        peer: str,
        session: int,
        at_least: int,
        *,
        choose: Choose,
        ended: Callable[[Sending], None],
    ) -> None:
        self.peer = peer
        self._place = place
        self._group = group
        self._marks = marks
        self._session = session
        self._at_least = at_least
        self._choose = choose
        self._ended = ended
        self._reader: SnapshotReader | None = None
        self._head_bytes = b""
        self._transfer = 0
        self._sent = 0
        self._acked = 0
        self._offered = False
        self._answered = False
        self._facts = b""
        self._refused = False
        self._done = False
        self._full_only = not place.settings.incremental
        self._changes_path = ""
        self._news = asyncio.Event()
        heartbeat_ns = self._group.raft.state.settings.heartbeat_ns
        self._window = Window(heartbeat_ns // 2)
        self._patience_s = self._first_patience_s()
        self._began_ns = place.clocks.monotonic_ns()
        self.bytes_sent = 0
        """Payload that left, whatever was sent twice included."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"snapshot {self._group.name} to {peer}"
        )

    # --- what is told ---------------------------------------------------------------------------

    def wanted(self, session: int, at_least: int) -> None:
        """The member wants it (again), maybe over a new connection."""
        if session != self._session:
            self._session, self._offered = session, False
            self._at_least = max(self._at_least, at_least)
            self._news.set()

    def answered(self, reply: SnapshotReply) -> bool:
        """The member answered. Whether that was all."""
        if (reply.session, reply.transfer) != (self._session, self._transfer):
            return False
        self._patience_s = self._first_patience_s()
        self._news.set()
        match reply.status:
            case SnapshotStatus.INSTALLED:
                self._done = True
            case SnapshotStatus.WANTED if not self._answered:
                self._answered = True
                self._sent = self._acked = reply.offset
                self._window.restart()
                self._facts = reply.facts
            case SnapshotStatus.WANTED if reply.offset < self._acked:
                self._offered = False  # it lost some: ask where it stands
            case SnapshotStatus.WANTED:
                self._acked = reply.offset
                self._window.acked(reply.offset, self._place.clocks.monotonic_ns())
            case SnapshotStatus.REFUSED:
                self._refused = True
        return self._done

    def status(self) -> dict[str, Any]:
        """In plain values."""
        head = self._reader.head if self._reader is not None else None
        return {
            "index": head.position.index if head else 0,
            "since": head.since if head else 0,
            "bytes": head.payload_bytes if head else 0,
            "acknowledged": self._acked,
            "sent": self.bytes_sent,
            "for_s": (self._place.clocks.monotonic_ns() - self._began_ns) / 1e9,
        }

    def close(self) -> None:
        """Give up."""
        self._task.cancel()

    # --- the task -------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while not self._done and self.peer in self._group.raft.state.progress:
                try:
                    await self._go_on()
                except SnapshotDamaged as damage:
                    logger.error("group %s: %s", self._group.name, damage)
                    if self._reader is not None:
                        await self._place.directory.discard(self._reader.path)
                    self._drop_reader()
                except OSError as error:
                    logger.warning(
                        "group %s: a snapshot for %s waits: %s",
                        self._group.name,
                        self.peer,
                        error,
                    )
                    self._drop_reader()
                    await asyncio.sleep(RETRY_S)
                except Exception:
                    logger.exception(
                        "group %s: a snapshot for %s failed", self._group.name, self.peer
                    )
                    self._drop_reader()
                    await asyncio.sleep(RETRY_S)
        finally:
            self._drop_reader()
            self._ended(self)

    async def _go_on(self) -> None:
        if self._reader is None:
            self._use(await self._choose(self._at_least))
        if not self._offered:
            self._offer()
        if self._answered and self._facts and not self._full_only:
            facts, self._facts = self._facts, b""
            if self._acked == 0 and await self._send_changes_instead(facts):
                return
        if self._refused:
            await self._after_refusal()
            return
        if self._answered:
            await self._send_pieces()
        if self._offered and not self._finished():
            await self._wait()

    def _use(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self._head_bytes = encode_head(reader.head)
        self._transfer += 1
        self._offered = False

    def _offer(self) -> None:
        assert self._reader is not None
        # If we lead no more this comes to nothing; a new session or our patience mends the rest.
        self._group.raft.snapshots.offer(
            self.peer,
            self._session,
            self._transfer,
            self._reader.head.position,
            self._head_bytes,
        )
        self._offered, self._answered = True, False
        self._group.wake()

    async def _send_pieces(self) -> None:
        reader, window, place = self._reader, self._window, self._place
        assert reader is not None
        total = reader.head.payload_bytes
        while self._may_send() and self._sent < total:
            if self._sent - self._acked >= window.bytes:
                return
            offset = self._sent
            wanted = min(window.piece_bytes, total - offset)
            data = await in_thread(partial(reader.read, offset, wanted))
            wait_ns = place.bucket.reserve(len(data), place.clocks.monotonic_ns())
            if wait_ns:
                await asyncio.sleep(wait_ns / 1e9)
            if not self._may_send() or self._sent != offset:
                return  # the connection broke meanwhile
            if not self._group.raft.snapshots.send_chunk(
                self.peer, self._session, self._transfer, offset, data, crc32(data)
            ):
                self._answered = False
                return
            self._group.wake()
            self._sent += len(data)
            self.bytes_sent += len(data)
            window.sent(self._sent, len(data), place.clocks.monotonic_ns())

    def _finished(self) -> bool:
        return self._done or self._refused

    def _may_send(self) -> bool:
        return self._offered and self._answered and not self._finished()

    async def _wait(self) -> None:
        """For an answer; ask again after a while, and again later each time."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), self._patience_s)
        except TimeoutError:
            self._patience_s = min(2 * self._patience_s, PATIENCE_S_MAX)
            self._offered = False

    async def _after_refusal(self) -> None:
        """It cannot use this one. Changes: send the whole state. The whole state: later again."""
        self._refused = False
        if self._reader is not None and self._reader.head.since:
            logger.warning(
                "group %s: %s could not use the changes since %d; it gets the whole state",
                self._group.name,
                self.peer,
                self._reader.head.since,
            )
            self._full_only = True
            self._drop_reader()
            return
        await asyncio.sleep(self._first_patience_s())
        self._offered = False

    async def _send_changes_instead(self, facts: bytes) -> bool:
        """Offer only what changed, if the member's state is one of our own past."""
        place, whole = self._place, self._reader
        assert whole is not None
        try:
            since = self._marks.common(facts)
        except InvalidInput as error:
            logger.warning("group %s: %s: %s", self._group.name, self.peer, error)
            return False
        group = self._group
        applied = group.applied
        changes = group.state.changes_since(since) if 0 < since < applied else None
        term = group.raft.state.log.term_at(applied)
        if changes is None or term is None:
            return False
        head = SnapshotHead(
            place.cluster,
            group.name,
            LogPosition(term, applied),
            group.raft.snapshots.configuration_at(applied).encode(),
            group.state.digest(),
            created_ns=max(0, place.clocks.wall_ns()),
            since=since,
            chunk_bytes=place.settings.chunk_bytes,
        )
        path = place.directory.changes()
        done = await write_file(
            place.directory,
            head,
            changes,
            f"{path}.part",
            path,
            payload_bytes_max=int(whole.head.payload_bytes * WORTH_IT),
        )
        if done is None:
            return False
        whole.close()
        self._changes_path = path
        self._use(SnapshotReader.open(place.directory.disk, path))
        return True

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._changes_path:
            disk = self._place.directory.disk
            if disk.exists(self._changes_path):
                disk.remove(self._changes_path)
            self._changes_path = ""

    def _first_patience_s(self) -> float:
        return 3 * self._group.raft.state.settings.election_timeout_ns / 1e9
