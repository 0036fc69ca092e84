"""How a command ends: the exit codes, and an error as one line.

This module exists so that scripts can rely on the exit code and people on the sentence, whatever
command was run. It is the only place that turns an exception into words on a screen. It must never
import what runs a node: `mcpctl --help` loads it.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum

import typer

from mcpcore.errors import InvalidInput, OutcomeUnknown, Rejected


class ExitCode(IntEnum):
    """What the exit status of `mcpctl` means."""

    OK = 0
    """Done."""
    NO = 1
    """The answer is no: no such key, the comparison failed, `status` found a problem."""
    USAGE = 2
    """A wrong option, argument or file. Nothing was sent."""
    REJECTED = 3
    """Nothing happened, and nothing will. Trying again is safe."""
    UNKNOWN = 4
    """It may have happened, or may still. Look before trying again."""
    FAILED = 5
    """Something broke: a node that stopped by itself, a damaged log, a bug."""
    INTERRUPTED = 130
    """Ctrl-C."""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that an error stands for."""
    match error:
        case InvalidInput():
            return ExitCode.USAGE
        case Rejected():
            return ExitCode.REJECTED
        case OutcomeUnknown():
            return ExitCode.UNKNOWN
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def one_line(error: BaseException) -> str:
    """An error as a sentence without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def complain(text: str) -> None:
    """Say on stderr what went wrong; in red where somebody looks."""
    prefix = "mcpctl: "
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        prefix = typer.style(prefix, fg=typer.colors.RED, bold=True)
    typer.echo(prefix + text, err=True)
