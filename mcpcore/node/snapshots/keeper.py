"""Everything about the snapshots of one group: the only part that the group itself knows.

This module exists so that a group calls one object and forgets about the rest: when to take one,
whom to send it, what arrives, which files may go, what to show. It carries out what the core
decides (``mcpcore.raft.snapshots``) and decides nothing of the protocol itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

from mcpcore.errors import Rejected, SnapshotDamaged, StorageVersion
from mcpcore.node.snapshots.marks import STEP, DigestMarks
from mcpcore.node.snapshots.receiving import Receiving
from mcpcore.node.snapshots.sending import Sending
from mcpcore.node.snapshots.workplace import GroupPort, Workplace
from mcpcore.node.snapshots.writing import write_file
from mcpcore.node.storage.snapshot_files import SnapshotReader
from mcpcore.node.storage.snapshot_format import SnapshotHead
from mcpcore.raft.snapshot_events import (
    ChunkArrived,
    SnapshotAnswered,
    SnapshotEvent,
    SnapshotOffered,
    SnapshotWanted,
)
from mcpcore.raft.types import Entry, LogPosition

logger = logging.getLogger("mcpcore.node.snapshots")

RETRY_S: Final = 10.0
"""After a snapshot could not be written, how long not to try again by ourselves."""
PINNED_REST_S: Final = 10.0
"""A group that keeps the log's oldest file takes a snapshot at most so often..."""
PINNED_BYTES_PER_S: Final = 8 << 20
"""...and no more often than this rate of writing allows."""


class SnapshotKeeper:
    """The snapshots of one group on one node.

    Args:
        place: the group's files and its bounds.
        newest: the snapshot that the group began with, if any.
        problems: what was wrong with snapshots at the start.
    """

    def __init__(
        self,
        place: Workplace,
        group: GroupPort,
        newest: SnapshotHead | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self._place = place
        self._group = group
        self._marks = DigestMarks(group.applied)
        if newest is not None:
            self._marks.note(newest.position.index, newest.digest)
        self._newest = newest
        self._newest_at_ns: int | None = None
        self._entries = 0
        self._bytes = 0
        self._not_before_ns = 0
        self._sendings: dict[str, Sending] = {}
        self._receiving: Receiving | None = None
        self._taking: asyncio.Task[SnapshotHead] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.problems = list(problems)
        """What went wrong with snapshots here, in words; the newest last."""

    # --- what the group tells -------------------------------------------------------------------

    @property
    def next_mark(self) -> int:
        """After this index the group calls ``mark``."""
        return self._marks.next_mark

    def mark(self, index: int) -> None:
        """The state is exactly at ``index`` now.

        Snapshots are taken here if possible: members then take theirs at the same positions, so
        that a transfer can go on under another leader, and a restarted member knows a common mark.
        """
        self._marks.note(index, self._group.state.digest())
        self._take_if_due()

    def applied(self, entries: Sequence[Entry]) -> None:
        """Entries were applied: is it time?"""
        self._entries += len(entries)
        self._bytes += sum([len(entry.data) for entry in entries])
        settings = self._place.settings
        if self._bytes >= 2 * settings.every_bytes or settings.every_entries < STEP:
            self._take_if_due()

    def hear(self, events: Sequence[SnapshotEvent]) -> None:
        """Carry out what the core wants."""
        for event in events:
            match event:
                case SnapshotWanted(peer, session, at_least):
                    self._send(peer, session, at_least)
                case SnapshotAnswered(peer, reply):
                    if peer in self._sendings and self._sendings[peer].answered(reply):
                        # Gone before the next event: it may want a newer one at once.
                        del self._sendings[peer]
                case SnapshotOffered() | ChunkArrived():
                    if self._receiving is None:
                        self._receiving = Receiving(self._place, self._group, self._marks)
                    self._receiving.hear(event)

    def installed(self, position: LogPosition) -> None:
        """The group became a snapshot."""
        place = self._place
        self._marks.forget()
        self._marks.note(position.index, self._group.state.digest())
        for stored in place.directory.stored():
            if stored.position == position:
                reader = place.directory.open(stored)
                self._note(reader.head)
                reader.close()

    def base_stored(self, index: int) -> None:
        """The log durably begins at ``index``: older snapshots are of no use any more."""
        self._spawn(self._drop_below(index))

    def close(self) -> None:
        """Stop everything; nothing more is sent, taken or installed."""
        self._closed = True
        for sending in list(self._sendings.values()):
            sending.close()
        if self._receiving is not None:
            self._receiving.close()
        for task in (*self._tasks, self._taking):
            if task is not None:
                task.cancel()

    def status(self) -> dict[str, Any]:
        """In plain values."""
        newest, place, receiving = self._newest, self._place, self._receiving
        index = newest.position.index if newest else 0
        at_ns = self._newest_at_ns
        return {
            "index": index,
            "bytes": newest.payload_bytes if newest else 0,
            "age_entries": self._group.applied - index,
            "age_s": None if at_ns is None else (place.clocks.monotonic_ns() - at_ns) / 1e9,
            "taking": self._taking is not None,
            "sending": {peer: each.status() for peer, each in sorted(self._sendings.items())},
            "receiving": receiving.status() if receiving else None,
            "problem": (receiving.problem if receiving else "") or "".join(self.problems[-1:]),
        }

    # --- taking ---------------------------------------------------------------------------------

    async def take(self, *, trailing: int | None = None) -> SnapshotHead:
        """Take a snapshot of the applied state and compact the log; on demand.

        One that is under way is waited for instead.

        Args:
            trailing: entries to leave in the log before it; None: as the settings say.

        Raises:
            OSError: the disk does not work, or is full.
            Rejected: there is no state to take one of.
        """
        if not self._group.applied or self._group.raft.state.stateless:
            raise Rejected(f"group {self._group.name}: nothing is applied here yet; try later")
        return await asyncio.shield(self._take(trailing))

    def pinned(self) -> None:
        """The log's oldest file is kept for this group's entries alone: let it go."""
        self._take_if_due(pinned=True)

    def _take_if_due(self, *, pinned: bool = False) -> None:
        place = self._place
        now_ns = place.clocks.monotonic_ns()
        large = self._newest.payload_bytes if self._newest else 0
        if self._taking is not None or now_ns < self._not_before_ns or self._cannot_take():
            return
        if pinned:
            rest_s = PINNED_REST_S + large / PINNED_BYTES_PER_S
            since_ns = now_ns - (self._newest_at_ns or 0)
            if self._newest_at_ns is not None and since_ns < rest_s * 1e9:
                return
        elif self._entries < place.settings.every_entries and self._bytes < max(
            place.settings.every_bytes, large
        ):
            return
        try:
            self._take(0 if pinned else None)
        except Exception as error:  # noqa: BLE001 - the machine's own; its group can go on
            self._failed_to_take(error)

    def _cannot_take(self) -> bool:
        group = self._group
        return self._closed or group.raft.state.stateless or not group.applied

    def _take(self, trailing: int | None) -> asyncio.Task[SnapshotHead]:
        if self._taking is None:
            # The state of this very moment; writing it down may take its time.
            head, chunks = self._view()
            self._taking = asyncio.get_running_loop().create_task(
                self._write(head, chunks, trailing), name=f"snapshot of {self._group.name}"
            )
            self._taking.add_done_callback(self._taken)
        return self._taking

    def _view(self) -> tuple[SnapshotHead, Iterator[bytes] | None]:
        """The applied state; no bytes if the newest snapshot covers it already."""
        place, group = self._place, self._group
        applied = group.applied
        if self._newest is not None and self._newest.position.index == applied:
            return self._newest, None
        term = group.raft.state.log.term_at(applied)
        assert term is not None, "what is applied lies in the log"
        head = SnapshotHead(
            place.cluster,
            group.name,
            LogPosition(term, applied),
            group.raft.snapshots.configuration_at(applied).encode(),
            group.state.digest(),
            created_ns=max(0, place.clocks.wall_ns()),
            chunk_bytes=place.settings.chunk_bytes,
        )
        chunks = group.state.snapshot()
        self._entries = self._bytes = 0
        self._marks.note(applied, head.digest)
        return head, chunks

    async def _write(
        self, head: SnapshotHead, chunks: Iterator[bytes] | None, trailing: int | None
    ) -> SnapshotHead:
        place, group = self._place, self._group
        state = group.raft.state
        if chunks is not None:
            final = place.directory.final(head.position)
            done = await write_file(place.directory, head, chunks, place.directory.taking, final)
            assert done is not None, "there was no limit"
            head = done
            if self._newest is None or self._newest.position.index < head.position.index:
                self._note(head)
        if not state.stateless:
            group.raft.snapshots.compact(
                min(head.position.index, state.handed),
                trailing=place.settings.trailing_entries if trailing is None else trailing,
                hold_bytes=place.settings.hold_bytes,
            )
            group.wake()
        return head

    def _taken(self, task: asyncio.Task[SnapshotHead]) -> None:
        self._taking = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed_to_take(error)

    def _failed_to_take(self, error: BaseException) -> None:
        self._not_before_ns = self._place.clocks.monotonic_ns() + int(RETRY_S * 1e9)
        self._report(f"no snapshot could be taken: {error!r}")

    def _note(self, head: SnapshotHead) -> None:
        self._newest = head
        self._newest_at_ns = self._place.clocks.monotonic_ns()

    async def _drop_below(self, index: int) -> None:
        try:
            await self._place.directory.drop_below(index)
            if self._receiving is not None:
                await self._receiving.drop_outdated()
        except OSError as error:
            self._report(f"old snapshots could not be removed: {error}")

    # --- sending --------------------------------------------------------------------------------

    def _send(self, peer: str, session: int, at_least: int) -> None:
        sending = self._sendings.get(peer)
        if sending is not None:
            sending.wanted(session, at_least)
        elif not self._closed:
            self._sendings[peer] = Sending(
                self._place,
                self._group,
                self._marks,
                peer,
                session,
                at_least,
                choose=self._choose,
                ended=self._sent,
            )

    def _sent(self, sending: Sending) -> None:
        if self._sendings.get(sending.peer) is sending:
            del self._sendings[sending.peer]

    async def _choose(self, at_least: int) -> SnapshotReader:
        """The newest sound snapshot from ``at_least`` on; a new one if there is none.

        Raises:
            OSError: the disk does not work, or is full.
        """
        directory = self._place.directory
        for stored in directory.stored():
            if stored.position.index >= at_least:
                try:
                    return directory.open(stored)
                except (SnapshotDamaged, StorageVersion) as damage:
                    self._report(str(damage))
                    await directory.discard(stored.path)
        self._newest = None
        head = await self.take()
        return SnapshotReader.open(directory.disk, directory.final(head.position))

    # --- inside ---------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self, problem: str) -> None:
        logger.error("group %s: %s", self._group.name, problem)
        self.problems = [*self.problems[-9:], problem]
