"""`mcpctl quarantine`: what logs gave up after a split, shown, exported, proposed again, discarded.

This module exists so that nobody has to decide blindly: every decision shows first what would come
of it. It is loaded on demand.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import readable, say_json, say_table
from mcpcore.ctl.profile import find_profile
from mcpcore.errors import CoordinationError, InvalidInput, Rejected
from mcpcore.node.client import custody
from mcpcore.node.client.client import Client
from mcpcore.node.client.custody import Accounts
from mcpcore.node.quarantining import Prospect
from mcpcore.raft.sessions import command_of

T = TypeVar("T")

app = typer.Typer(
    name="quarantine",
    help="See and decide about commands that a split left without an outcome.",
    no_args_is_help=True,
)

GroupName = Annotated[str, typer.Argument(metavar="GROUP", show_default=False, help="The group.")]
Entries = Annotated[
    list[str],
    typer.Argument(metavar="NODE/NUMBER...", show_default=False, help="Which, as `list` names it."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop.")]
By = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who decides, for the record [default: you].")
]


class _Item(NamedTuple):
    """One entry, as a node described it."""

    node: str
    address: str
    told: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.node}/{self.told['number']}"


@app.command("list")
@on_cluster
def list_entries(
    cluster: ClusterOptions,
    group: GroupName,
    every: Annotated[
        bool, typer.Option("--all", help="Also what was decided, and the protocol's own.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what is in quarantine on every node, and what would come of proposing it again.

    Exit status 1 if something waits for a decision, or could not be kept.

    Example: mcpctl quarantine list main
    """
    accounts = _ask(cluster, lambda client: custody.quarantines(client, group, every=every))
    items = _items(accounts)
    if output is Output.JSON:
        for item in items:
            say_json({"node": item.node, **item.told})
    elif output is Output.PLAIN:
        for item in items:
            typer.echo(item.name)
    elif items:
        _table(items)
    else:
        typer.echo("nothing is in quarantine")
    troubled = _troubles(accounts)
    if troubled or any(item.told["fate"] == "kept" for item in items):
        raise typer.Exit(ExitCode.NO)


@app.command()
@on_cluster
def show(
    cluster: ClusterOptions,
    group: GroupName,
    entry: Annotated[
        str,
        typer.Argument(metavar="NODE/NUMBER", show_default=False, help="As `list` names it."),
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one entry and all that is known of it.

    Example: mcpctl quarantine show main edge/3
    """

    async def work(client: Client) -> dict[str, Any]:
        [item] = _named(await custody.quarantines(client, group, every=True), [entry])
        return await custody.show(client, group, item.address, item.told["number"])

    told = _ask(cluster, work)
    data = told.pop("data")
    if output is Output.JSON:
        say_json({**told, "data": data.hex()})
        return
    if output is Output.PLAIN:
        typer.echo(data, nl=False)
        return
    inside = command_of(data)
    told["command"] = readable(data if inside is None else inside.command)
    told["wall_ns"] = _when(told["wall_ns"])
    for name, value in told.items():
        typer.echo(f"{name:<12} {'' if value is None else value}")


@app.command()
@on_cluster
def export(
    cluster: ClusterOptions,
    group: GroupName,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="A new file [default: the terminal]."),
    ] = None,
) -> None:
    """Write everything that is in quarantine as lines of JSON, commands in hexadecimal.

    Example: mcpctl quarantine export main --to main.jsonl
    """

    async def work(client: Client) -> list[str]:
        lines = []
        for item in _items(await custody.quarantines(client, group, every=True)):
            told = await custody.show(client, group, item.address, item.told["number"])
            lines.append(json.dumps({"node": item.node, **told, "data": told["data"].hex()}))
        return lines

    lines = _ask(cluster, work)
    text = "".join(f"{line}\n" for line in lines)
    if to is None:
        typer.echo(text, nl=False)
        return
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error.strerror}", where=str(to)) from error
    typer.echo(f"{len(lines)} entries written to {to}")


@app.command()
@on_cluster
def repropose(
    cluster: ClusterOptions,
    group: GroupName,
    entries: Entries,
    yes: Yes = False,
    plan: PlanOnly = False,
    by: By = "",
    may_apply_twice: Annotated[
        bool,
        typer.Option(
            "--may-apply-twice",
            help="Also commands from outside any session, which nothing keeps from applying twice.",
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Propose entries again, through the session of their client: nothing applies twice.

    The plan is shown first. What came of each is put on record.

    Example: mcpctl quarantine repropose main edge/3 edge/4
    """
    chosen = _ask(cluster, lambda client: _chosen(client, group, entries))
    _ask_first(chosen, "Propose them again?", yes=yes, plan=plan)

    async def work(client: Client, item: _Item) -> dict[str, Any]:
        return await custody.repropose(
            client,
            group,
            item.address,
            item.told["number"],
            by=_who(by),
            may_apply_twice=may_apply_twice,
        )

    _each(cluster, chosen, work, output)


@app.command()
@on_cluster
def discard(
    cluster: ClusterOptions,
    group: GroupName,
    entries: Entries,
    yes: Yes = False,
    plan: PlanOnly = False,
    by: By = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Throw entries away, on record. The plan is shown first.

    Example: mcpctl quarantine discard main edge/3 --note "the client asked again"
    """
    chosen = _ask(cluster, lambda client: _chosen(client, group, entries))
    _ask_first(chosen, "Throw them away?", yes=yes, plan=plan)

    async def work(client: Client, item: _Item) -> dict[str, Any]:
        number = item.told["number"]
        return await custody.discard(client, group, item.address, number, by=_who(by), note=note)

    _each(cluster, chosen, work, output)


# --- inside ---------------------------------------------------------------------------------------


def _ask(options: ClusterOptions, work: Callable[[Client], Awaitable[T]]) -> T:
    profile = find_profile(options, administers=True)

    async def run() -> T:
        async with profile.client(administers=True) as client:
            return await work(client)

    return asyncio.run(run())


async def _chosen(client: Client, group: str, entries: Sequence[str]) -> list[_Item]:
    return _named(await custody.quarantines(client, group, every=True), entries)


def _items(accounts: Accounts) -> list[_Item]:
    return [
        _Item(node, accounts.addresses[node], dict(told))
        for node, account in sorted(accounts.nodes.items())
        for told in account["entries"]
    ]


def _named(accounts: Accounts, names: Sequence[str]) -> list[_Item]:
    """The entries of these names, in that order.

    Raises:
        InvalidInput: there is none of that name.
    """
    known = {item.name: item for item in _items(accounts)}
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"there is no entry {name!r}",
                where="NODE/NUMBER",
                remedy="`mcpctl quarantine list --all` names them",
            )
    return [known[name] for name in dict.fromkeys(names)]


def _table(items: Sequence[_Item]) -> None:
    headings = ("entry", "index", "term", "accepted by", "session", "bytes", "truncated", "state")
    rows = []
    for item in items:
        told = item.told
        session = "-" if told["session"] is None else f"{told['session']}/{told['sequence']}"
        rows.append(
            (
                item.name,
                told["index"],
                told["term"],
                told["origin"] or "?",
                session,
                told["size_bytes"],
                _when(told["wall_ns"]),
                _state(told),
            )
        )
    say_table(headings, rows)


def _state(told: dict[str, Any]) -> str:
    if told["fate"] == "kept":
        covered = "; a snapshot may contain it" if told["covered"] else ""
        return f"{told['prospect']}{covered}"
    by = f" by {told['by']}" if told["by"] else ""
    note = f": {told['note']}" if told["note"] else ""
    return f"{told['fate']}{by}{note}"


def _when(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _troubles(accounts: Accounts) -> bool:
    """Say what could not be kept, and who did not answer; returns whether there was any."""
    troubled = False
    for node, account in sorted(accounts.nodes.items()):
        lost = sum(each["entries"] for each in account["overflows"])
        if lost:
            complain(f"{node}: {lost} entries did not fit {account['max_bytes']} bytes; only their "
                     "number is on record")  # fmt: skip
        if account["problem"]:
            complain(f"{node}: {account['problem']}")
        troubled = troubled or bool(lost or account["problem"])
    for address, error in accounts.silent.items():
        complain(f"{address}: {one_line(error)}")
        troubled = True
    return troubled


def _ask_first(chosen: Sequence[_Item], question: str, *, yes: bool, plan: bool) -> None:
    """Show what would be done and ask whether to."""
    if not yes or plan:
        _table(chosen)
        refused = [item for item in chosen if item.told["prospect"] == Prospect.MOVED_ON.value]
        if refused:
            typer.echo(f"{len(refused)} of them would be refused by the group: nothing is applied")
    if plan:
        raise typer.Exit(ExitCode.OK)
    if not yes and not typer.confirm(question):
        raise Rejected("nothing was decided")


def _each(
    cluster: ClusterOptions,
    chosen: Sequence[_Item],
    work: Callable[[Client, _Item], Awaitable[dict[str, Any]]],
    output: Output,
) -> None:
    """Decide about one after the other, in their order; say what came of each."""

    async def all_of_them(client: Client) -> list[tuple[_Item, dict[str, Any] | CoordinationError]]:
        told: list[tuple[_Item, dict[str, Any] | CoordinationError]] = []
        for item in chosen:
            try:
                told.append((item, await work(client, item)))
            except CoordinationError as error:
                told.append((item, error))
        return told

    failed = None
    for item, told in _ask(cluster, all_of_them):
        if isinstance(told, CoordinationError):
            complain(f"{item.name}: {one_line(told)}")
            failed = failed or told
        elif output is Output.JSON:
            say_json({"node": item.node, **told})
        else:
            typer.echo(f"{item.name}: {_state(told)}")
    if failed is not None:
        raise failed


def _who(by: str) -> str:
    return by or getpass.getuser()
