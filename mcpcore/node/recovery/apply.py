"""Carrying a recovery out: a survivor's group gets a new configuration, and the node a new life.

This module exists so that forcing a membership, the one act that Raft has no proof for, happens in
one place, whole or not at all, and leaves a report. The log is written anew (``wal_rewrite``): the
chosen log, then a configuration entry of a term that no survivor has seen, under a new incarnation.

Members that were left out may come back with their old data, and a quorum of them may even lead the
old group on. So the node that was recovered listens, in this group, to members of its new
configuration only (``members_only``): nobody's old membership ever looks newer than this one.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import Any

from mcpcore.errors import InvalidInput, StorageFailed, StorageInUse
from mcpcore.node.disk import Disk
from mcpcore.node.recovery.plan import GroupPlan
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.salvage import Finding, salvage
from mcpcore.node.storage.salvage_scan import SalvageScan
from mcpcore.node.storage.snapshot_directory import directory_name
from mcpcore.node.storage.wal_rewrite import write_anew
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState, LogPosition

_PREFIX = "recovered-"


async def apply_plan(
    disk: Disk, directory: str, plan: GroupPlan, voters: tuple[str, ...], incarnation: str
) -> str:
    """Rewrite the chosen survivor's group; returns where the report is.

    Args:
        voters: of the new configuration; the chosen node is among them.
        incarnation: the node's new one, drawn at random.

    Raises:
        RecoveryRefused: the survivors are a quorum.
        InvalidInput: the directory is not the chosen survivor's, or the voters make no sense.
        StorageInUse: the node runs.
        StorageFailed: the disk does not work; either the old log or the new one stands.
    """
    plan.refuse_if_alive()
    if plan.chosen not in voters:
        raise InvalidInput(
            f"{plan.chosen} holds the log, so it must be one of the voters", where="--voters"
        )
    lock = disk.open(f"{directory}/lock", create=True)
    try:
        scan = SalvageScan(disk, directory)
        found = salvage(list(scan), names_lost=scan.amnesia)
        owner = scan.identity
        if owner is None or owner.node != plan.chosen:
            raise InvalidInput(
                f"is the log of {owner.node if owner else 'nobody'}, and {plan.chosen} has the "
                "best one",
                where=directory,
                remedy=f"Run this where the data of {plan.chosen} is",
            )
        await lock.write(0, owner.node.encode(), sync=False)
        identity = replace(owner, incarnation=incarnation)
        forced = replace(
            found, findings=tuple(_forced(each, plan, voters) for each in found.findings)
        )
        path = await _write_report(disk, directory, plan, voters, identity)
        await write_anew(disk, directory, scan, forced, identity)
    except BlockingIOError as error:
        raise StorageInUse(f"{directory}: the node runs; stop it first") from error
    except OSError as error:
        raise StorageFailed(f"{directory}: the log cannot be written anew: {error}") from error
    finally:
        lock.close()
    return path


def _forced(finding: Finding, plan: GroupPlan, voters: tuple[str, ...]) -> Finding:
    if finding.state.name != plan.group:
        return finding
    prefix = finding.prefix
    last = LogPosition(prefix[-1].term, prefix[-1].index) if prefix else finding.state.base
    configuration = Configuration.of(voters)
    entry = Entry(plan.new_term, last.index + 1, EntryKind.CONFIG, configuration.encode())
    state = finding.state._replace(hard_state=HardState(plan.new_term, ""), doubt=None)
    return Finding(finding.number, state, True, (*prefix, entry), (), open=False, until=entry.index)


async def _write_report(
    disk: Disk, directory: str, plan: GroupPlan, voters: tuple[str, ...], identity: Identity
) -> str:
    """Before the log is touched, so that no recovery goes without a report."""
    told: dict[str, Any] = {**plan.as_data(), "voters": voters, "node": identity.node}
    told |= {"cluster": identity.cluster, "incarnation": identity.incarnation}
    text = "\n".join([*plan.in_words(), f"  new voters: {', '.join(voters)}", ""])
    stem = f"{directory}/{_PREFIX}{directory_name(plan.group)}"
    for path, data in ((f"{stem}.txt", text), (f"{stem}.json", json.dumps(told, indent=1))):
        file = disk.open(path, create=True)
        try:
            await file.truncate(0)
            await file.write(0, data.encode(), sync=True)
        finally:
            file.close()
    await disk.sync_dir(directory)
    return f"{stem}.txt"


def members_only(disk: Disk, directory: str, group: str) -> bool:
    """Whether a group here was recovered, so that it listens to its own members and nobody else."""
    return disk.exists(posixpath.join(directory, f"{_PREFIX}{directory_name(group)}.json"))
