"""The root of all commands: errors in one line, and families of commands loaded on demand.

This module exists so that every command, whoever wrote it, ends the same way, and so that
`mcpctl --help` need not load what it only names. It must never import a command itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Final, NamedTuple

import typer
from typer.core import TyperGroup

from mcpcore.ctl.exits import ExitCode, complain, exit_code, one_line
from mcpcore.errors import CoordinationError

_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__bases__[0]
"""Typer's own, or click's: older releases of typer don't bring their own click."""
_NOT_OURS: Final = (typer.Exit, typer.Abort, BrokenPipeError)
"""Ways to end that typer deals with."""


class Family(NamedTuple):
    """Commands under one word (or one command), in a module that is loaded when it is run.

    Args:
        module: the module; its ``app`` is a ``typer.Typer``.
        purpose: one sentence for the root's help.
    """

    module: str
    purpose: str


class RootGroup(TyperGroup):
    """The root of `mcpctl`. With MCPCTL_DEBUG=1 errors keep their traceback."""

    families: ClassVar[Mapping[str, Family]] = {}

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the root's own options."""
        with _one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _one_line_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, families last."""
        return [*super().list_commands(ctx), *self.families]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, or what the help needs to know of a family."""
        family = self.families.get(cmd_name)
        if family is None:
            return super().get_command(ctx, cmd_name)
        return TyperGroup(name=cmd_name, help=family.purpose)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command to run; a family is loaded now."""
        name, command, rest = super().resolve_command(ctx, args)
        family = self.families.get(name or "")
        if family is not None:
            app = import_module(family.module).app
            alone = len(app.registered_commands) == 1 and app.registered_callback is None
            command = typer.main.get_command(app) if alone else typer.main.get_group(app)
            command.name = name
        return name, command, rest


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what a command raises into one line on stderr and an exit code."""
    try:
        yield
    except _NOT_OURS:
        raise
    except Exception as error:
        if os.environ.get("MCPCTL_DEBUG") or type(error).__name__ == "NoArgsIsHelpError":
            raise
        if isinstance(error, CoordinationError):
            complain(one_line(error))
        elif isinstance(error, _USAGE_ERROR):
            complain(_misused(error))
            raise typer.Exit(ExitCode.USAGE) from None
        else:
            complain(
                f"a bug of ours: {type(error).__name__}: {one_line(error)}. MCPCTL_DEBUG=1 shows "
                "where; please report it"
            )
        raise typer.Exit(exit_code(error)) from None


def _misused(error: Any) -> str:
    text = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx is not None else "mcpctl"
    return f"{text if text.endswith(('.', '?')) else text + '.'} See `{command} --help`"
