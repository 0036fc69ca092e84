"""Beginning with what the disk kept: the newest sound snapshot, and the log after it.

This module exists so that a start reads like the table in ``mcpcore.raft.recovery``: find, restore,
judge, and bring the log in line before anything else happens. A damaged snapshot is reported and
the next older one tried; if the log does not reach back to any, the member begins without a state
and is sent one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mcpcore.errors import InvalidInput, SnapshotDamaged, StorageVersion
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.snapshots.workplace import Workplace, in_thread
from mcpcore.node.storage.contract import LogDevice, RecoveredGroup
from mcpcore.node.storage.snapshot_files import SnapshotReader, SnapshotWriter
from mcpcore.node.storage.snapshot_format import SnapshotHead
from mcpcore.raft import recovery
from mcpcore.raft.custody import Dropped
from mcpcore.raft.log import RaftLog
from mcpcore.raft.recovery import Start
from mcpcore.raft.types import LogPosition

logger = logging.getLogger("mcpcore.node.snapshots")


@dataclass(slots=True)
class Restored:
    """What was found for a group.

    Args:
        start: how its Raft core begins.
        state: the state of ``head``, or an empty one.
        head: of the snapshot it came from; None if there was none.
        problems: what was wrong with others.
    """

    start: Start
    state: ReplicatedState
    head: SnapshotHead | None
    problems: list[str]


async def restore(
    place: Workplace,
    found: RecoveredGroup,
    device: LogDevice,
    keep: Callable[[Sequence[Dropped]], Awaitable[None]],
) -> Restored:
    """Find out where a group begins, and bring its log in line with that, durably.

    Args:
        keep: keeps entries that leave the log.

    Raises:
        OSError: the disk does not work.
        StorageFailed: the log does not.
    """
    directory = place.directory
    directory.clean()
    problems: list[str] = []
    state, head = None, None
    for stored in directory.stored():
        if stored.position.index < found.base.index:
            break  # the log does not reach back to it
        try:
            state, head = await _read(place, found.name, stored.position, stored.path)
            break
        except (InvalidInput, SnapshotDamaged, StorageVersion, OSError) as error:
            problem = f"snapshot {stored.path} cannot be used: {error}"
            logger.error("group %s: %s", found.name, problem)
            problems.append(problem)
            if isinstance(error, SnapshotDamaged | InvalidInput):
                await directory.set_aside(stored)
    start = recovery.begin(
        found.hard_state,
        found.configuration,
        RaftLog(found.base, found.entries),
        None if head is None else (head.position, head.configuration),
    )
    if start.stateless:
        problem = (
            f"the log begins at index {found.base.index} and no snapshot reaches so far: the state "
            "is asked of the other members"
        )
        logger.error("group %s: %s", found.name, problem)
        problems.append(problem)
    if start.replace:
        logger.warning(
            "group %s: the log ends at index %d, the newest snapshot at %d; it begins there",
            found.name,
            found.last.index,
            start.log.base.index,
        )
        if start.hard_state != found.hard_state:
            await device.submit(found.name, start.hard_state, ())
        if start.dropped:
            await keep(start.dropped)
        await device.replace_log(found.name, start.log.base, start.configuration)
    await _drop_outdated_part(place, start.applied)
    return Restored(start, state or ReplicatedState(place.make()), head, problems)


async def _read(
    place: Workplace, group: str, position: LogPosition, path: str
) -> tuple[ReplicatedState, SnapshotHead]:
    reader = SnapshotReader.open(place.directory.disk, path)
    try:
        head = reader.head
        if (head.cluster, head.group, head.position, head.since) != (
            place.cluster,
            group,
            position,
            0,
        ):
            raise InvalidInput(
                f"it is of group {head.group!r} of cluster {head.cluster!r}, index "
                f"{head.position.index}",
                where=path,
                remedy="Files are not to be renamed or moved between groups",
            )
        return await in_thread(lambda: place.restored(reader)), head
    finally:
        reader.close()


async def _drop_outdated_part(place: Workplace, applied: int) -> None:
    """Keep a half-received snapshot only if it may still be of use."""
    directory = place.directory
    path = directory.receiving
    if not directory.disk.exists(path):
        return
    try:
        writer = await in_thread(lambda: SnapshotWriter.resume(directory.disk, path))
        useful = writer.head.position.index > applied
        writer.close()
    except (SnapshotDamaged, StorageVersion):
        useful = False
    if not useful:
        await directory.discard(path)
