"""`mcpctl group reunite` and `mcpctl group divergence`: what a split left behind.

This module exists so that the answer a reunion waits for is given with the plan in sight, and so
that what a cut did can be read afterwards. It is loaded on demand.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import say_json
from mcpcore.ctl.profile import find_profile
from mcpcore.errors import InvalidInput, Rejected
from mcpcore.node.client import custody
from mcpcore.node.client.client import Client
from mcpcore.node.client.custody import Accounts

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="GROUP", show_default=False, help="The group.")]
Node = Annotated[
    str, typer.Option("--node", metavar="NODE", help="Which node, if several are meant.")
]


@on_cluster
def reunite(
    cluster: ClusterOptions,
    name: Name,
    node: Node = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan, and stop.")] = False,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who agrees, on record [default: you].")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a member that was split off rejoin: the plan first, then a question.

    A reunion waits when the gap is large and the member would lose entries of its own. They go to
    quarantine. The answer is good for this reunion only. With -o json the plans are shown and
    nothing is asked. Exit status 1 if nothing waits.

    Example: mcpctl group reunite main
    """
    accounts = _ask(cluster, lambda client: custody.reunions(client, name))
    waiting = {
        each: account["held"]
        for each, account in sorted(accounts.nodes.items())
        if account["held"] is not None and node in ("", each)
    }
    if output is Output.JSON:
        for each, held in waiting.items():
            say_json({"node": each, **held})
    else:
        for held in waiting.values():
            typer.echo(held["text"])
    _complain(accounts)
    if not waiting:
        typer.echo(f"no reunion of group {name} waits for an answer", err=True)
        raise typer.Exit(ExitCode.NO)
    if plan or (output is Output.JSON and not yes):
        return
    if len(waiting) > 1 and not node:
        raise InvalidInput(
            f"{', '.join(waiting)} wait",
            where="--node",
            remedy="Answer one after the other: say which with --node",
        )
    [(each, held)] = waiting.items()
    if not yes and not typer.confirm(f"Let {each} give up {held['to_lose']} entries and rejoin?"):
        raise Rejected(f"{each} goes on waiting")
    who = by or getpass.getuser()
    address = accounts.addresses[each]
    _ask(cluster, lambda client: custody.reunite(client, name, address, held["episode"], by=who))
    if output is not Output.JSON:
        typer.echo(f"{each} rejoins; what it gives up: `mcpctl quarantine list {name}`")


@on_cluster
def divergence(
    cluster: ClusterOptions,
    name: Name,
    node: Node = "",
    every: Annotated[
        bool, typer.Option("--all", help="All reports that are kept, not only the latest.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what cuts did: where the logs parted, who has what, who got no answer.

    Example: mcpctl group divergence main
    """
    accounts = _ask(cluster, lambda client: custody.reunions(client, name))
    told = False
    for each, account in sorted(accounts.nodes.items()):
        if node not in ("", each):
            continue
        reports = account["reports"] if every else account["reports"][-1:]
        for report in reports:
            told = True
            if output is Output.JSON:
                say_json({"node": each, **report})
            else:
                typer.echo(f"{each}: {report['text']}")
                if report["open"]:
                    typer.echo("  not finished: the logs are not equal again yet")
    _complain(accounts)
    if not told and output is not Output.JSON:
        typer.echo(f"no log of group {name} ever diverged, as far as is remembered")


def _ask(options: ClusterOptions, work: Callable[[Client], Awaitable[T]]) -> T:
    profile = find_profile(options, administers=True)

    async def run() -> T:
        async with profile.client(administers=True) as client:
            return await work(client)

    return asyncio.run(run())


def _complain(accounts: Accounts) -> None:
    for address, error in accounts.silent.items():
        complain(f"{address}: {one_line(error)}")
