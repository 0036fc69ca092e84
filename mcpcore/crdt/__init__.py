"""Replicated data types that converge: counters, registers, sets, flags, maps, anti-entropy."""

from mcpcore.crdt.anti_entropy import AntiEntropy, Send
from mcpcore.crdt.budget import Budget
from mcpcore.crdt.causal import Causal, Entry, Path
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.codec import decode, encode
from mcpcore.crdt.context import CausalContext, Dot, replica_id
from mcpcore.crdt.counters import BoundedCounter, GCounter, PNCounter
from mcpcore.crdt.lattice import Lattice, covers, join
from mcpcore.crdt.limits import Limits
from mcpcore.crdt.maps import GMap, Map
from mcpcore.crdt.registers import (
    DWFlag,
    EWFlag,
    LWWRegister,
    MaxScalar,
    MinScalar,
    MVRegister,
    Write,
)
from mcpcore.crdt.resettable import Counter
from mcpcore.crdt.sets import AWSet, GSet, RWSet, TwoPSet
from mcpcore.crdt.stability import collect, stable_context
from mcpcore.crdt.values import Value

__all__ = [
    "AWSet",
    "AntiEntropy",
    "BoundedCounter",
    "Budget",
    "Causal",
    "CausalContext",
    "Cells",
    "Counter",
    "DWFlag",
    "Dot",
    "EWFlag",
    "Entry",
    "GCounter",
    "GMap",
    "GSet",
    "LWWRegister",
    "Lattice",
    "Limits",
    "MVRegister",
    "Map",
    "MaxScalar",
    "MinScalar",
    "PNCounter",
    "Path",
    "RWSet",
    "Send",
    "TwoPSet",
    "Value",
    "Write",
    "collect",
    "covers",
    "decode",
    "encode",
    "join",
    "replica_id",
    "stable_context",
]
