"""Raft as a pure step machine: messages and time in, effects out.

This package exists so that the protocol can be read beside the paper, one module per section, and
run unchanged in production, in a simulation and in a test. It never acts on the world; a driver
such as ``mcpcore.node`` does.
"""

from mcpcore.raft.core import Raft, Ready
from mcpcore.raft.invariants import FigureThree, SafetyViolation
from mcpcore.raft.log import RaftLog
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.state import ReadAnswer, Role, RoleChanged, Write
from mcpcore.raft.types import (
    Block,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogPosition,
)

__all__ = [
    "Block",
    "Configuration",
    "Entry",
    "EntryKind",
    "FigureThree",
    "HardState",
    "LogPosition",
    "Raft",
    "RaftLog",
    "RaftSettings",
    "ReadAnswer",
    "Ready",
    "Role",
    "RoleChanged",
    "SafetyViolation",
    "Write",
]
