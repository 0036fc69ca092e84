"""What a driver does with snapshots, as a model without files: for :class:`tests.raft.cluster`.

A model's state is the list of entries it applied, and so is its snapshot; a chunk is a few of them.
So a snapshot that brings the wrong state is seen at once by whoever compares the applied entries.
Finished snapshots and the chunks of an unfinished one are durable as soon as they are there, and
every disk write of the log after them may still be lost in a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import msgpack

from mcpcore.raft import recovery
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import SnapshotStatus
from mcpcore.raft.snapshot_events import (
    ChunkArrived,
    SnapshotAnswered,
    SnapshotEvent,
    SnapshotOffered,
    SnapshotWanted,
)
from mcpcore.raft.types import Configuration, Entry, LogPosition

if TYPE_CHECKING:
    from tests.raft.cluster import Cluster, Disk

CHUNK_BYTES = 40


@dataclass(frozen=True)
class Snapshot:
    position: LogPosition
    configuration: Configuration
    state: tuple[Entry, ...]

    def encode(self) -> bytes:
        return msgpack.packb(self.state)

    def head(self) -> bytes:
        data = self.encode()
        return msgpack.packb([self.position, self.configuration.encode(), len(data), crc32(data)])


@dataclass
class Part:
    """What has arrived of a snapshot."""

    head: bytes
    data: bytes = b""

    @property
    def whole(self) -> bool:
        return len(self.data) == msgpack.unpackb(self.head)[2]

    def snapshot(self) -> Snapshot:
        position, configuration, _, checksum = msgpack.unpackb(self.head)
        assert crc32(self.data) == checksum, "the parts of two snapshots were mixed"
        rows = msgpack.unpackb(self.data, use_list=False)
        return Snapshot(
            LogPosition(*position),
            Configuration.decode(configuration),
            tuple(Entry(*row) for row in rows),
        )


@dataclass
class Sending:
    """A snapshot on its way to one member."""

    snapshot: Snapshot
    session: int
    transfer: int
    heard_ns: int


def recover(disk: Disk, original: Configuration) -> recovery.Start:
    """Begin with what a disk holds, and bring the disk in line with it."""
    newest = disk.snapshots[max(disk.snapshots)] if disk.snapshots else None
    start = recovery.begin(
        disk.hard_state,
        disk.configuration or original,
        RaftLog(disk.base, disk.entries),
        (newest.position, newest.configuration) if newest else None,
    )
    if start.replace:
        disk.hard_state, disk.base = start.hard_state, start.log.base
        disk.configuration, disk.entries = start.configuration, []
    return start


def take(cluster: Cluster, name: str) -> Snapshot:
    """A durable snapshot of what a member has applied."""
    member = cluster.members[name]
    state = member.raft.state
    index = member.applied[-1].index
    known = member.disk.snapshots.get(index)
    if known is not None:
        return known
    configuration = next(c for at, c in reversed(state.configurations) if at <= index)
    position = LogPosition(member.applied[-1].term, index)
    snapshot = Snapshot(position, configuration, tuple(member.applied))
    member.disk.snapshots[index] = snapshot
    return snapshot


def compact(cluster: Cluster, name: str, trailing: int = 0, hold_bytes: int = 0) -> None:
    """Take a snapshot, begin the log later, and drop the snapshots that nobody needs then."""
    member = cluster.members[name]
    if not member.applied or member.raft.state.stateless:
        return
    snapshot = take(cluster, name)
    base = member.raft.snapshots.compact(
        snapshot.position.index, trailing=trailing, hold_bytes=hold_bytes
    )
    cluster.drain(name)
    assert base <= snapshot.position.index


def carry_out(cluster: Cluster, name: str, event: SnapshotEvent) -> None:
    """What a driver does about one event."""
    member = cluster.members[name]
    verbs = member.raft.snapshots
    match event:
        case SnapshotWanted(peer, session, at_least):
            known = member.sendings.get(peer)
            if known is not None and known.session == session:
                return  # it asks again, and is being served
            if known is None or known.snapshot.position.index < at_least:
                if not member.applied or member.applied[-1].index < at_least:
                    return  # nothing was applied here since the restart; it is asked for again
                known = Sending(take(cluster, name), session, 0, 0)
                member.sendings[peer] = known
            known.session = session
            _offer(cluster, name, peer, known)
        case SnapshotOffered(_, offer):
            part = member.disk.part
            if part is None or part.head != offer.head:
                part = member.disk.part = Part(offer.head)
            member.offered = event
            verbs.answer(event, SnapshotStatus.WANTED, offset=len(part.data))
            if part.whole:
                _install(cluster, name)
        case ChunkArrived(sender, chunk):
            offered, part = member.offered, member.disk.part
            if (
                offered is None
                or part is None
                or (offered.sender, offered.offer.session, offered.offer.transfer)
                != (sender, chunk.session, chunk.transfer)
            ):
                return  # of an offer that was given up
            if chunk.offset == len(part.data) and not part.whole:
                assert crc32(chunk.data) == chunk.checksum
                part.data += chunk.data
            verbs.answer(event, SnapshotStatus.WANTED, offset=len(part.data))
            if part.whole:
                _install(cluster, name)
        case SnapshotAnswered(peer, reply):
            sending = member.sendings.get(peer)
            if sending is None or (sending.session, sending.transfer) != (
                reply.session,
                reply.transfer,
            ):
                return
            sending.heard_ns = cluster.now_ns
            if reply.status == SnapshotStatus.INSTALLED:
                del member.sendings[peer]
            elif reply.status == SnapshotStatus.WANTED:
                data = sending.snapshot.encode()[reply.offset : reply.offset + CHUNK_BYTES]
                if data:
                    verbs.send_chunk(
                        peer, sending.session, sending.transfer, reply.offset, data, crc32(data)
                    )


def _offer(cluster: Cluster, name: str, peer: str, sending: Sending) -> None:
    sending.transfer += 1
    sending.heard_ns = cluster.now_ns
    cluster[name].snapshots.offer(
        peer,
        sending.session,
        sending.transfer,
        sending.snapshot.position,
        sending.snapshot.head(),
    )


def _install(cluster: Cluster, name: str) -> None:
    member = cluster.members[name]
    offered, part = member.offered, member.disk.part
    assert offered is not None
    assert part is not None
    snapshot = part.snapshot()
    member.disk.snapshots[snapshot.position.index] = snapshot
    member.disk.part = None
    if member.raft.snapshots.install(snapshot.position, snapshot.configuration):
        member.applied = list(snapshot.state)
    member.raft.snapshots.answer(offered, SnapshotStatus.INSTALLED)
    member.offered = None


def offer_again(cluster: Cluster, name: str) -> None:
    """A message may be lost without the connection breaking: ask where the other side stands."""
    member = cluster.members[name]
    for peer, sending in list(member.sendings.items()):
        if not member.raft.snapshots.serves(peer, sending.session):
            if not member.raft.is_leader:
                del member.sendings[peer]
        elif cluster.now_ns - sending.heard_ns > cluster.settings.election_timeout_ns:
            _offer(cluster, name, peer, sending)
            cluster.drain(name)
