"""What an experiment is: who takes part, what they do, what goes wrong, what is expected.

This module exists so that a scenario is one value that either world can run: the simulator, or real
processes. It says nothing about how; names are resolved and times are counted the same way in both.
It must never start anything, read a file or draw from a random source of its own.

Times in a scenario count from the moment at which the clients begin: a leader is known by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mcpcore.errors import InvalidInput
from mcpcore.node.transport.handshake import SPOKEN
from mcpcore.sim.delay import Link
from mcpcore.sim.schedule import KINDS, Fault, Schedule, random_schedule

LEADER: Final = "leader"
"""In a fault: whoever leads the first group when the fault begins."""

FOLLOWERS: Final = "followers"
"""In a fault: all nodes but that one."""

LOCAL: Final = Link()
"""Between hosts of one region, unless the scenario says otherwise."""


VOTER: Final = "voter"
LEARNER: Final = "learner"
SPARE: Final = "spare"
ROLES: Final = (VOTER, LEARNER, SPARE)
"""What a node is when the clients begin."""

STEPS: Final = {
    "add": "makes a node a voter, as a learner first",
    "add-learner": "makes a node a learner",
    "promote": "makes a learner a voter",
    "demote": "makes a voter a learner",
    "remove": "lets a node take no part any more",
    "replace": "lets `by` catch up, then exchanges the two in one change",
    "upgrade": "stops a node, and starts it with the newest protocol version",
}
"""What an operator may do."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place with nodes, and with clients of every workload.

    Args:
        name: its name; the node's name too, where it has one node.
        nodes: how many nodes; those of several are called ``name-1``, ``name-2``...
        role: of all its nodes, in every group: ``voter``, ``learner`` (receives the log and has no
            vote) or ``spare`` (runs, and waits to be added by a step).
    """

    name: str
    nodes: int = 1
    role: str = VOTER

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names of its nodes."""
        if self.nodes == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.nodes + 1))


@dataclass(frozen=True, slots=True)
class Clocks:
    """How wrong the nodes' clocks are; each node draws its own.

    Args:
        offset_ms: wall clocks begin at most this far from the truth, either way.
        drift_ppm: they run at most this much too fast or too slow.
    """

    offset_ms: float = 0.0
    drift_ppm: float = 0.0


@dataclass(frozen=True, slots=True)
class Groups:
    """The Raft groups; all nodes are members of each, as their regions' roles say.

    Args:
        count: how many. The first is ``main``, the others ``group-2``, ``group-3``...
        election_timeout_s: see ``RaftSettings``.
        heartbeat_s: see ``RaftSettings``.
        protocol: the newest protocol version that nodes speak until a step upgrades them.
    """

    count: int = 1
    election_timeout_s: float = 5.0
    heartbeat_s: float = 1.0
    protocol: int = SPOKEN.newest

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups."""
        return ("main", *(f"group-{number}" for number in range(2, self.count + 1)))


@dataclass(frozen=True, slots=True)
class Step:
    """Something that an operator does, in every group, while clients work.

    Steps are carried out in order: one that is late holds up the next.

    Args:
        at_s: when it begins. do: one of ``STEPS``.
        node: a node, or ``leader``. by: the new node, for ``replace``.

    Raises:
        InvalidInput: no such step, or ``by`` where it has no meaning.
    """

    at_s: float
    do: str
    node: str
    by: str = ""

    def __post_init__(self) -> None:
        if self.do not in STEPS:
            raise InvalidInput(
                f"no step is called {self.do!r}", where="do", remedy=f"Known: {', '.join(STEPS)}"
            )
        if bool(self.by) is not (self.do == "replace"):
            raise InvalidInput(
                "`by` names the new node of a `replace`, and belongs to nothing else", where="by"
            )

    def __str__(self) -> str:
        return f"{self.do} {self.node}" + (f" by {self.by}" if self.by else "")


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What some clients do, again and again.

    Args:
        kind: one of ``mcpcore.experiment.workloads.KINDS``.
        clients: in every region.
        rate_per_s: operations each client begins, while nothing stands in its way.
        keys: how many objects (registers, lists, accounts, queues) there are.
    """

    kind: str
    clients: int = 1
    rate_per_s: float = 10.0
    keys: int = 4


@dataclass(frozen=True, slots=True)
class Nemesis:
    """Faults drawn by seed, in addition to those that are written down.

    Args:
        kinds: to draw from (``mcpcore.sim.schedule.KINDS``).
        count: how many faults at most.
    """

    kinds: tuple[str, ...]
    count: int = 6


@dataclass(frozen=True, slots=True)
class Expectations:
    """What must hold in the end, beside what every workload's judge says.

    Args:
        converged_within_s: from the end of the last fault until all is well again (one leader that
            all follow, all logs caught up, every client served); None: not demanded.
        silence_at_most_s: the longest time without any acknowledged write; None: not demanded.
        acknowledged_at_least: writes; a run in which nothing happens proves nothing.
        faults_take_effect: every fault touched something.
        leaders_at_most: how often leadership may begin, from the first client's start; None: any.
    """

    converged_within_s: float | None = None
    silence_at_most_s: float | None = None
    acknowledged_at_least: int = 1
    faults_take_effect: bool = True
    leaders_at_most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An experiment as a value.

    Args:
        name: short, as in a file name.
        about: one or two sentences for whoever reads the report.
        duration_s: how long clients work, faults included; all faults end then.
        settle_s: how long convergence is waited for after that.
        regions: where nodes and clients are.
        links: between two regions, both ways alike; ``LOCAL`` where nothing is said.
        local: within a region.
        groups: the Raft groups.
        clocks: how wrong they are.
        workloads: what clients do.
        faults: what goes wrong, and when. Names are nodes, regions, ``leader`` or ``followers``.
        steps: what an operator does, and when.
        nemesis: faults drawn by seed; None: no more than those written down.
        expect: what must hold.

    Raises:
        InvalidInput: something contradicts something else.
    """

    name: str
    about: str = ""
    duration_s: float = 60.0
    settle_s: float = 60.0
    regions: tuple[Region, ...]
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    local: Link = LOCAL
    groups: Groups = field(default_factory=Groups)
    clocks: Clocks = field(default_factory=Clocks)
    workloads: tuple[WorkloadSpec, ...] = ()
    faults: Schedule = field(default_factory=Schedule)
    steps: tuple[Step, ...] = ()
    nemesis: Nemesis | None = None
    expect: Expectations = field(default_factory=Expectations)

    def __post_init__(self) -> None:
        nodes = self.nodes
        if len(set(nodes)) != len(nodes):
            twice = sorted({name for name in nodes if nodes.count(name) > 1})
            raise InvalidInput(f"two nodes are called {', '.join(twice)}", where="regions")
        for number, fault in enumerate(self.faults.faults):
            where = f"fault[{number}] ({fault.kind})"
            for name in (*fault.on, *fault.to):
                self._check_name(name, where)
            if fault.at_s >= self.duration_s:
                raise InvalidInput(
                    f"begins at {fault.at_s:g} s, and the clients end at {self.duration_s:g} s",
                    where=where,
                    remedy="Let it begin earlier, or make duration_s longer",
                )

        if not self.voters:
            raise InvalidInput("no node votes", where="regions", remedy='Give one role = "voter"')
        for number, step in enumerate(self.steps):
            where = f"step[{number}] ({step.do})"
            for name in filter(None, (step.node, step.by)):
                if name not in (*nodes, LEADER):
                    raise InvalidInput(
                        f"no node is called {name!r}",
                        where=where,
                        remedy=f"Known: {', '.join((*nodes, LEADER))}",
                    )
            if step.at_s >= self.duration_s:
                raise InvalidInput(
                    f"begins at {step.at_s:g} s, and the clients end at {self.duration_s:g} s",
                    where=where,
                    remedy="Let it begin earlier, or make duration_s longer",
                )

    def _check_name(self, name: str, where: str) -> None:
        regions = [region.name for region in self.regions]
        known = [*dict.fromkeys([*self.nodes, *regions]), LEADER, FOLLOWERS]
        if name not in known:
            raise InvalidInput(
                f"nothing is called {name!r}", where=where, remedy=f"Known: {', '.join(known)}"
            )

    # --- names -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes, region by region."""
        return tuple(name for region in self.regions for name in region.node_names)

    @property
    def voters(self) -> tuple[str, ...]:
        """The nodes that found the groups."""
        return self._with_role(VOTER)

    @property
    def beyond_processes(self) -> tuple[str, ...]:
        """What only the simulated world can do for now, besides some faults, in words."""
        roles = (f"{r.name} as {r.role}: its nodes vote" for r in self.regions if r.role != VOTER)
        return (*roles, *(f"step: {step}" for step in self.steps))

    @property
    def learners(self) -> tuple[str, ...]:
        """The nodes that are learners when clients begin."""
        return self._with_role(LEARNER)

    def _with_role(self, role: str) -> tuple[str, ...]:
        return tuple(
            name for region in self.regions if region.role == role for name in region.node_names
        )

    def region_of(self, node: str) -> str:
        """The region of a node."""
        return next(region.name for region in self.regions if node in region.node_names)

    def link(self, a: str, b: str) -> Link:
        """What the link between two regions is like."""
        if a == b:
            return self.local
        return self.links.get((a, b)) or self.links.get((b, a)) or LOCAL

    @property
    def client_timeout_s(self) -> float:
        """How long a client goes on with one operation: a few elections may pass meanwhile."""
        return max(6.0, 3 * self.groups.election_timeout_s)

    # --- faults ----------------------------------------------------------------------------------

    def schedule(self, seed: int) -> Schedule:
        """All faults of a run: those written down, and those that the nemesis draws.

        Each ends by the end of the clients' time, so that convergence has a beginning.
        """
        faults = list(self.faults.faults)
        if self.nemesis is not None:
            drawn = random_schedule(
                seed,
                self.nodes,
                duration_s=self.duration_s * 0.8,
                count=self.nemesis.count,
                kinds=self.nemesis.kinds,
            )
            faults += drawn.faults
        return Schedule(tuple(self._bounded(fault) for fault in faults))

    def _bounded(self, fault: Fault) -> Fault:
        left_s = self.duration_s - fault.at_s
        if not KINDS[fault.kind].lasts or 0 < fault.for_s <= left_s:
            return fault
        return replace(fault, for_s=left_s)

    def resolve(self, fault: Fault, leader: str) -> Fault:
        """The same fault with nodes for names.

        Args:
            leader: who leads now; empty if nobody does: then ``leader`` means the first node.
        """
        on = self._nodes_called(fault.on, leader)
        to = self._nodes_called(fault.to, leader)
        to = tuple(name for name in to if name not in on)
        if not to and on and fault.kind in _TO_OTHERS:
            # Between nodes only, as at a peer port: clients beside a node still reach it.
            to = tuple(name for name in self.nodes if name not in on)
        return replace(fault, on=on, to=to)

    def _nodes_called(self, names: Iterable[str], leader: str) -> tuple[str, ...]:
        chosen = leader or self.voters[0]
        found: dict[str, None] = {}
        for name in names:
            if name == LEADER:
                found[chosen] = None
            elif name == FOLLOWERS:
                found.update(dict.fromkeys(node for node in self.nodes if node != chosen))
            elif name in self.nodes:
                found[name] = None
            else:
                region = next(region for region in self.regions if region.name == name)
                found.update(dict.fromkeys(region.node_names))
        return tuple(found)


_TO_OTHERS: Final = frozenset(
    ("partition", "flapping", "slow_link", "lossy", "bursty", "narrow", "reset")
)
