"""What happened in one run of a scenario, whichever world it ran in.

This module exists so that judging, reporting and comparing need a value and nothing else: a run can
be written to files, sent to somebody and judged again. Plain data; it decides nothing.

Times are seconds since the clients began, on a clock that the whole run shares; histories carry the
same in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcpcore.check import FaultWindow, History
from mcpcore.experiment.messages import MessageSample, MessageWindow
from mcpcore.experiment.scenario import Scenario
from mcpcore.sim.schedule import Fault


class NodeSample(NamedTuple):
    """One node's account of itself at one moment, about the first group and its clock.

    Args:
        at_s: when. node: who.
        role: ``leader``, ``follower``, ``candidate``, ``pre-candidate``, ``failed``.
        verdict: what it thinks of the group's state, if it has an opinion; else empty.
        offset_ms: its clock against the cluster's, as it estimates it; None if it cannot say.
        uncertainty_ms: how far that may be wrong; None if it cannot say.
    """

    at_s: float
    node: str
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    last_index: int
    verdict: str = ""
    offset_ms: float | None = None
    uncertainty_ms: float | None = None


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """A fault that was carried out.

    Args:
        fault: with the names of nodes it struck.
        began_s: when. ended_s: when it was taken back; None if it is over as soon as it happened.
        effects: how many things it touched; 0: it did nothing.
        proof: what was touched, in words.
    """

    fault: Fault
    began_s: float
    ended_s: float | None
    effects: int
    proof: str = ""

    @property
    def name(self) -> str:
        """Its kind and whom it struck."""
        struck = f" {', '.join(self.fault.on)}" if self.fault.on else ""
        return f"{self.fault.kind.replace('_', ' ')}{struck}"

    def window(self) -> FaultWindow:
        """The same for a history."""
        ended_ns = round((self.ended_s if self.ended_s is not None else self.began_s) * 1e9)
        return FaultWindow(self.name, round(self.began_s * 1e9), ended_ns, str(self.fault))


class StepRecord(NamedTuple):
    """A step that the operator was told to take.

    Args:
        name: what was done to whom. began_s: when.
        ended_s: when it stood in the configuration, or the node was back; None: never.
        told: what was refused on the way, in words; empty if nothing.
    """

    name: str
    began_s: float
    ended_s: float | None
    told: str = ""


class ReplicaEnd(NamedTuple):
    """What a node held of a group in the end."""

    node: str
    group: str
    term: int
    applied: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run.

    Args:
        scenario: what was asked for.
        world: ``simulated`` or ``processes``.
        seed: of everything random that is ours.
        histories: what the clients of each workload saw.
        lanes: the region of each lane, by workload and lane.
        faults: what was done to the cluster, in order.
        samples: the nodes' accounts of themselves, in order of time.
        replicas: what every node held of every group in the end.
        healed_s: when the last fault had ended; None without faults.
        clients_ended_s: when clients began nothing new.
        failure: why the run broke off; empty if it did not. A broken safety property is one.
        steps: what the operator did.
        messages: single messages between nodes, in ``windows`` of time; empty if nobody looked.
        members: who was a member of the first group in the end; empty: every node.
        impossible: what this world could not do, in words.
        digest: a number for everything that happened, where the world has one.
        environment: versions and machine.
    """

    scenario: Scenario
    world: str
    seed: int
    histories: Mapping[str, History]
    lanes: Mapping[str, Mapping[str, str]]
    faults: tuple[FaultRecord, ...]
    samples: tuple[NodeSample, ...]
    replicas: tuple[ReplicaEnd, ...]
    healed_s: float | None
    clients_ended_s: float
    failure: str = ""
    steps: tuple[StepRecord, ...] = ()
    members: tuple[str, ...] = ()
    messages: tuple[MessageSample, ...] = ()
    windows: tuple[MessageWindow, ...] = ()
    impossible: tuple[str, ...] = ()
    digest: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final_nodes(self) -> tuple[str, ...]:
        """The nodes that have to agree in the end."""
        return self.members or self.scenario.nodes
