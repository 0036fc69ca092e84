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
from mcpcore.ctl import clocks, keys, leading, status
from mcpcore.ctl.root import Family, RootGroup

app = typer.Typer(
    name="mcpctl",
    cls=RootGroup,
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


class LogFormat(StrEnum):
    """How a node writes its log."""

    TEXT = "text"
    JSON = "json"


@app.command()
def serve(
    config: Annotated[str, typer.Argument(metavar="NODE.TOML", help="The node's configuration.")],
    log_level: Annotated[LogLevel, typer.Option(help="How much to tell.")] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="As lines of text, or of JSON for machines.")
    ] = LogFormat.TEXT,
    bootstrap: Annotated[
        bool,
        typer.Option("--bootstrap", help="Found the groups that no log holds yet: a new cluster."),
    ] = False,
    steering: Annotated[
        str, typer.Option(hidden=True, help="Wrong clocks and disks, for experiments.")
    ] = "",
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    The log goes to stderr. Exit status 5 if the node stopped by itself. A node without a log waits
    to be added to its groups, unless told to found them (--bootstrap, or bootstrap = true in the
    file) together with all of their first voters.

    Example: mcpctl serve us-east-1.toml --log-level warning
    """
    from mcpcore.ctl.serve import serve as run

    as_json = log_format is LogFormat.JSON
    run(config, log_level, bootstrap=bootstrap, steering=steering, log_as_json=as_json)


keys.add_commands(app)
app.command()(status.status)
app.command()(clocks.clocks)
app.command()(leading.transfer_leader)

# Families of commands, each in a module of its own with an ``app``; new ones are named here.
RootGroup.families = {
    "lease": Family(
        "mcpcore.ctl.leases", "Grant, renew and revoke leases: keys that hang on one go with it."
    ),
    "group": Family(
        "mcpcore.ctl.groups", "Make, list, retire and reunite groups while the cluster runs."
    ),
    "quarantine": Family(
        "mcpcore.ctl.quarantine", "Decide about commands that a split left without an outcome."
    ),
    "split": Family(
        "mcpcore.ctl.split", "Ask each node whether a group is split, why, and what to do."
    ),
    "member": Family(
        "mcpcore.ctl.member", "Show and change who takes part in a group, with a plan first."
    ),
    "certs": Family(
        "mcpcore.ctl.certs", "Make and show the certificates that say who is who in a cluster."
    ),
    "demo": Family(
        "mcpcore.ctl.demo", "Watch a real three-node cluster lose a leader and a link, and no data."
    ),
    "check": Family("mcpcore.ctl.check", "Judge a history in a file, and say why."),
    "saga": Family(
        "mcpcore.ctl.saga", "Look at sagas, and decide about those that wait for somebody."
    ),
    "experiment": Family(
        "mcpcore.ctl.experiment", "Run a scenario, simulated or on real processes, and report it."
    ),
    "log": Family("mcpcore.ctl.log", "Look at a stopped node's log, judge it, and repair it."),
    "recover": Family(
        "mcpcore.ctl.recover", "Bring a group back whose quorum is lost for good: plan, then apply."
    ),
    "backup": Family(
        "mcpcore.ctl.backup", "A group's state as a file, and a new cluster from one."
    ),
    "dash": Family("mcpcore.ctl.dash", "A live page: who leads, who is cut off, and what to do."),
    "top": Family("mcpcore.ctl.top", "The same as `dash`, in this terminal."),
    "observe": Family(
        "mcpcore.ctl.observe", "Print alert rules for Prometheus and a dashboard for Grafana."
    ),
    "sim": Family("mcpcore.ctl.sim", "Sweep, replay and compare simulated worlds."),
    "policy": Family(
        "mcpcore.ctl.policy", "Look over, merge, explain and export policies, decide conflicts."
    ),
}


@app.command()
def version() -> None:
    """Print the version.

    Example: mcpctl version
    """
    typer.echo(f"mcpctl {__version__}")


def main() -> None:
    """The entry point of `mcpctl`."""
    app(prog_name="mcpctl")
