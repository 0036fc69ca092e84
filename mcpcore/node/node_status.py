"""A node's parts in plain values, as ``mcpctl status`` shows them.

This module exists so that what a node tells is written down beside it. It looks; it must never
change anything, nor fail: a status is wanted most when something is wrong.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from mcpcore.node.disk import Disk
from mcpcore.node.storage.contract import LogDevice
from mcpcore.node.storage.salvage import Salvage
from mcpcore.node.storage.salvage_report import in_words
from mcpcore.node.timekeeping import Timekeeper

logger = logging.getLogger("mcpcore.node.status")


def of_clock(timekeeper: Timekeeper) -> dict[str, Any]:
    """The node's clock: whether it may be relied upon, and what it knows of the others'."""
    health = timekeeper.health()
    return {
        "state": health.state.value,
        "may_lease": health.may_lease,
        "reasons": list(health.reasons),
        "view": [asdict(row) for row in timekeeper.clock.view()],
    }


def of_log(
    device: LogDevice, disk: Disk, data: str, salvage: Salvage | None, now_ns: int
) -> dict[str, Any]:
    """The node's log, and the disk below it."""
    pending = device.oldest_pending_since_ns
    return {
        "log_bytes": _log_bytes(disk, data),
        "log_damage": in_words(salvage) if salvage is not None else [],
        "log_bytes_written": device.stats.bytes_written,
        "last_sync_ms": device.stats.last_sync_ns / 1e6,
        "disk_waiting_s": 0.0 if pending is None else (now_ns - pending) / 1e9,
        "disk_full": device.no_space,
    }


def _log_bytes(disk: Disk, data: str) -> int | None:
    """What the log takes on the disk; None if the disk does not say."""
    total = 0
    try:
        for name in disk.list_dir(data):
            if name.endswith(".log"):
                file = disk.open(f"{data}/{name}")
                total += file.size()
                file.close()
    except OSError as error:
        logger.warning("%s: the log's size is not known: %s", data, error)
        return None
    return total
