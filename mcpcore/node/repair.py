"""Opening a log that may be damaged, and following each group until it is certain again.

This module exists so that rot is neither a crash loop nor forgotten: a node with a damaged log
starts, says precisely what it lost, serves what was not hit, and lets the others give back the
rest. What is known is decided by ``storage.salvage``, what a member in doubt may do by
``raft.recall``; this only carries it out. It must never touch a sound log.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any

from mcpcore.errors import InvalidInput, StorageCorrupt, StorageFailed, StorageInUse
from mcpcore.node.disk import Disk
from mcpcore.node.group import Group
from mcpcore.node.storage.contract import Identity, LogDevice
from mcpcore.node.storage.salvage import Salvage, salvage
from mcpcore.node.storage.salvage_report import as_data, in_words
from mcpcore.node.storage.salvage_scan import SalvageScan
from mcpcore.node.storage.wal import WriteAheadLog, check_identity
from mcpcore.node.storage.wal_rewrite import ASIDE, write_anew
from mcpcore.node.transport.transport import new_incarnation
from mcpcore.raft.outcome import RoleChanged

logger = logging.getLogger("mcpcore.node.repair")


async def open_log(
    disk: Disk,
    directory: str,
    *,
    identity: Identity,
    monotonic_ns: Callable[[], int],
    on_failure: Callable[[StorageFailed], None],
) -> tuple[WriteAheadLog, Salvage | None]:
    """Open a node's log; one that rotted is written anew from what it still proves.

    Args:
        identity: whose log it must be. Its incarnation is taken for a new log, and for one that
            forgot a term or a vote.

    Returns:
        The log, and what was salvaged; None if it was sound.

    Raises:
        StorageVersion, WrongIdentity, StorageInUse, StorageFailed: as ``WriteAheadLog.open``.
    """

    async def sound() -> WriteAheadLog:
        return await WriteAheadLog.open(
            disk, directory, identity=identity, monotonic_ns=monotonic_ns, on_failure=on_failure
        )

    try:
        return await sound(), None
    except StorageCorrupt as error:
        logger.error("node %s: %s", identity.node, error)
    found = await mend(disk, directory, identity)
    for line in in_words(found):
        logger.warning("node %s: %s", identity.node, line)
    logger.warning("node %s: the damaged files are kept in %s/%s", identity.node, directory, ASIDE)
    return await sound(), found


async def mend(disk: Disk, directory: str, identity: Identity) -> Salvage:
    """Write a damaged log anew; nobody else may have it open.

    Raises:
        WrongIdentity: it is another node's.
        StorageInUse: somebody has it open.
        StorageFailed: the disk does not work.
    """
    lock = disk.open(f"{directory}/lock", create=True)
    try:
        await lock.write(0, identity.node.encode(), sync=False)
        scan = SalvageScan(disk, directory)
        pieces = list(scan)
        found = salvage(pieces, names_lost=_names_lost(scan))
        if scan.identity is not None:
            check_identity(directory, found=scan.identity, wanted=identity)
        owner = scan.identity
        if owner is None or found.forgotten:
            owner = identity
        report = json.dumps(as_data(found, owner), indent=2).encode()
        number = 1 + max(scan.segments, default=0)
        await _keep_report(disk, directory, f"report-{number:08}.json", report)
        await write_anew(disk, directory, scan, found, owner)
    except BlockingIOError as error:
        raise StorageInUse(f"{directory}: the log is open elsewhere; end that first") from error
    except OSError as error:
        raise StorageFailed(f"{directory}: the log cannot be written anew: {error}") from error
    finally:
        lock.close()
    return found


@dataclass(frozen=True, slots=True)
class Examined:
    """A damaged log that was looked at: whose it is, and what it still proves."""

    owner: Identity | None
    found: Salvage

    def in_words(self) -> list[str]:
        """What was lost and what follows, one sentence each."""
        return in_words(self.found)

    def as_data(self) -> dict[str, Any]:
        """The same in plain values."""
        return as_data(self.found, self.owner)


def examine(disk: Disk, directory: str) -> Examined:
    """Look at a damaged log and change nothing.

    Raises:
        OSError: it cannot be read.
    """
    scan = SalvageScan(disk, directory)
    pieces = list(scan)
    return Examined(scan.identity, salvage(pieces, names_lost=_names_lost(scan)))


def _names_lost(scan: SalvageScan) -> bool:
    return scan.amnesia or scan.identity is None


async def mend_offline(disk: Disk, directory: str) -> str:
    """Repair a stopped node's log; returns where the damaged files are kept.

    Raises:
        InvalidInput: it does not even say whose it is, so only the node itself can begin anew.
        StorageInUse: the node runs.
        StorageFailed: the disk does not work.
    """
    owner = SalvageScan(disk, directory).identity
    if owner is None:
        raise InvalidInput(
            "no segment says whose log it is",
            where=directory,
            remedy="Start the node: it knows its name, and keeps these files aside",
        )
    await mend(disk, directory, replace(owner, incarnation=new_incarnation(SystemRandom())))
    return f"{directory}/{ASIDE}"


async def _keep_report(disk: Disk, directory: str, name: str, report: bytes) -> None:
    disk.make_dirs(f"{directory}/{ASIDE}")
    file = disk.open(f"{directory}/{ASIDE}/{name}", create=True)
    try:
        await file.truncate(0)
        await file.write(0, report, sync=True)
    finally:
        file.close()


def follow_doubt(group: Group, device: LogDevice) -> None:
    """Note on the disk when a group is in doubt no more, so that its next start knows."""

    def look(_: RoleChanged) -> None:
        if group.raft.state.doubt is None:
            group.listeners.remove(look)
            logger.warning(
                "group %s is repaired: its log is certain again",
                group.name,
                extra={"group": group.name},
            )
            device.end_doubt(group.name).add_done_callback(_only_note)

    if group.raft.state.doubt is not None:
        group.listeners.append(look)


def _only_note(done: asyncio.Future[None]) -> None:
    """If it did not get to the disk, the group is in doubt once more at the next start."""
    if not done.cancelled():
        done.exception()
