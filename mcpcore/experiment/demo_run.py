"""The demo's run in the words of every other experiment, so that it can be kept and reported.

This module exists so that the demo leaves what `mcpctl experiment run` leaves: a scenario that
others can repeat, histories that `mcpctl check` reads, and a page. It translates what was measured;
it must never judge, and never start anything.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mcpcore import __version__
from mcpcore.experiment.convergence import convergence
from mcpcore.experiment.history import as_history
from mcpcore.experiment.links import LinkQuality
from mcpcore.experiment.operations import Operation, Replica
from mcpcore.experiment.process_cluster import GROUP
from mcpcore.experiment.record import SCENARIO
from mcpcore.experiment.run import FaultRecord, NodeSample, ReplicaEnd, Run
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.sim.schedule import Fault

_KIND: Final = "register"
"""The workload whose judge the demo's operations have: puts, compare-and-sets and reads of keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the demo saw; seconds since its clients began, but for ``operations``.

    Args:
        began_s: when the clients began, on the clock of ``operations``.
        seconds: how long clients worked. seed: of the clients' choices.
        clients_per_site: sessions. rate_per_s: operations, of all clients together.
        election_timeout_s, heartbeat_s: of the group.
        links: between two sites, both ways alike.
        sites: names of nodes and of the places of clients.
        operations: all that clients asked.
        kill, cut: which node, when it began, when it ended, and how we know; the killed node was
            started again at the end.
        samples: what nodes said of themselves.
        replicas: what they held in the end.
        ended_s: when clients began nothing new.
    """

    began_s: float
    seconds: float
    seed: int
    clients_per_site: int
    rate_per_s: float
    election_timeout_s: float
    heartbeat_s: float
    links: Mapping[tuple[str, str], LinkQuality]
    sites: tuple[str, ...]
    operations: Sequence[Operation]
    kill: tuple[str, float, float, str]
    cut: tuple[str, float, float, str]
    samples: Sequence[NodeSample]
    replicas: Sequence[Replica]
    ended_s: float


def scenario_toml(seen: Measured) -> str:
    """The scenario that this run was an instance of, for whoever wants to repeat it."""
    lines = [
        'name = "demo"',
        'about = "Three clouds: the leader is killed and comes back; then the leader is cut off."',
        f"duration_s = {seen.seconds:g}",
        "",
        *(f"[regions.{site}]" for site in seen.sites),
    ]
    for (a, b), quality in seen.links.items():
        if seen.sites.index(a) < seen.sites.index(b):
            lines += ["", f'[links."{a} - {b}"]', f"delay_ms = {quality.one_way_s * 1e3:g}"]
    lines += [
        "",
        "[groups]",
        f"election_timeout_s = {seen.election_timeout_s:g}",
        f"heartbeat_s = {seen.heartbeat_s:g}",
        "",
        f"[workloads.{_KIND}]",
        f"clients = {seen.clients_per_site}",
        f"rate_per_s = {seen.rate_per_s / seen.clients_per_site / len(seen.sites):g}",
    ]
    for kind, (_, began_s, ended_s, _) in (("kill", seen.kill), ("isolate", seen.cut)):
        lines += [
            "",
            "[[fault]]",
            f"at_s = {began_s:.1f}",
            f'kind = "{kind}"',
            'on = ["leader"]',
            f"for_s = {ended_s - began_s:.1f}",
        ]
    return "\n".join(lines) + "\n"


def as_run(seen: Measured, directory: Path) -> Run:
    """The run as a value.

    Whether clients had come back when the time was up is a matter of the demo's length, not a
    promise; so a run that ended before is said to have no convergence rather than a broken one.

    Args:
        directory: where the scenario is written, since scenarios are read from files.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SCENARIO
    path.write_text(scenario_toml(seen), encoding="utf-8")
    shifted = [
        replace(op, called_s=op.called_s - seen.began_s, returned_s=op.returned_s - seen.began_s)
        for op in seen.operations
    ]
    history = as_history(shifted)
    run = Run(
        scenario=load_scenario(path),
        world="processes",
        seed=seen.seed,
        histories={_KIND: history},
        lanes={_KIND: {op.lane: op.site for op in seen.operations}},
        faults=(_record("kill", seen.kill), _record("isolate", seen.cut)),
        samples=tuple(seen.samples),
        replicas=tuple(
            ReplicaEnd(each.node, GROUP, each.term, each.applied, each.digest)
            for each in seen.replicas
        ),
        healed_s=seen.cut[2],
        clients_ended_s=seen.ended_s,
        environment={
            "isolation": "loopback",
            "mcpcore": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            "cores": os.cpu_count(),
        },
    )
    together = convergence(run)
    if together is not None and together.total_s is None:
        return replace(run, healed_s=None)
    return run


def _record(kind: str, strike: tuple[str, float, float, str]) -> FaultRecord:
    node, began_s, ended_s, proof = strike
    fault = Fault(round(began_s, 3), kind, (node,), (), round(ended_s - began_s, 3))
    return FaultRecord(fault, began_s, ended_s, int(bool(proof)), proof)
