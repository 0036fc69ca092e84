"""`mcpctl demo policy`: three clouds that are cut apart, edit one policy, and merge.

This module exists to put :mod:`mcpcore.experiment.policy_story` on a screen of 80 columns. Nothing
here decides anything, and nothing leaves this process.
"""

from __future__ import annotations

import logging
from textwrap import wrap
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mcpcore.ctl.exits import ExitCode
from mcpcore.experiment.policy_story import PolicyStory
from mcpcore.policy.rules import Mode
from mcpcore.policy.story import CLOUDS, QUESTIONS, Scene

_COLUMNS = 80


def policy(
    optimistic: Annotated[
        bool, typer.Option("--optimistic", help="Without the log, to see what goes wrong.")
    ] = False,
) -> None:
    """Watch three clouds edit one policy across a cut, merge, and decide what is left.

    Three nodes on simulated hosts, with the node's own code, in virtual time. Exit status 0 if the
    merge allowed nothing that no cloud had allowed and no conflict was left; otherwise 1, as with
    --optimistic.

    Example: mcpctl demo policy
    """
    logging.getLogger("mcpcore").addHandler(logging.NullHandler())  # the cut is meant
    console = Console(highlight=False)
    console.width = min(console.width, _COLUMNS) if console.is_terminal else _COLUMNS
    with PolicyStory(Mode.OPTIMISTIC if optimistic else Mode.GUARDED) as story:
        for number, scene in enumerate(story.scenes(), 1):
            _show(console, number, scene)
    left = story.left
    if story.gained:
        text = f"\nThe merge allowed {story.gained} answer that no cloud had allowed."
        console.print(Text(text, style="bold red"))
    else:
        console.print(Text("\nThe merge allowed nothing that no cloud had allowed.", style="bold"))
    raise typer.Exit(ExitCode.NO if left or story.gained else ExitCode.OK)


def _show(console: Console, number: int, scene: Scene) -> None:
    console.print(Text(f"\n{number}  {scene.title}", style="bold"))
    for told in scene.lines:
        console.print(Text(f"   {told}"))
    if scene.answers:
        console.print(Text(f"   {'':<44}" + "".join(f"{cloud:>10}" for cloud in CLOUDS), "dim"))
    for question, row in zip(QUESTIONS, scene.answers, strict=False):
        line = Text(f"   {question!s:<44}")
        for allowed in row:
            line.append(f"{'allowed' if allowed else 'denied':>10}", "green" if allowed else "red")
        console.print(line)
    for conflict in scene.conflicts:
        console.print(Text(f"   {conflict.id} {conflict.kind}", style="yellow"))
        console.print(Text(_wrapped(conflict.text), overflow="fold"))
    if scene.explanation is not None:
        console.print(Text("   why:", style="dim"))
        for text in scene.explanation.lines():
            console.print(Text(_wrapped(text)))


def _wrapped(text: str) -> str:
    return "\n".join(wrap(text, _COLUMNS - 6, initial_indent="     ", subsequent_indent="     "))
