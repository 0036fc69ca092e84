"""One write of the Raft core, as calls on the log device, in the order that its promise needs.

This module exists so that "a log is replaced before what follows it, and compacted after what
precedes it" is written once. It waits for nothing.
"""

from __future__ import annotations

import asyncio

from mcpcore.node.storage.contract import LogDevice
from mcpcore.raft.outcome import Write


def store_write(device: LogDevice, group: str, write: Write) -> asyncio.Future[None]:
    """Hand a write to the device; the future resolves when all of it is durable.

    Raises:
        CoordinationError: the device refuses it.
    """
    _, hard_state, blocks, base, _ = write
    if base is None:
        return device.submit(group, hard_state, blocks)
    position, configuration, suffix_kept = base
    if suffix_kept:
        if hard_state is not None or blocks:
            device.submit(group, hard_state, blocks)
        return device.compact(group, position, configuration)
    if hard_state is not None:
        device.submit(group, hard_state, ())  # the term first: no log may be ahead of it
    replaced = device.replace_log(group, position, configuration)
    return device.submit(group, None, blocks) if blocks else replaced
