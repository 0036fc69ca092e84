"""``mcpctl sim``: replay a world, sweep seeds, look at results.

This module exists so that what the simulator can do from Python can be done from a shell. It prints
and decides exit codes (0: promises kept, 1: broken, 2: bad input) and does nothing else; the work
is done in :mod:`mcpcore.sim`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mcpcore.ctl.executors import executor_at
from mcpcore.errors import InvalidInput
from mcpcore.sim.replay import Outcome, Token, run_once, shrink
from mcpcore.sim.schedule import KINDS
from mcpcore.sim.spacetime import to_shiviz
from mcpcore.sim.sweep import Result, Summary, load, run_apart, sweep

app = typer.Typer(
    name="sim", help="Simulated worlds: replay, sweep, results.", no_args_is_help=True
)
console = Console(highlight=False, soft_wrap=True)

_BROKEN = 1
_BAD_INPUT = 2


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(_BAD_INPUT) from None


def _print_outcome(outcome: Outcome) -> None:
    console.print(
        f"{outcome.token.scenario}: seed {outcome.token.seed}, {outcome.virtual_s:.6f} s of "
        f"virtual time, {outcome.events} events, digest {outcome.digest}",
        markup=False,
    )
    if len(outcome.schedule):
        console.print(f"faults:\n{outcome.schedule}", markup=False)
    for fault in outcome.without_effect:
        console.print(f"without effect: {fault}", style="yellow", markup=False)
    if outcome.error is None:
        console.print("every promise was kept", style="green")
    else:
        console.print(outcome.error, style="red", markup=False)


@app.command()
def replay(
    token: Annotated[str, typer.Argument(help="The token that a failure printed.")],
    twice: Annotated[bool, typer.Option(help="Run it twice and compare the digests.")] = False,
    shiviz: Annotated[Path | None, typer.Option(help="Write the events for ShiViz here.")] = None,
) -> None:
    """Run the world that TOKEN names, exactly as it ran before."""
    with _explained():
        decoded = Token.decode(token)
        outcome = run_apart(decoded)
        again = run_apart(decoded) if twice else outcome
        if shiviz is not None:
            _, world = run_once(decoded)
            shiviz.write_text(to_shiviz(world.trace))
    _print_outcome(outcome)
    if again.digest != outcome.digest:
        console.print(f"the second run differed: digest {again.digest}", style="red")
        raise typer.Exit(_BROKEN)
    if outcome.error is not None:
        raise typer.Exit(_BROKEN)


@app.command("sweep")
def sweep_command(
    scenario: Annotated[str, typer.Argument(help="module:function or path/to/file.py:function")],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 1_000,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = os.cpu_count() or 1,
    order: Annotated[str, typer.Option(help="Scheduling order: fifo, random or pct.")] = "fifo",
    database: Annotated[Path, typer.Option(help="The results file.")] = Path("sim-results.db"),
    scheduler: Annotated[
        str, typer.Option(help="Address of a Dask scheduler to run on, instead of processes.")
    ] = "",
    shrinks: Annotated[int, typer.Option(min=0, help="How many failing seeds to shrink.")] = 1,
) -> None:
    """Run many seeds; Ctrl-C stops, the same command goes on."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    wanted = range(first, first + seeds)
    with _explained(), executor_at(scheduler) as executor, progress:
        bar = progress.add_task("seeds", total=seeds)

        def show(result: Result) -> None:
            progress.advance(bar)
            if result.error is not None:
                progress.console.print(
                    f"seed {result.seed}: {result.error}", style="red", markup=False
                )

        summary = sweep(
            scenario,
            wanted,
            database=database,
            jobs=jobs,
            order=order,
            executor=executor,
            on_result=show,
        )
    _print_summary(summary)
    for failed in summary.failed[:shrinks]:
        _shrink_and_print(failed)
    if summary.failed:
        raise typer.Exit(_BROKEN)


def _print_summary(summary: Summary) -> None:
    if summary.interrupted:
        console.print("interrupted; the same command goes on from here", style="yellow")
    console.print(
        f"{summary.runs} runs, {summary.virtual_s / 3_600:.2f} virtual hours, "
        f"{len(summary.failed)} failed"
    )


def _shrink_and_print(failed: Result) -> None:
    outcome, _ = run_once(Token.decode(failed.token))
    if outcome.error is None:
        console.print(
            f"seed {failed.seed} failed in the sweep and not here: something leaks in", style="red"
        )
        return
    small = shrink(outcome)
    console.print(
        f"\nseed {failed.seed}, shrunk from {len(outcome.schedule)} to "
        f"{len(small.schedule)} faults:"
    )
    _print_outcome(small)
    console.print(f"mcpctl sim replay {small.token.encode()}", markup=False)


@app.command()
def results(
    database: Annotated[Path, typer.Argument(help="The results file of a sweep.")],
    scenario: Annotated[str | None, typer.Option(help="This scenario only.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also runs that kept all.")] = False,
) -> None:
    """Show what a sweep found."""
    with _explained():
        if not database.is_file():
            raise InvalidInput("no such file", where=str(database))
        found = load(database, scenario)
    table = Table("seed", "virtual s", "events", "outcome", "token")
    for result in found:
        if everything or result.error is not None:
            table.add_row(
                str(result.seed),
                f"{result.virtual_s:.3f}",
                str(result.events),
                result.error or "kept",
                result.token,
            )
    failed = sum(result.error is not None for result in found)
    console.print(table)
    console.print(f"{len(found)} runs, {failed} failed")


@app.command()
def faults() -> None:
    """List every kind of fault that a schedule may hold."""
    table = Table("kind", "what happens", "value")
    for name, kind in KINDS.items():
        table.add_row(name, kind.says, kind.value)
    console.print(table)
