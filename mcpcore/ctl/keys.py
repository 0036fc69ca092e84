"""`mcpctl put`, `get`, `cas`, `delete`, `scan`, `watch`: keys and values from a shell.

This module exists so that a person, or a script, can use the key-value machine without writing a
program. It is loaded for `--help`: what talks to a cluster is imported by ``in_cluster`` alone.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Never, TypeVar

import typer

from mcpcore.ctl import ages
from mcpcore.ctl.ages import MaxAge, StaleFlag
from mcpcore.ctl.exits import ExitCode, complain
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import as_json, readable, say_bytes, say_json, say_table
from mcpcore.errors import InvalidInput

if TYPE_CHECKING:
    from mcpcore.node.kv.client import KeyValueClient
    from mcpcore.node.kv.records import Event, KeyValue

T = TypeVar("T")

Key = Annotated[str, typer.Argument(metavar="KEY", show_default=False, help="The key.")]
Group = Annotated[str, typer.Option("--group", "-g", metavar="NAME", help="The group.")]
Lease = Annotated[
    int,
    typer.Option(
        "--lease", metavar="ID", min=0, show_default=False,
        help="Hang the key on a lease: it goes when the lease ends.",
    ),
]  # fmt: skip


class Reading(StrEnum):
    """What a read may miss; ``mcpcore.node.group.Consistency`` says it in full."""

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    STALE = "stale"


Consistency = Annotated[
    Reading,
    typer.Option(
        "--consistency",
        help="linearizable: misses nothing. lease: the same while clocks keep their rate, from "
        "the leader alone. stale: from any node, may be old.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Put these commands into an app."""
    for command in (put, get, cas, delete, scan, watch):
        app.command()(command)


def in_cluster(
    options: ClusterOptions, group: str, work: Callable[[KeyValueClient], Awaitable[T]]
) -> T:
    """Connect, do some work with keys and values, and hang up."""
    import asyncio

    from mcpcore.ctl.profile import find_profile
    from mcpcore.node.kv.client import KeyValueClient

    profile = find_profile(options)

    async def run() -> T:
        async with profile.client() as client:
            return await work(KeyValueClient(client, group))

    return asyncio.run(run())


@on_cluster
def put(
    cluster: ClusterOptions,
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", show_default=False, help="The value; - reads stdin.")
    ],
    lease: Lease = 0,
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:
    """Set a key.

    Example: mcpctl put policy/edge deny-all
    """
    content = _value(value)

    async def work(kv: KeyValueClient) -> int:
        return await kv.put(os.fsencode(key), content, lease=lease)

    _say_revision(in_cluster(cluster, group, work), output)


@on_cluster
def get(
    cluster: ClusterOptions,
    key: Key,
    consistency: Consistency = Reading.LINEARIZABLE,
    stale: StaleFlag = False,
    max_age: MaxAge = "",
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:
    """Print the value of a key.

    Into a pipe or a file go exactly its bytes. With --stale, how old they may be goes to stderr.
    Exit status 1 if there is no such key.

    Example: mcpctl get policy/edge --stale --max-age 2s
    """
    age_s = ages.max_age_s(max_age)
    told: dict[str, Any] = {}
    if age_s is not None and not stale:
        raise InvalidInput("says how old an answer may be", where="--max-age", remedy="Add --stale")

    async def work(kv: KeyValueClient) -> KeyValue | None:
        from mcpcore.node.group import Consistency

        if not stale:
            return await kv.get(os.fsencode(key), consistency=Consistency(consistency))
        found = await kv.get_stale(os.fsencode(key), max_age_s=age_s)
        told.update(ages.as_json(found.bound))
        if output is not Output.JSON:
            typer.echo(f"mcpctl: {ages.in_words(found.bound)}", err=True)
        return found.record

    record = in_cluster(cluster, group, work)
    if record is None:
        _no(f"there is no key {key!r} in group {group}")
    if output is Output.PLAIN:
        say_bytes(record.value)
    elif output is Output.JSON:
        say_json(_json(record) | told)
    else:
        say_table(_HEADINGS, [_row(record)])


@on_cluster
def cas(
    cluster: ClusterOptions,
    key: Key,
    new: Annotated[
        str | None,
        typer.Argument(metavar="[NEW]", show_default=False, help="The new value; - reads stdin."),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(metavar="VALUE", show_default=False, help="Only if this is the value."),
    ] = None,
    expect_revision: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False,
                     help="Only if the key was last changed at this revision."),
    ] = None,
    absent: Annotated[bool, typer.Option("--absent", help="Only if there is no such key.")] = False,
    remove: Annotated[
        bool, typer.Option("--delete", help="Remove the key in the place of setting it.")
    ] = False,
    lease: Lease = 0,
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:  # fmt: skip
    """Set or remove a key if it is as expected.

    Exit status 1 if it is not, and then nothing was changed.

    Example: mcpctl cas lock worker-1 --absent
    """
    if (expect is not None) + (expect_revision is not None) + absent != 1:
        raise InvalidInput(
            "it must be said what is expected, in one way",
            where="mcpctl cas",
            remedy="Give one of --expect VALUE, --expect-revision N and --absent",
        )
    if (new is None) is not remove or (remove and (absent or lease)):
        raise InvalidInput(
            "it must be said what is to become of the key, in one way",
            where="mcpctl cas",
            remedy="Give NEW; or --delete alone, which goes with neither --absent nor --lease",
        )
    expected = expect_revision if expect is None else os.fsencode(expect)
    content = None if new is None else _value(new)

    async def work(kv: KeyValueClient) -> tuple[int, bool, KeyValue | None]:
        from mcpcore.node.kv.results import Swapped

        done = await kv.compare_and_set(
            os.fsencode(key), expected=expected, value=content, lease=lease
        )
        if isinstance(done, Swapped):
            return done.revision, True, None
        return done.revision, False, done.current

    revision, swapped, current = in_cluster(cluster, group, work)
    if swapped:
        _say_revision(revision, output)
        return
    if output is Output.JSON:
        say_json({"swapped": False, "current": None if current is None else _json(current)})
    if current is None:
        _no(f"{key!r} is not as expected: there is no such key; nothing was changed")
    _no(
        f"{key!r} is not as expected: its value is '{readable(current.value[:200])}', since "
        f"revision {current.mod_revision}; nothing was changed"
    )


@on_cluster
def delete(
    cluster: ClusterOptions,
    key: Key,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Remove every key that starts with KEY.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With --prefix: KEY may be empty, every key goes.")
    ] = False,
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:
    """Remove a key, or all keys with a prefix.

    Exit status 1 if there was none.

    Example: mcpctl delete policy/ --prefix
    """
    if prefix and not key and not everything:
        raise InvalidInput(
            "an empty prefix would remove every key",
            where="mcpctl delete --prefix",
            remedy="If that is what you want, add --all",
        )

    async def work(kv: KeyValueClient) -> int:
        if prefix:
            return await kv.delete_prefix(os.fsencode(key))
        return int(await kv.delete(os.fsencode(key)))

    count = in_cluster(cluster, group, work)
    if output is Output.JSON:
        say_json({"deleted": count})
    elif count:
        typer.echo(f"deleted {count} {'key' if count == 1 else 'keys'}")
    if not count:
        _no(f"there is no key {'that starts with ' if prefix else ''}{key!r} in group {group}")


@on_cluster
def scan(
    cluster: ClusterOptions,
    prefix: Annotated[
        str,
        typer.Argument(metavar="[PREFIX]", show_default=False, help="What the keys start with."),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False, help="So many records at most."),
    ] = None,
    consistency: Consistency = Reading.LINEARIZABLE,
    group: Group = "main",
    output: OutputOption = Output.TABLE,
) -> None:
    """List records in the order of their keys.

    With -o plain there is one line for each: the key, a tab, the value.

    Example: mcpctl scan policy/ --limit 20
    """
    rows: list[tuple[Any, ...]] = []

    async def work(kv: KeyValueClient) -> None:
        from mcpcore.node.group import Consistency

        found = kv.scan(os.fsencode(prefix), limit=limit, consistency=Consistency(consistency))
        async for record in found:
            if output is Output.JSON:
                say_json(_json(record))
            elif output is Output.PLAIN:
                typer.echo(f"{readable(record.key)}\t{readable(record.value)}")
            else:
                rows.append(_row(record))

    in_cluster(cluster, group, work)
    if rows:
        say_table(_HEADINGS, rows)


@on_cluster
def watch(
    cluster: ClusterOptions,
    key: Key,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Follow every key that starts with KEY.")
    ] = False,
    from_revision: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False,
                     help="Begin with the change of this revision; else with the next one."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False, help="End after so many changes."),
    ] = None,
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:  # fmt: skip
    """Print changes as they happen, until Ctrl-C.

    Each change comes once and in order, whichever nodes fail meanwhile.

    Example: mcpctl watch policy/ --prefix -o json
    """

    async def work(kv: KeyValueClient) -> None:
        after = None if from_revision is None else from_revision - 1
        left = count
        async for event in kv.watch(os.fsencode(key), prefix=prefix, after_revision=after):
            _say_event(event, output)
            left = None if left is None else left - 1
            if left == 0:
                return

    in_cluster(cluster, group, work)


# --- Inside -------------------------------------------------------------------------------------

_HEADINGS = ("key", "value", "created", "changed", "version", "lease")


def _row(record: KeyValue) -> tuple[Any, ...]:
    return (readable(record.key), readable(record.value), *record[2:])


def _json(record: KeyValue) -> dict[str, Any]:
    return {
        **as_json("key", record.key),
        **as_json("value", record.value),
        "create_revision": record.create_revision,
        "mod_revision": record.mod_revision,
        "version": record.version,
        "lease": record.lease,
    }


def _say_event(event: Event, output: Output) -> None:
    record = event.record
    kind = event.kind.name.lower()
    if output is Output.JSON:
        told: dict[str, Any] = {"event": kind, "previous_revision": event.previous_revision}
        told |= _json(record)
        if kind == "delete":
            told = {name: told[name] for name in told if not name.startswith(("value", "create"))}
        say_json(told)
        return
    value = "" if kind == "delete" else f"\t{readable(record.value)}"
    typer.echo(f"{record.mod_revision}\t{kind}\t{readable(record.key)}{value}")


def _say_revision(revision: int, output: Output) -> None:
    if output is Output.JSON:
        say_json({"revision": revision})
    else:
        typer.echo(f"revision {revision}")


def _value(argument: str) -> bytes:
    if argument == "-":
        return typer.get_binary_stream("stdin").read()
    return os.fsencode(argument)


def _no(why: str) -> Never:
    """The answer is no."""
    complain(why)
    raise typer.Exit(ExitCode.NO)
