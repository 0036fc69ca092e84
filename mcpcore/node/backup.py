"""Backing a group up to a file, and making a new cluster from one.

This module exists so that a backup is the same file that members send each other: checksummed,
inspectable, and restored by the same code. The node's side gives the applied state piece by piece,
the client's side writes the file, and a restore makes a data directory that a node can start on.

A restored group is a new group: its own cluster name, one voter, a new incarnation. It shares the
past of the old one and nothing else, so that neither ever listens to the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mcpcore.errors import InvalidInput, RecoveryRefused, Rejected
from mcpcore.node.disk import Disk
from mcpcore.node.group import Group
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.snapshot_files import SnapshotReader, SnapshotWriter
from mcpcore.node.storage.snapshot_format import SnapshotHead
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import segment_numbers
from mcpcore.raft.types import Configuration, HardState, LogPosition

PIECE_BYTES = 512 << 10
"""How much of a state travels in one answer, at least."""


class Backup:
    """A state that is being read by a client, from the moment it was asked for."""

    def __init__(self, group: Group, cluster: str, created_ns: int) -> None:
        state = group.raft.state
        term = state.log.term_at(group.applied)
        if group.failure is not None or term is None:
            raise Rejected(f"group {group.name}: this node cannot give its state; ask another one")
        configurations = [each for at, each in state.configurations if at <= group.applied]
        self.head = SnapshotHead(
            cluster,
            group.name,
            LogPosition(term, group.applied),
            configurations[-1].encode(),
            group.state.digest(),
            created_ns,
        )
        self._chunks: Iterator[bytes] = group.state.snapshot()

    def described(self) -> dict[str, Any]:
        """The head in plain values."""
        head = self.head
        return {
            "cluster": head.cluster,
            "group": head.group,
            "term": head.position.term,
            "index": head.position.index,
            "configuration": head.configuration_data,
            "digest": head.digest,
            "created_ns": head.created_ns,
        }

    def piece(self) -> bytes:
        """The next part of the state; empty at the end."""
        parts, size = [], 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= PIECE_BYTES:
                break
        return b"".join(parts)


def head_from(described: object) -> SnapshotHead:
    """The head that a node described.

    Raises:
        InvalidInput: it makes no sense.
    """
    match described:
        case {
            "cluster": str(cluster),
            "group": str(group),
            "term": int(term),
            "index": int(index),
            "configuration": bytes(configuration),
            "digest": bytes(digest),
            "created_ns": int(created_ns),
        }:
            Configuration.decode(configuration)
            position = LogPosition(term, index)
            return SnapshotHead(cluster, group, position, configuration, digest, created_ns)
    raise InvalidInput("a backup must begin with a description of the state")


def open_backup(disk: Disk, path: str) -> SnapshotReader:
    """A backup file; close it when done.

    Raises:
        InvalidInput: there is no such file.
        SnapshotDamaged: it is none, or damaged in its head.
    """
    try:
        return SnapshotReader.open(disk, path)
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=path) from error


async def restore(
    disk: Disk, path: str, directory: str, owner: Identity, *, group: str = ""
) -> SnapshotHead:
    """Make a data directory in which ``owner`` is the only voter of the group in a backup.

    The file is read and checked twice: once before anything is made, once while it is copied.

    Args:
        directory: absent or empty of logs.
        owner: the node, of a cluster with another name than the backup's.
        group: the group's new name; its old one by default.

    Returns:
        The head of the snapshot in its new place.

    Raises:
        SnapshotDamaged: the file is damaged. Nothing was made.
        InvalidInput: the directory holds a log.
        RecoveryRefused: the cluster's name is that of the old one.
        OSError: the disk does not work; remove what is there and begin anew.
    """
    reader = open_backup(disk, path)
    try:
        reader.verify()
        head = reader.head
        if head.since:
            raise InvalidInput("holds changes only, not a whole state", where=path)
        if owner.cluster == head.cluster:
            raise RecoveryRefused(
                group or head.group,
                f"a second cluster named {head.cluster} would take the first one's messages",
                "Choose another name with --as-new-cluster",
            )
        if segment_numbers(disk, directory):
            raise InvalidInput(
                "holds a log already", where=directory, remedy="Name an empty directory"
            )
        configuration = Configuration.of([owner.node])
        placed = replace(
            head,
            cluster=owner.cluster,
            group=group or head.group,
            configuration_data=configuration.encode(),
        )
        await _place(disk, directory, reader, placed)
    finally:
        reader.close()
    log = await WriteAheadLog.open(disk, directory, identity=owner, monotonic_ns=lambda: 0)
    try:
        log.create_group(placed.group, configuration)
        log.submit(placed.group, HardState(placed.position.term, ""), [])
        await log.replace_log(placed.group, placed.position, configuration)
    finally:
        await log.close()
    return placed


async def _place(disk: Disk, directory: str, reader: SnapshotReader, head: SnapshotHead) -> None:
    disk.make_dirs(directory)
    snapshots = SnapshotDirectory(disk, directory, head.group)
    await snapshots.prepare()
    writer = await SnapshotWriter.create(disk, snapshots.receiving, head)
    try:
        for chunk in reader.chunks():
            await writer.add(chunk)
        await writer.finish(snapshots.final(head.position))
    finally:
        writer.close()
