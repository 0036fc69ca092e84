"""The log device of a node: its contract, a write-ahead log on a disk, and one in memory."""

from mcpcore.node.storage.contract import (
    DeviceStats,
    Identity,
    LogDevice,
    RecoveredGroup,
    RecoveryReport,
    TornTail,
)
from mcpcore.node.storage.memory import MemoryLog, MemoryStore
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import records, verify

__all__ = [
    "DeviceStats",
    "Identity",
    "LogDevice",
    "MemoryLog",
    "MemoryStore",
    "RecoveredGroup",
    "RecoveryReport",
    "TornTail",
    "WriteAheadLog",
    "records",
    "verify",
]
