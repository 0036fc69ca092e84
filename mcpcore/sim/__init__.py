"""A deterministic simulation tester for any asyncio program.

This package exists so that a program which talks over a network can be run, unmodified, in a world
where time is virtual, the network and the disks are broken on purpose, clocks lie, hosts crash, and
the same seed gives the same run, event for event. It knows nothing of Raft. From the rest of the
library it imports ``mcpcore.errors`` and ``mcpcore.clock`` only; pytest and Hypothesis are needed
only by the modules named after them.
"""

from __future__ import annotations

from mcpcore.sim.buggify import maybe, sometimes
from mcpcore.sim.delay import Delay, Link
from mcpcore.sim.host import Host
from mcpcore.sim.network import NetworkLimits
from mcpcore.sim.oracles import Convergence
from mcpcore.sim.replay import Outcome, Token, check_deterministic, run_once, shrink
from mcpcore.sim.schedule import KINDS, Fault, Schedule, random_schedule
from mcpcore.sim.trace import Event, Trace, first_difference
from mcpcore.sim.world import World, run

__all__ = [
    "KINDS",
    "Convergence",
    "Delay",
    "Event",
    "Fault",
    "Host",
    "Link",
    "NetworkLimits",
    "Outcome",
    "Schedule",
    "Token",
    "Trace",
    "World",
    "check_deterministic",
    "first_difference",
    "maybe",
    "random_schedule",
    "run",
    "run_once",
    "shrink",
    "sometimes",
]
