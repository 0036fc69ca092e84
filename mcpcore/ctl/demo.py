"""`mcpctl demo`: three real nodes that lose a leader and a link, and no data, before your eyes.

This module exists so that everything between the experiment and the terminal stands in one place:
files made and removed, the screen alive, Ctrl-C in order. What is drawn stands in ``demo_screen``,
what is measured in ``mcpcore.experiment``.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from mcpcore.check import Budget
from mcpcore.ctl.demo_page import write
from mcpcore.ctl.demo_policy import policy
from mcpcore.ctl.demo_report import holds, show
from mcpcore.ctl.demo_screen import draw, plain_event, plain_line
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.demo_run import as_run, scenario_toml
from mcpcore.experiment.three_clouds import Result, ThreeClouds, check_seconds

_FRAME_S: Final = 0.2
_PLAIN_LINE_S: Final = 2.0
_JUDGING_NS: Final = 10_000_000_000
_PLAIN_COLUMNS: Final = 110
"""How wide tables may be when nobody says how wide the paper is."""


app = typer.Typer(add_completion=False, rich_markup_mode=None)


app.command()(policy)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(help="How long clients write; 15 at least.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the clients' choices and the links' jitter.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave certificates, data and logs, and say where.")
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Write experiments/demo-SEED/report.html, given mcpcore[report].")
    ] = True,
) -> None:
    """Watch a real three-node cluster lose a leader and a link, and no data.

    Exit status 0 only if every acknowledged write is on every node, once and in order; otherwise 1.
    130 after Ctrl-C, 143 after SIGTERM; either cleans up. Data and logs of a failed demo stay.

    Example: mcpctl demo --keep
    """
    if context.invoked_subcommand is not None:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_COLUMNS)
    check_seconds(seconds)
    directory = Path(tempfile.mkdtemp(prefix="mcpcore-demo-"))
    wanted = True
    try:
        with _LogTo(directory / "demo.log"):
            experiment = ThreeClouds(directory, seconds=seconds, seed=seed)
            result = asyncio.run(_watch(experiment, console))
        run = as_run(result.measured, directory / "run")
        conclusion = conclude(run, _budget())
        show(result, conclusion, console)
        kept = holds(result, conclusion)
        wanted = keep or not kept
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        wanted = keep
        console.print("\nStopped. All three nodes are gone.", highlight=False)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    finally:
        _tidy(directory, wanted, console)
    if report:
        told = write(run, conclusion, scenario_toml(result.measured))
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    if not kept:
        raise typer.Exit(1)


def _budget() -> Budget:
    return Budget(time_ns=_JUDGING_NS, monotonic_ns=time.monotonic_ns)


async def _watch(experiment: ThreeClouds, console: Console) -> Result:
    """Run the experiment and show it meanwhile. SIGTERM ends it in order, like Ctrl-C."""
    loop, ours = asyncio.get_running_loop(), asyncio.current_task()
    assert ours is not None
    loop.add_signal_handler(signal.SIGTERM, ours.cancel)
    alive = console.is_terminal and not console.is_dumb_terminal
    show = _show_live if alive else _show_plain
    showing = loop.create_task(show(experiment, console))
    try:
        return await experiment.run()
    finally:
        showing.cancel()
        (ending,) = await asyncio.gather(showing, return_exceptions=True)
        if ending is not None and not isinstance(ending, asyncio.CancelledError):
            raise ending


async def _show_live(experiment: ThreeClouds, console: Console) -> None:
    """Draw the experiment on the alternate screen, until cancelled; then tell what happened."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(draw(experiment.scene(), *console.size), refresh=True)
                await asyncio.sleep(_FRAME_S)
        finally:
            happened = experiment.scene().happenings
            live.stop()
            for happening in happened:
                console.print(plain_event(happening), highlight=False, markup=False, soft_wrap=True)


async def _show_plain(experiment: ThreeClouds, console: Console) -> None:
    """Print what happens, line by line, and the clients' figures now and then."""
    scene = experiment.scene()
    console.print(f"{scene.phase}; {scene.windows}", highlight=False, soft_wrap=True)
    told, due_s = 0, 0.0
    try:
        while True:
            scene = experiment.scene()
            if scene.beats and scene.at_s >= due_s:
                due_s = scene.at_s + _PLAIN_LINE_S
                console.print(
                    f"{scene.at_s:6.1f} s    {plain_line(scene)}", highlight=False, soft_wrap=True
                )
            for happening in scene.happenings[told:]:
                console.print(plain_event(happening), highlight=False, markup=False, soft_wrap=True)
            told = len(scene.happenings)
            await asyncio.sleep(_FRAME_S)
    finally:
        for happening in experiment.scene().happenings[told:]:
            console.print(plain_event(happening), highlight=False, markup=False, soft_wrap=True)


class _LogTo:
    """What our own side of the experiment logs goes to a file, not across the screen."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.FileHandler(path)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._logger = logging.getLogger("mcpcore")

    def __enter__(self) -> None:
        self._logger.addHandler(self._handler)
        self._logger.propagate = False

    def __exit__(self, *ending: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.propagate = True
        self._handler.close()


def _tidy(directory: Path, wanted: bool, console: Console) -> None:
    if not wanted:
        shutil.rmtree(directory)
    else:
        console.print(
            f"Certificates, configurations, data and logs are in {directory}",
            highlight=False,
            soft_wrap=True,
        )
