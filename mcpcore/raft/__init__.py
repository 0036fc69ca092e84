"""Raft as a pure step machine: messages and time in, effects out.

This package exists so that the protocol can be read beside the paper, one module per section, and
run unchanged in production, in a simulation and in a test. It never acts on the world; a driver
such as ``mcpcore.node`` does.
"""

from mcpcore.raft.core import Raft, Ready
from mcpcore.raft.invariants import FigureThree, SafetyViolation
from mcpcore.raft.log import RaftLog
from mcpcore.raft.membership import (
    AddLearner,
    AddVoter,
    Change,
    Demote,
    Promote,
    Remove,
    RequireZones,
    Update,
    enter_joint,
    leave_joint,
    simple,
)
from mcpcore.raft.outcome import MembershipNoticed, ReadAnswer, Role, RoleChanged, Write
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import (
    Block,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogPosition,
    Member,
)

__all__ = [
    "AddLearner",
    "AddVoter",
    "Block",
    "Change",
    "Configuration",
    "Demote",
    "Entry",
    "EntryKind",
    "FigureThree",
    "HardState",
    "LogPosition",
    "Member",
    "MembershipNoticed",
    "Promote",
    "Raft",
    "RaftLog",
    "RaftSettings",
    "ReadAnswer",
    "Ready",
    "Remove",
    "RequireZones",
    "Role",
    "RoleChanged",
    "SafetyViolation",
    "Update",
    "Write",
    "enter_joint",
    "leave_joint",
    "simple",
]
