"""`mcpctl group`: make, list, retire and reunite groups while the cluster runs.

This module exists so that a group needs no new configuration file and no restart. It is loaded on
demand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import typer

from mcpcore.ctl import reunions
from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import say_json, say_table
from mcpcore.ctl.profile import find_profile
from mcpcore.errors import Rejected
from mcpcore.node.client.client import Client
from mcpcore.node.client.groups import Survey, create_group, list_groups, retire_group
from mcpcore.raft.settings import SECOND, RaftSettings

T = TypeVar("T")

app = typer.Typer(
    name="group",
    help="Make, list, retire and reunite groups while the cluster runs.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="GROUP", show_default=False, help="The group.")]


def _seconds(name: str, help: str, default_ns: int) -> Any:
    return typer.Option(name, metavar="SECONDS", help=f"{help} [default: {default_ns / SECOND:g}]",
                        show_default=False, min=0.0)  # fmt: skip


_USUAL = RaftSettings().with_usual_floors()


@app.command("list")
@on_cluster
def list_all(cluster: ClusterOptions, output: OutputOption = Output.TABLE) -> None:
    """Show every group: who leads it, how far it is, and whether it sleeps.

    Exit status 1 if a node does not answer or a group has no leader.

    Example: mcpctl group list
    """
    survey = _with_client(cluster, list_groups)
    rows = _rows(survey)
    if output is Output.JSON:
        for row in rows:
            say_json(row)
    elif output is Output.PLAIN:
        for row in rows:
            typer.echo(row["group"])
    elif rows:
        say_table(
            ("group", "leader", "term", "applied", "asleep", "members"),
            [
                (
                    row["group"],
                    row["leader"] or "-",
                    row["term"],
                    row["applied"],
                    f"{row['asleep']}/{len(row['on'])}",
                    ", ".join(row["members"]),
                )
                for row in rows
            ],
        )
    else:
        typer.echo("no groups")
    for address, error in survey.silent.items():
        told = one_line(error)
        complain(told if told.startswith(address) else f"{address}: {told}")
    if survey.silent or not all(row["leader"] for row in rows):
        raise typer.Exit(ExitCode.NO)


@app.command()
@on_cluster
def create(
    cluster: ClusterOptions,
    name: Name,
    voters: Annotated[
        str,
        typer.Option(
            metavar="NODE,...", show_default=False, help="Who votes. Without it, all nodes."
        ),
    ] = "",
    election_timeout_s: Annotated[
        float | None,
        _seconds("--election-timeout", "Silence after which a leader is doubted.",
                 _USUAL.election_timeout_ns),
    ] = None,
    heartbeat_s: Annotated[
        float | None,
        _seconds("--heartbeat", "How often a leader speaks.", _USUAL.heartbeat_ns),
    ] = None,
    election_floor_s: Annotated[
        float | None,
        _seconds("--election-floor", "How short it may become where links allow; 0: as it is.",
                 _USUAL.election_floor_ns),
    ] = None,
    heartbeat_floor_s: Annotated[
        float | None,
        _seconds("--heartbeat-floor", "The least interval of heartbeats; 0: as it is.",
                 _USUAL.heartbeat_floor_ns),
    ] = None,
    quiet_after_s: Annotated[
        float | None,
        _seconds("--quiet-after", "When an idle group sleeps; 0: never.", _USUAL.quiet_after_ns),
    ] = None,
) -> None:  # fmt: skip
    """Make a group on all its voters, which serve it from now on, after restarts too.

    Needs an administrator's certificate. Making it again as it was made is harmless, and finishes
    what was interrupted. The group is a key-value store.

    Example: mcpctl group create orders --voters us-east-1,hangzhou,edge
    """
    given = {
        "election_timeout_ns": election_timeout_s,
        "heartbeat_ns": heartbeat_s,
        "election_floor_ns": election_floor_s,
        "heartbeat_floor_ns": heartbeat_floor_s,
        "quiet_after_ns": quiet_after_s,
    }
    windows = {field: round(value * SECOND) for field, value in given.items() if value is not None}
    settings = replace(RaftSettings(), **windows)  # type: ignore[arg-type]
    if election_floor_s is None and heartbeat_floor_s is None:
        settings = settings.with_usual_floors()
    names = [part.strip() for part in voters.split(",") if part.strip()]

    async def work(client: Client) -> tuple[str, ...]:
        return await create_group(client, name, names, settings)

    made_on = _with_client(cluster, work)
    typer.echo(f"group {name} is served on {', '.join(made_on)}")


@app.command()
@on_cluster
def retire(
    cluster: ClusterOptions,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a group on all its members. What it held is gone.

    Needs an administrator's certificate. Exit status 4 if a member did not answer: run it again
    when it does. Do not make a group of the same name before.

    Example: mcpctl group retire orders --yes
    """
    if not yes and not typer.confirm(f"What group {name} holds will be gone. Retire it?"):
        raise Rejected(f"group {name} was not retired")

    async def work(client: Client) -> tuple[str, ...]:
        return await retire_group(client, name)

    had_it = _with_client(cluster, work)
    where = f"on {', '.join(had_it)}" if had_it else "before"
    typer.echo(f"group {name} was retired {where}")


app.command()(reunions.reunite)
app.command()(reunions.divergence)


def _with_client(options: ClusterOptions, work: Callable[[Client], Awaitable[T]]) -> T:
    profile = find_profile(options, administers=True)

    async def run() -> T:
        async with profile.client(administers=True) as client:
            return await work(client)

    return asyncio.run(run())


def _rows(survey: Survey) -> list[dict[str, Any]]:
    """One row for each group, as its leader sees it, or whoever is furthest."""
    rows: dict[str, dict[str, Any]] = {}
    for hosted in survey.nodes:
        for name, told in hosted.groups.items():
            row = rows.setdefault(
                name,
                {"group": name, "leader": "", "term": 0, "applied": 0, "asleep": 0, "members": [],
                 "on": []},
            )  # fmt: skip
            row["on"].append(hosted.node)
            row["asleep"] += bool(told["asleep"])
            row["applied"] = max(row["applied"], told["applied"])
            if told["term"] >= row["term"]:
                leads = told["role"] == "leader"
                known = told["leader"] if told["term"] > row["term"] or leads else row["leader"]
                row["term"], row["leader"] = told["term"], known or told["leader"]
                row["members"] = list(told["members"])
    return [rows[name] for name in sorted(rows)]
