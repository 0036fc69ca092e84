"""`mcpctl experiment`: run a scenario in either world, keep it, report it, compare two.

This module exists so that an experiment is one command, and so that its exit status says whether
every promise was kept: 0 yes, 1 no, 2 bad input, 4 nobody can say. The work is done in
:mod:`mcpcore.experiment`; here things are shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mcpcore.check import Verdict
from mcpcore.ctl.executors import executor_at
from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.errors import InvalidInput

if TYPE_CHECKING:
    from mcpcore.experiment.conclusion import Conclusion
    from mcpcore.experiment.run import Run
    from mcpcore.experiment.scenario import Scenario
    from mcpcore.experiment.sweep import Row

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


class Isolation(StrEnum):
    """How real nodes are kept apart; see ``mcpcore.experiment.network``."""

    TUN = "tun"
    NETNS = "netns"
    LOOPBACK = "loopback"


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
    isolation: Annotated[
        Isolation | None,
        typer.Option(help="How processes are kept apart; default: the best possible here."),
    ] = None,
) -> None:
    """Run a scenario and keep everything about it in a folder.

    Example: mcpctl experiment run three-clouds-one-cut --seed 7
    """
    try:
        _run(scenario, world, seed, out, as_json=as_json, report=report, isolation=isolation)
    except InvalidInput as error:
        complain(one_line(error))
        raise typer.Exit(ExitCode.USAGE) from None


def _run(
    name: str,
    world: World,
    seed: int,
    out: Path | None,
    *,
    as_json: bool,
    report: bool,
    isolation: Isolation | None,
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
    if isolation is not None and world is not World.PROCESSES:
        raise InvalidInput(
            "only processes are kept apart", where="--isolation", remedy="Add --world processes"
        )
    done = _carry_out(loaded, world, seed, folder, isolation, quiet=as_json)
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


def _carry_out(
    scenario: Scenario,
    world: World,
    seed: int,
    folder: Path,
    isolation: Isolation | None,
    *,
    quiet: bool,
) -> Run:
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
        from mcpcore.experiment.network import Isolation as Level
        from mcpcore.experiment.processes import run_processes

        return asyncio.run(
            run_processes(
                scenario,
                folder / "nodes",
                seed,
                progress=tell,
                isolation=None if isolation is None else Level(isolation.value),
            )
        )


def _show(run: Run, conclusion: Conclusion) -> None:
    colour = _COLOURS[conclusion.verdict]
    head = Text()
    head.append(_WORDS[conclusion.verdict].upper(), style=f"bold {colour}")
    level = run.environment.get("isolation")
    world = f"{run.world} ({level})" if level else run.world
    head.append(f"  {run.scenario.name}, {world}, seed {run.seed}")
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


@app.command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(metavar="BEFORE", help="The folder of one run.")],
    second: Annotated[Path, typer.Argument(metavar="AFTER", help="The folder of another.")],
) -> None:
    """Lay two kept runs side by side.

    Example: mcpctl experiment compare experiments/before experiments/after
    """
    from mcpcore.experiment.compare import compare

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", first.name, second.name, "change"):
        table.add_column(title, overflow="fold")
    for row in compare(_results(first), _results(second)):
        table.add_row(*row)
    console.print(table)


def _results(folder: Path) -> Any:
    path = folder / "results.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        complain(f"{path}: {why}. Name the folder that `mcpctl experiment run` wrote")
        raise typer.Exit(ExitCode.USAGE) from None


@app.command("sweep")
def sweep_command(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario's name, or a .toml file.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Values to try, as PLACE=A,B,C; for example links.*.loss=0,0.01,0.05"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = os.cpu_count() or 1,
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler to run on.")] = "",
    database: Annotated[Path, typer.Option(help="The results file.")] = Path("sweep.db"),
    page: Annotated[Path | None, typer.Option("--report", help="Write a page about it.")] = None,
) -> None:
    """Run many seeds of a scenario, simulated; Ctrl-C stops, the same command goes on.

    Example: mcpctl experiment sweep flapping --seeds 50 --vary groups.election_timeout_s=1,3,5
    """
    try:
        rows = _sweep(scenario, range(first, first + seeds), vary or [], jobs, scheduler, database)
    except InvalidInput as error:
        complain(one_line(error))
        raise typer.Exit(ExitCode.USAGE) from None
    _show_sweep(rows)
    if page is not None:
        _write_sweep_page(scenario, rows, vary or [], seeds, first, page)
    if any(row.verdict != "ok" for row in rows):
        raise typer.Exit(ExitCode.NO)


def _sweep(
    name: str, seeds: range, vary: list[str], jobs: int, scheduler: str, database: Path
) -> list[Row]:
    from mcpcore.experiment.scenario_file import find_scenario
    from mcpcore.experiment.sweep import combinations, sweep_scenario

    varied = dict(_varied(text) for text in vary)
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with executor_at(scheduler) as executor, shown:
        bar = shown.add_task(name, total=len(seeds) * len(combinations(varied)))
        return sweep_scenario(
            find_scenario(name),
            seeds,
            varied,
            database=database,
            jobs=jobs,
            executor=executor,
            on_row=lambda _: shown.advance(bar),
        )


def _write_sweep_page(
    name: str, rows: list[Row], vary: list[str], seeds: int, first: int, page: Path
) -> None:
    try:
        from mcpcore.experiment.report.sweep_page import render_sweep
    except ModuleNotFoundError as error:
        complain(f"no report: {error.name} is missing; install mcpcore[report]")
        raise typer.Exit(ExitCode.USAGE) from None
    options = "".join(f" --vary '{text}'" for text in vary)
    command = f"mcpctl experiment sweep {name} --seeds {seeds} --first {first}{options}"
    try:
        page.write_text(render_sweep(Path(name).stem, rows, command), encoding="utf-8")
    except OSError as error:
        complain(f"{page}: {error.strerror}")
        raise typer.Exit(ExitCode.USAGE) from None
    console.print(f"report: {page}", soft_wrap=True)


def _varied(text: str) -> tuple[str, list[object]]:
    place, equals, values = text.partition("=")
    if not equals or not values:
        raise InvalidInput(f"{text!r} is no PLACE=A,B,C", where="--vary")
    found: list[object] = []
    for value in values.split(","):
        try:
            found.append(json.loads(value))
        except ValueError:
            found.append(value)
    return place.strip(), found


def _show_sweep(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("settings", "runs", "broken", "converged p50", "p99", "max", "of the bound"):
        table.add_column(title, overflow="fold", justify="left" if title == "settings" else "right")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.settings, []).append(row)
    for settings, found in groups.items():
        took_s = sorted(row.converged_s for row in found if row.converged_s is not None)
        bound_s = found[0].bound_s
        broken = sum(row.verdict != "ok" for row in found)

        def told(share: float, took_s: list[float] = took_s) -> str:
            place = min(int(share * len(took_s)), len(took_s) - 1)
            return f"{took_s[place]:.2f} s" if took_s else "-"

        table.add_row(
            ", ".join(f"{k}={v}" for k, v in json.loads(settings).items()) or "as written",
            str(len(found)),
            Text(str(broken), style="red" if broken else "green"),
            told(0.5),
            told(0.99),
            told(1.0),
            f"{took_s[-1] / bound_s:.0%}" if took_s and bound_s else "-",
        )
    console.print(table)
    for row in [row for row in rows if row.verdict != "ok"][:10]:
        console.print(Text(f"seed {row.seed} {row.settings}: {row.broken}", style="red"))
