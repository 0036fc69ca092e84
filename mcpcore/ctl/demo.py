"""`mcpctl demo`: three real nodes that lose a leader and a link, and no data, before your eyes.

This module exists so that the experiment in ``three_clouds`` gets a terminal, a place for its files
and an exit status. `mcpctl --help` loads it, so it must load the rest only when the command runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mcpcore.experiment.three_clouds import Result, ThreeClouds

_FRAME_S = 0.2
_PLAIN_LINE_S = 2.0
_PLAIN_COLUMNS = 110
"""How wide tables may be when nobody says how wide the paper is."""


def add_commands(app: typer.Typer) -> None:
    """Make `demo` a command of ``app``."""
    app.command()(demo)


def demo(
    seconds: Annotated[
        float, typer.Option(help="How long clients write, in seconds; 15 at least.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the clients' choices and the links' jitter.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave certificates, data and logs, and say where.")
    ] = False,
) -> None:
    """Watch a real three-node cluster lose a leader and a link, and no data.

    Starts three processes on this machine behind links with the delays of a wide-area network, lets
    clients write, kills the leader, restarts it, cuts a leader off, mends the links, and compares
    every acknowledged write with every replica. Exit status 0 only if all is there, once, in order.

    Example: mcpctl demo --keep
    """
    import tempfile
    from pathlib import Path

    from rich.console import Console

    from mcpcore.ctl.demo_report import show
    from mcpcore.experiment.three_clouds import ThreeClouds

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_COLUMNS)
    directory = Path(tempfile.mkdtemp(prefix="mcpcore-demo-"))
    unwanted = not keep
    try:
        with _LogTo(directory / "demo.log"):
            experiment = ThreeClouds(directory, seconds=seconds, seed=seed)
            result = asyncio.run(_watch(experiment, console))
        show(result, console)
        unwanted = unwanted and result.holds  # whoever finds a fault wants the evidence
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        console.print("\nStopped. All three nodes are gone.", highlight=False)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    finally:
        _tidy(directory, unwanted, console)
    if not result.holds:
        raise typer.Exit(1)


async def _watch(experiment: ThreeClouds, console: Console) -> Result:
    """Run the experiment and show it meanwhile. SIGTERM ends it in order, like Ctrl-C."""
    import signal

    loop, ours = asyncio.get_running_loop(), asyncio.current_task()
    assert ours is not None
    loop.add_signal_handler(signal.SIGTERM, ours.cancel)
    show = _show_live if console.is_terminal else _show_plain
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
    from rich.live import Live

    from mcpcore.ctl.demo_screen import draw, plain_event

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
    from mcpcore.ctl.demo_screen import plain_event, plain_line

    scene = experiment.scene()
    console.print(f"{scene.phase}; {scene.windows}", highlight=False)
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
        import logging

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


def _tidy(directory: Path, unwanted: bool, console: Console) -> None:
    import shutil

    if unwanted:
        shutil.rmtree(directory)
    else:
        console.print(
            f"Certificates, configurations, data and logs are in {directory}",
            highlight=False,
            soft_wrap=True,
        )
