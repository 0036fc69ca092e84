"""Workloads against nemeses, in the manner of Jepsen: break a cluster, then ask the judges.

    python jepsen-style/run.py register --nemesis partition --time 60
    python jepsen-style/run.py matrix --time 30
    python jepsen-style/run.py register append --nemesis kill pause --world processes

Every run is a scenario (docs/experiments.md): the simulated world takes seconds and repeats itself
exactly from its seed; the world of processes takes as long as it says. The exit status is 0 if
every promise held, 1 if one was broken, 2 for bad arguments, 4 if a judge could not tell.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcpcore.check import Budget, Verdict
from mcpcore.experiment.conclusion import Conclusion, conclude
from mcpcore.experiment.network import Isolation
from mcpcore.experiment.processes import run_processes
from mcpcore.experiment.run import Run
from mcpcore.experiment.scenario import (
    Clocks,
    Expectations,
    Groups,
    Nemesis,
    Region,
    Scenario,
    WorkloadSpec,
)
from mcpcore.experiment.simulated import run_simulated
from mcpcore.experiment.workloads import KINDS
from mcpcore.sim.delay import Delay, Link

NEMESES = {
    "none": (),
    "partition": ("partition", "isolate"),
    "one-way": ("one_way",),
    "bridge": ("bridge",),
    "ring": ("majority_ring",),
    "flapping": ("flapping",),
    "slow-net": ("slow_link", "lossy", "reset"),
    "kill": ("kill",),
    "crash": ("crash",),
    "pause": ("pause",),
    "clock": ("clock_step", "clock_drift", "clock_strobe"),
    "disk": ("disk_slow", "disk_stall"),
    "all": (
        "partition", "one_way", "isolate", "bridge", "flapping", "slow_link", "reset",
        "kill", "crash", "pause", "clock_step", "clock_drift", "disk_slow", "disk_stall",
    ),
}  # fmt: skip
WORDS = {Verdict.OK: "ok", Verdict.VIOLATED: "BROKEN", Verdict.UNKNOWN: "unknown"}
COLOURS = {Verdict.OK: "green", Verdict.VIOLATED: "red", Verdict.UNKNOWN: "yellow"}


def scenario(workload: str, nemesis: str, args: argparse.Namespace) -> Scenario:
    """One cell of the matrix."""
    kinds = NEMESES[nemesis]
    names = tuple(f"n{number}" for number in range(1, args.nodes + 1))
    link = Link(delay=Delay("lognormal", 5.0, 1.0, 0.8))
    return Scenario(
        name=f"{workload}-{nemesis}",
        about=f"{workload} under {nemesis}",
        duration_s=args.time,
        settle_s=60.0,
        regions=tuple(Region(name) for name in names),
        links={(a, b): link for a in names for b in names if a < b},
        groups=Groups(election_timeout_s=2.0, heartbeat_s=0.4),
        clocks=Clocks(offset_ms=50.0, drift_ppm=100.0),
        workloads=(WorkloadSpec(workload, clients=1, rate_per_s=args.rate),),
        nemesis=Nemesis(kinds, max(2, round(args.time / 10))) if kinds else None,
        expect=Expectations(converged_within_s=30.0, faults_take_effect=False),
    )


def run_cell(workload: str, nemesis: str, args: argparse.Namespace) -> tuple[Run, Conclusion]:
    """Run and judge one cell."""
    wanted = scenario(workload, nemesis, args)
    if args.world == "simulated":
        run = run_simulated(wanted, args.seed)
    else:
        with tempfile.TemporaryDirectory(prefix="jepsen-style-") as folder:
            run = asyncio.run(
                run_processes(wanted, Path(folder), args.seed, isolation=args.isolation)
            )
    budget = Budget(time_ns=60_000_000_000, monotonic_ns=time.monotonic_ns)
    return run, conclude(run, budget)


def told(run: Run, conclusion: Conclusion) -> list[str]:
    """What did not hold, and how to see it again."""
    lines = [
        f"  {promise.name}: {promise.found}"
        for promise in conclusion.promises
        if promise.verdict is not Verdict.OK
    ]
    return [f"{run.scenario.name}, {run.world}, seed {run.seed}:", *lines] if lines else []


def main() -> int:
    """Read the arguments, run the cells, print the table."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="jepsen-style/run.py", description=about)
    parser.add_argument(
        "workload", nargs="+", choices=[*KINDS, "matrix"], help="what clients do; matrix: all"
    )
    parser.add_argument(
        "--nemesis", nargs="+", choices=[*NEMESES], help="what goes wrong; default: all of them"
    )
    parser.add_argument("--world", choices=["simulated", "processes"], default="simulated")
    parser.add_argument(
        "--isolation", type=Isolation, choices=[*Isolation], help="of processes; default: the best"
    )
    parser.add_argument("--time", type=float, default=30.0, help="seconds that clients work")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="operations a second and client")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 5 <= args.time <= 86_400 or not 1 <= args.nodes <= 15 or not 0 < args.rate <= 1000:
        parser.error("5 to 86400 seconds, 1 to 15 nodes, and up to 1000 operations a second")
    workloads = list(KINDS) if "matrix" in args.workload else args.workload
    nemeses = args.nemesis or list(NEMESES)
    if args.isolation is not None and args.world != "processes":
        parser.error("--isolation: only processes are kept apart; add --world processes")

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("nemesis")
    for workload in workloads:
        table.add_column(workload)
    verdicts: list[Verdict] = []
    broken: list[str] = []
    impossible: dict[str, None] = {}
    for nemesis in nemeses:
        cells = []
        for workload in workloads:
            with console.status(f"{workload} under {nemesis}"):
                run, conclusion = run_cell(workload, nemesis, args)
            verdicts.append(conclusion.verdict)
            writes = conclusion.figures[workload].acknowledged
            word = f"{WORDS[conclusion.verdict]} {writes}"
            cells.append(Text(word, style=COLOURS[conclusion.verdict]))
            broken += told(run, conclusion)
            impossible.update(dict.fromkeys(run.impossible))
        table.add_row(nemesis, *cells)
    console.print(table)
    console.print(Text("a number: writes acknowledged", style="dim"))
    for line in impossible:
        console.print(Text(f"not possible here: {line}", style="yellow"))
    for line in broken:
        console.print(Text(line, style="red"))
    return {Verdict.OK: 0, Verdict.VIOLATED: 1, Verdict.UNKNOWN: 4}[Verdict.worst(verdicts)]


if __name__ == "__main__":
    sys.exit(main())
