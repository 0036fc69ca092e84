"""Do the simulator and real processes under real cuts tell the same story?

python -m tests.experiment.two_worlds --schedules 20 [--first 0] [--isolation netns]

Each schedule is a scenario with two faults, aimed by role (`leader`, `followers`), since who wins
an election is chance in either world. It runs in both, and what is compared has no names and no
times: for each phase (before, during and after each fault) whether there is a leader at its end and
whether it is the one of the phase before; and for the nodes that were struck and for the others,
which verdicts of the split detector followed upon each other. Exit status 1 if any differs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from mcpcore.experiment.network import Isolation
from mcpcore.experiment.processes import run_processes
from mcpcore.experiment.run import FaultRecord, NodeSample, Run
from mcpcore.experiment.scenario import (
    FOLLOWERS,
    LEADER,
    Expectations,
    Groups,
    Region,
    Scenario,
    WorkloadSpec,
)
from mcpcore.experiment.simulated import run_simulated
from mcpcore.sim.delay import Delay, Link
from mcpcore.sim.schedule import Fault, Schedule

NODES = ("a", "b", "c")
ELECTION_TIMEOUT_S = 1.5
FAULT_S, PAUSE_S, LEAD_IN_S = 9.0, 9.0, 2.0
RESTART_S = 25.0
"""The pause after a kill: a simulated process starts at once, a real one takes seconds, and many on
a busy machine."""

MOVES: tuple[tuple[str, str, str], ...] = (
    ("partition", LEADER, FOLLOWERS),
    ("isolate", LEADER, ""),
    ("isolate", FOLLOWERS, ""),
    ("one_way", LEADER, FOLLOWERS),
    ("one_way", FOLLOWERS, LEADER),
    ("kill", LEADER, ""),
    ("kill", FOLLOWERS, ""),
    ("pause", LEADER, ""),
    ("pause", FOLLOWERS, ""),
)
"""Kind, on, to."""

PASSING = frozenset(("suspect", "rejoining", ""))
"""Verdicts that are over in a moment: whether a sample meets one is a matter of timing."""
LASTING_S = 2.0
"""A bad verdict that is over sooner is left out for the same reason: an election that takes a
little longer on a busy machine makes everybody read-only for as long."""


def scenario(number: int) -> Scenario:
    """One schedule."""
    draw = random.Random(f"two worlds {number}")
    faults = []
    at_s = LEAD_IN_S
    for _ in range(2):
        kind, on, to = draw.choice(MOVES)
        faults.append(Fault(at_s, kind, (on,), (to,) if to else (), for_s=FAULT_S))
        at_s += FAULT_S + (RESTART_S if kind == "kill" else PAUSE_S)
    link = Link(delay=Delay("uniform", 8.0, 2.0))
    return Scenario(
        name=f"two-worlds-{number}",
        duration_s=at_s,
        settle_s=30.0,
        regions=tuple(map(Region, NODES)),
        links={(a, b): link for a in NODES for b in NODES if a < b},
        groups=Groups(election_timeout_s=ELECTION_TIMEOUT_S, heartbeat_s=0.3),
        workloads=(WorkloadSpec("register", clients=1, rate_per_s=15.0),),
        faults=Schedule(tuple(faults)),
        expect=Expectations(converged_within_s=30.0),
    )


@dataclass(frozen=True)
class Story:
    """What a run comes down to."""

    leaders: tuple[str, ...]
    """At the end of each phase: ``none``; ``same`` or ``other`` than at the end of the one before;
    ``elected`` if there was none then."""
    struck: tuple[tuple[str, ...], ...]
    """For each fault, the verdicts of the nodes it struck; alike ones once."""
    others: tuple[tuple[str, ...], ...]
    """For each fault, those of the other nodes."""

    def __str__(self) -> str:
        verdicts = "; ".join(
            f"struck {_told(struck)}, others {_told(others)}"
            for struck, others in zip(self.struck, self.others, strict=True)
        )
        return f"leaders {' '.join(self.leaders)}; {verdicts}"


def story(run: Run) -> Story:
    """Read it from the nodes' accounts of themselves."""
    assert not run.failure, run.failure
    faults = run.faults
    ends = [bound for each in faults for bound in (each.began_s, _ended(each))]
    ends.append(max(sample.at_s for sample in run.samples))
    found = [_leader(run.samples, end_s) for end_s in ends]
    leaders = []
    first = _leader(run.samples, faults[0].began_s)
    for before, now in pairwise([first, *found[1:]]):
        if not before or not now:  # who wins when nobody led is chance
            leaders.append("elected" if now else "none")
        else:
            leaders.append("same" if now == before else "other")
    spans = [
        (each.began_s, end_s)
        for each, end_s in zip(faults, [*(f.began_s for f in faults[1:]), ends[-1]], strict=True)
    ]
    struck, others = [], []
    for fault, span in zip(faults, spans, strict=True):
        on = fault.fault.on
        struck.append(_verdicts(run.samples, on, span))
        others.append(_verdicts(run.samples, [n for n in NODES if n not in on], span))
    return Story(tuple(leaders), tuple(struck), tuple(others))


def _ended(fault: FaultRecord) -> float:
    assert fault.ended_s is not None
    return fault.ended_s


def _leader(samples: Sequence[NodeSample], at_s: float) -> str:
    """Whom a majority, by their latest words of the last second, took for the leader."""
    latest = {s.node: s for s in samples if at_s - 1.0 <= s.at_s <= at_s}
    votes = [(s.term, s.leader) for s in latest.values() if s.leader]
    for vote in set(votes):
        if votes.count(vote) > len(NODES) // 2:
            return vote[1]
    return ""


def _verdicts(
    samples: Sequence[NodeSample], nodes: Sequence[str], span: tuple[float, float]
) -> tuple[str, ...]:
    """The lasting verdicts that followed upon each other, of every node; alike sequences once."""
    told = set()
    for node in nodes:
        seen = [
            (s.at_s, s.verdict)
            for s in samples
            if s.node == node and span[0] <= s.at_s < span[1] and s.verdict not in PASSING
        ]
        spells = [(word, [at for at, _ in spell]) for word, spell in groupby(seen, lambda x: x[1])]
        lasting = [w for w, at in spells if w == "healthy" or at[-1] - at[0] >= LASTING_S]
        told.add(" > ".join(word for word, _ in groupby(lasting)) or "silent")
    return tuple(sorted(told))


def _told(verdicts: tuple[str, ...]) -> str:
    return " | ".join(verdicts) or "nobody"


async def both(number: int, isolation: Isolation | None) -> tuple[Story, Story, str]:
    """One schedule in both worlds, and how the real one was isolated."""
    wanted = scenario(number)
    simulated = await asyncio.to_thread(run_simulated, wanted, number)
    with tempfile.TemporaryDirectory(prefix="two-worlds-") as folder:
        real = await run_processes(wanted, Path(folder), number, isolation=isolation)
    assert all(record.effects for record in real.faults), [str(r) for r in real.faults]
    return story(simulated), story(real), str(real.environment["isolation"])


def main() -> int:
    """Run the schedules and print what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--isolation", type=Isolation, choices=[*Isolation], default=None)
    args = parser.parse_args()
    logging.getLogger("mcpcore").setLevel(logging.CRITICAL)  # faults are loud
    differ = 0
    for number in range(args.first, args.first + args.schedules):
        faults = "; ".join(map(str, scenario(number).faults.faults))
        simulated, real, level = asyncio.run(both(number, args.isolation))
        alike = simulated == real
        differ += not alike
        print(f"{number:3}  {'alike ' if alike else 'DIFFER'}  {faults}  ({level})", flush=True)  # noqa: T201
        if alike:
            print(f"     {simulated}", flush=True)  # noqa: T201
        else:
            print(f"     simulated: {simulated}\n     real:      {real}", flush=True)  # noqa: T201
    print(f"{args.schedules - differ} of {args.schedules} schedules tell the same story")  # noqa: T201
    return min(differ, 1)


if __name__ == "__main__":
    sys.exit(main())
