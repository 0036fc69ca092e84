"""`mcpctl saga`: look at sagas, and decide about those that wait for somebody.

This module exists so that a parked saga is found, understood and dealt with from a shell. It writes
decisions into the journal, where the saga's engine finds them; it never talks to an engine. Loaded
on demand.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import say_json, say_table
from mcpcore.saga import End, Head, Journal, Query, Remedy, State, Status, operations
from mcpcore.saga.journals.sqlite import SqliteJournal
from mcpcore.saga.records import Entry, Record, decode_entries
from mcpcore.saga.timeline import facts_of, printable, timeline

T = TypeVar("T")

app = typer.Typer(
    name="saga",
    help="Look at sagas, and decide about those that wait for somebody.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The saga.")]
JournalFile = Annotated[
    str,
    typer.Option(
        "--journal", "-j", metavar="FILE", envvar="MCPCTL_SAGA_JOURNAL", show_default=False,
        help="A journal in an SQLite file; without it, the cluster's.",
    ),
]  # fmt: skip
Group = Annotated[str, typer.Option("--group", "-g", metavar="NAME", help="The cluster's group.")]
Note = Annotated[
    str, typer.Option("--note", metavar="TEXT", show_default=False, help="For later readers.")
]


class How(StrEnum):
    """How a saga is ended by hand."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"


@app.command("list")
@on_cluster
def list_(
    cluster: ClusterOptions,
    journal: JournalFile = "",
    group: Group = "main",
    status: Annotated[
        list[Status] | None, typer.Option("--status", "-s", help="Only these; may be repeated.")
    ] = None,
    definition: Annotated[
        str, typer.Option(metavar="NAME", show_default=False, help="Only of this definition.")
    ] = "",
    older_than_s: Annotated[
        float,
        typer.Option("--older-than", metavar="SECONDS", min=0, show_default=False,
                     help="Only those that began so long ago."),
    ] = 0.0,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many at most, the oldest first.")
    ] = 100,
    output: OutputOption = Output.TABLE,
) -> None:  # fmt: skip
    """List sagas, the oldest first.

    Example: mcpctl saga list --journal sagas.db --status parked
    """
    before_ns = time.time_ns() - round(older_than_s * 1e9) if older_than_s else None
    query = Query(
        status=tuple(status or ()), definition=definition, started_before_ns=before_ns, limit=limit
    )
    heads = _in_journal(cluster, journal, group, lambda found: found.heads(query))
    for head in heads if output is not Output.TABLE else ():
        if output is Output.JSON:
            say_json({**head._asdict(), "status": str(head.status)})
        else:
            typer.echo(f"{head.saga}\t{head.status}")
    if output is Output.TABLE and heads:
        say_table(("saga", "status", "definition", "started", "for", "engine"), map(_row, heads))


@app.command()
@on_cluster
def show(
    cluster: ClusterOptions,
    saga: Id,
    journal: JournalFile = "",
    group: Group = "main",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where a saga stands: its steps, its errors, and what can be done.

    Example: mcpctl saga show peering-7 --journal sagas.db
    """
    state = _in_journal(cluster, journal, group, lambda j: operations.read_state(j, saga))
    if output is Output.JSON:
        say_json(_plain(facts_of(state)))
        return
    begun = state.begun
    typer.echo(f"{saga}: {state.status}, {begun.definition} {state.version}")
    typer.echo(f"input   {begun.input!r}")
    typer.echo(f"engine  {state.owner}")
    if state.why:
        typer.echo(f"why     {printable(state.why)}")
    if state.note:
        typer.echo(f"note    {printable(state.note)} ({state.ended_by})")
    rows = [
        (name, st.phase, st.undo if state.turned else "-", printable(st.undo_error or st.error))
        for name, st in state.steps.items()
    ]
    if rows:
        say_table(("step", "done", "undone", "error"), rows)
    if state.parked is not None:
        typer.echo(
            f"\nIt waits for somebody: {state.parked.why}: {', '.join(state.stuck)}.\n"
            f"  mcpctl saga retry {saga}     try that again\n"
            f"  mcpctl saga skip {saga}      count that as done, and go on\n"
            f"  mcpctl saga resolve {saga}   end it: things have been put right by hand"
        )


@app.command("timeline")
@on_cluster
def timeline_(
    cluster: ClusterOptions,
    saga: Id,
    journal: JournalFile = "",
    group: Group = "main",
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell everything that happened to a saga, in order.

    Example: mcpctl saga timeline peering-7 --journal sagas.db
    """

    async def read(found: Journal) -> list[Entry]:
        await operations.read_state(found, saga)  # says what is wrong, if it cannot be read
        story = await found.read(saga)
        return [] if story is None else decode_entries(story.rows)

    lines = timeline(_in_journal(cluster, journal, group, read))
    if output is Output.JSON:
        for line in lines:
            say_json(line._asdict())
    elif output is Output.PLAIN:
        for line in lines:
            typer.echo(f"{line.since_ns / 1e9:.3f}\t{line.kind}\t{line.text}")
    else:
        say_table(("at s", "what"), [(f"{each.since_ns / 1e9:8.3f}", each.text) for each in lines])


@app.command()
@on_cluster
def retry(
    cluster: ClusterOptions, saga: Id, journal: JournalFile = "", group: Group = "main",
    note: Note = "", output: OutputOption = Output.PLAIN,
) -> None:  # fmt: skip
    """Have a parked saga try again what it is stuck at.

    Example: mcpctl saga retry peering-7 --note "quota raised" --journal sagas.db
    """
    _decide(
        cluster, journal, group, saga, output,
        lambda state: operations.unpark(state, Remedy.RETRY, by=_who(), note=note),
    )  # fmt: skip


@app.command()
@on_cluster
def skip(
    cluster: ClusterOptions, saga: Id, journal: JournalFile = "", group: Group = "main",
    note: Note = "", output: OutputOption = Output.PLAIN,
) -> None:  # fmt: skip
    """Count what a parked saga is stuck at as done, and let it go on.

    Example: mcpctl saga skip peering-7 --note "removed the route by hand" --journal sagas.db
    """
    _decide(
        cluster, journal, group, saga, output,
        lambda state: operations.unpark(state, Remedy.SKIP, by=_who(), note=note),
    )  # fmt: skip


@app.command()
@on_cluster
def resolve(
    cluster: ClusterOptions,
    saga: Id,
    how: Annotated[How, typer.Argument(show_default=False, help="What it counts as.")],
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", show_default=False, help="What was done.")
    ],
    journal: JournalFile = "",
    group: Group = "main",
    force: Annotated[bool, typer.Option("--force", help="Even if it is not parked.")] = False,
    output: OutputOption = Output.PLAIN,
) -> None:
    """End a parked saga: somebody has put things right by hand.

    Example: mcpctl saga resolve peering-7 compensated --note "both sides removed" -j sagas.db
    """
    _decide(
        cluster, journal, group, saga, output,
        lambda state: operations.resolve(state, End(how), by=_who(), note=note, force=force),
    )  # fmt: skip


@app.command()
@on_cluster
def cancel(
    cluster: ClusterOptions, saga: Id, journal: JournalFile = "", group: Group = "main",
    why: Annotated[str, typer.Option(metavar="TEXT", show_default=False, help="Why.")] = "",
    output: OutputOption = Output.PLAIN,
) -> None:  # fmt: skip
    """Have a running saga undone.

    Example: mcpctl saga cancel peering-7 --why "wrong region" --journal sagas.db
    """
    _decide(
        cluster, journal, group, saga, output,
        lambda state: operations.cancel(state, by=_who(), why=why),
    )  # fmt: skip


# --- Inside -------------------------------------------------------------------------------------


def _in_journal(
    options: ClusterOptions, file: str, group: str, work: Callable[[Journal], Awaitable[T]]
) -> T:
    """Do some work with a journal: of a file, or of a cluster."""
    import asyncio

    async def in_file() -> T:
        journal = SqliteJournal(file, must_exist=True)
        try:
            return await work(journal)
        finally:
            await journal.close()

    async def in_cluster() -> T:
        from mcpcore.ctl.profile import find_profile
        from mcpcore.node.sagas import GroupJournal

        profile = find_profile(options)
        async with profile.client() as client:
            return await work(GroupJournal(client, group, call_s=options.timeout_s))

    return asyncio.run(in_file() if file else in_cluster())


def _decide(
    options: ClusterOptions,
    file: str,
    group: str,
    saga: str,
    output: Output,
    make: Callable[[State], Record],
) -> None:
    def entry(record: Record) -> Entry:
        return Entry(record, time.time_ns())

    state = _in_journal(options, file, group, lambda j: operations.write(j, saga, make, entry))
    if output is Output.JSON:
        say_json({"saga": saga, "status": str(state.status)})
    else:
        asked = " (asked for; its engine goes on from here)" if not state.status.is_end else ""
        typer.echo(f"{saga}: {state.status}{asked}")


def _row(head: Head) -> tuple[Any, ...]:
    started = datetime.fromtimestamp(head.started_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    lasted_s = (head.changed_ns - head.started_ns) / 1e9
    return head.saga, head.status, head.definition, started, f"{lasted_s:.1f} s", head.owner


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return "an operator"


def _plain(value: Any) -> Any:
    """Values of a saga as JSON can have them: bytes as text, what is not UTF-8 spelled out."""

    def text(each: bytes) -> str:
        return each.decode(errors="backslashreplace")

    return json.loads(json.dumps(value, default=text))
