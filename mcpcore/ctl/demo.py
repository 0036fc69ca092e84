"""`mcpctl demo`: three real nodes that lose a leader and a link, and no data, before your eyes.

This module exists so that the command has a place of its own. `mcpctl --help` loads it, so it must
load the rest only when the command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Make `demo` a command of ``app``."""
    app.command()(demo)


def demo(
    seconds: Annotated[float, typer.Option(help="How long clients write; 15 at least.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the clients' choices and the links' jitter.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave certificates, data and logs, and say where.")
    ] = False,
) -> None:
    """Watch a real three-node cluster lose a leader and a link, and no data.

    Exit status 0 only if every acknowledged write is on every node, once and in order.

    Example: mcpctl demo --keep
    """
    from mcpcore.ctl.demo_live import run_demo

    run_demo(seconds=seconds, seed=seed, keep=keep)
