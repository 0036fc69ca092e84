"""`mcpctl experiment`: run a scenario in either world, keep it, report it, compare two.

This module exists so that an experiment is one command, and so that its exit status says whether
every promise was kept: 0 yes, 1 no, 2 bad input, 4 nobody can say. The work is done in
:mod:`mcpcore.experiment`; here things are shown.
"""

from __future__ import annotations

import asyncio
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mcpcore.check import Verdict
from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.errors import InvalidInput

if TYPE_CHECKING:
    from mcpcore.experiment.conclusion import Conclusion
    from mcpcore.experiment.run import Run
    from mcpcore.experiment.scenario import Scenario

app = typer.Typer(
    name="experiment", help="Run scenarios, report them, compare them.", no_args_is_help=True
)
console = Console(highlight=False)

_EXITS = {
    Verdict.OK: ExitCode.OK,
    Verdict.VIOLATED: ExitCode.NO,
    Verdict.UNKNOWN: ExitCode.UNKNOWN,
}
_COLOURS = {Verdict.OK: "green", Verdict.VIOLATED: "red", Verdict.UNKNOWN: "yellow"}
_WORDS = {Verdict.OK: "held", Verdict.VIOLATED: "broken", Verdict.UNKNOWN: "unknown"}


class World(StrEnum):
    """Where a scenario runs."""

    SIMULATED = "simulated"
    PROCESSES = "processes"


Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


@app.command("list")
def list_command() -> None:
    """Show the scenarios that come with the library.

    Example: mcpctl experiment list
    """
    from mcpcore.experiment.scenario_file import load_scenario, shipped

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("scenario", "nodes", "groups", "seconds", "what it shows"):
        table.add_column(title, overflow="fold")
    for name, path in shipped().items():
        scenario = load_scenario(path)
        table.add_row(
            name,
            str(len(scenario.nodes)),
            str(scenario.groups.count),
            f"{scenario.duration_s:g}",
            scenario.about,
        )
    console.print(table)


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario's name, or a .toml file.")],
    world: Annotated[World, typer.Option(help="Where it runs.")] = World.SIMULATED,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; default: experiments/NAME-WORLD-SEED.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html as well.")] = True,
) -> None:
    """Run a scenario and keep everything about it in a folder.

    Example: mcpctl experiment run three-clouds-one-cut --seed 7
    """
    try:
        _run(scenario, world, seed, out, as_json=as_json, report=report)
    except InvalidInput as error:
        complain(one_line(error))
        raise typer.Exit(ExitCode.USAGE) from None


def _run(
    name: str, world: World, seed: int, out: Path | None, *, as_json: bool, report: bool
) -> None:
    from mcpcore.experiment.conclusion import conclude
    from mcpcore.experiment.record import results, save_run
    from mcpcore.experiment.scenario_file import find_scenario, load_scenario

    path = find_scenario(name)
    loaded = load_scenario(path)
    folder = out or Path("experiments") / f"{loaded.name}-{world.value}-{seed}"
    if folder.exists() and any(folder.iterdir()) and not (folder / "run.json").exists():
        raise InvalidInput(
            "is not empty, and no run's folder", where=str(folder), remedy="Name another with --out"
        )
    done = _carry_out(loaded, world, seed, folder, quiet=as_json)
    conclusion = conclude(done, _budget())
    save_run(done, conclusion, path.read_text(encoding="utf-8"), folder)
    page = _write_report(folder) if report else None
    if as_json:
        typer.echo(json.dumps(results(done, conclusion), indent=1, ensure_ascii=False))
    else:
        _show(done, conclusion)
        console.print(Text(f"kept in {folder}", style="dim"))
        if page is not None:
            console.print(Text(f"report:  {page}", style="dim"))
    raise typer.Exit(_EXITS[conclusion.verdict])


def _budget() -> Any:
    from mcpcore.check import Budget

    return Budget(time_ns=60_000_000_000, monotonic_ns=time.monotonic_ns)


def _carry_out(scenario: Scenario, world: World, seed: int, folder: Path, *, quiet: bool) -> Run:
    """Run it with a bar that shows how far it is."""
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        console=console,
        transient=True,
        disable=quiet,
    )
    with shown:
        bar = shown.add_task(f"{scenario.name}, {world.value}", total=scenario.duration_s)

        def tell(at_s: float) -> None:
            shown.update(bar, completed=min(max(at_s, 0.0), scenario.duration_s))

        if world is World.SIMULATED:
            from mcpcore.experiment.simulated import run_simulated

            return run_simulated(scenario, seed, progress=tell)
        from mcpcore.experiment.processes import run_processes

        return asyncio.run(run_processes(scenario, folder / "nodes", seed, progress=tell))


def _show(run: Run, conclusion: Conclusion) -> None:
    colour = _COLOURS[conclusion.verdict]
    head = Text()
    head.append(_WORDS[conclusion.verdict].upper(), style=f"bold {colour}")
    head.append(f"  {run.scenario.name}, {run.world}, seed {run.seed}")
    console.print(head)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("promise", "", "found", "wanted"):
        table.add_column(title, overflow="fold")
    for promise in conclusion.promises:
        table.add_row(
            promise.name,
            Text(_WORDS[promise.verdict], style=_COLOURS[promise.verdict]),
            promise.found,
            promise.wanted,
        )
    console.print(table)
    if run.faults:
        console.print(Text("faults", style="bold"))
    for record in run.faults:
        ended = f" to {record.ended_s:.1f}" if record.ended_s is not None else ""
        effects = f"{record.effects} effect{'' if record.effects == 1 else 's'}"
        console.print(Text(f"  {record.began_s:.1f}{ended} s  {record.name}: {effects}"))
    for text in run.impossible:
        console.print(Text(f"not possible in this world: {text}", style="yellow"))
    for kind, found in conclusion.figures.items():
        if found.p50_ms is not None and found.p99_ms is not None:
            console.print(
                f"{kind}: {found.acknowledged} writes acknowledged, {found.reads} reads, "
                f"p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms, "
                f"{found.unknown} unknown"
            )


def _write_report(folder: Path) -> Path | None:
    try:
        from mcpcore.experiment.report import write_report
    except ModuleNotFoundError as error:
        complain(f"no report: {error.name} is missing; install mcpcore[report]")
        return None
    return write_report(folder)


@app.command()
def report(folder: Folder) -> None:
    """Judge a kept run anew and write its report.html.

    Example: mcpctl experiment report experiments/three-clouds-one-cut-simulated-7
    """
    try:
        page = _write_report(folder)
    except InvalidInput as error:
        complain(one_line(error))
        raise typer.Exit(ExitCode.USAGE) from None
    if page is None:
        raise typer.Exit(ExitCode.USAGE)
    console.print(f"report: {page}", soft_wrap=True)
