"""`mcpctl`, the command line: what commands there are.

This module exists so that `mcpctl --help` costs next to nothing: it names every command and its
options, and each command loads what it needs only when it runs. It must never import the node,
the simulator or asyncio at the top.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mcpcore import __version__
from mcpcore.ctl import keys
from mcpcore.ctl.exits import PlainGroup

app = typer.Typer(
    name="mcpctl",
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run and ask clusters of mcpcore nodes. (Multi-Cloud Platform; not Model Context "
    "Protocol.)",
)


class LogLevel(StrEnum):
    """How much a node tells."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command()
def serve(
    config: Annotated[str, typer.Argument(metavar="NODE.TOML", help="The node's configuration.")],
    log_level: Annotated[LogLevel, typer.Option(help="How much to tell.")] = LogLevel.INFO,
) -> None:
    """Run a node until SIGTERM or Ctrl-C. The log goes to stderr.

    Example: mcpctl serve us-east-1.toml --log-level warning
    """
    from mcpcore.ctl.serve import serve as run

    run(config, log_level)


keys.add_commands(app)


@app.command()
def version() -> None:
    """Print the version. Example: mcpctl version"""
    typer.echo(f"mcpctl {__version__}")


def main() -> None:
    """The entry point of `mcpctl`."""
    app()
