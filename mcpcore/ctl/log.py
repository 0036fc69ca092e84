"""`mcpctl log`: look at a stopped node's log, judge it, and repair it.

This module exists so that an operator with a damaged disk sees what is lost before anything is
changed. It asks and shows; what is known and what follows is decided in the node's storage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated

import typer

from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.output import readable, say_json
from mcpcore.errors import InvalidInput
from mcpcore.node.file_disk import FileDisk

app = typer.Typer(
    name="log",
    no_args_is_help=True,
    add_completion=False,
    help="Look at a stopped node's log, judge it, and repair it.",
)

Directory = Annotated[
    str, typer.Argument(metavar="DIR", help="The node's data directory.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on each line.")]


@app.command()
def verify(directory: Directory, as_json: AsJson = False) -> None:
    """Read a whole log, change nothing, and say how it is. Exit status 1 if it is damaged.

    Example: mcpctl log verify data/us-east-1
    """
    from mcpcore.node.repair import examine
    from mcpcore.node.storage.log_dump import require_log
    from mcpcore.node.storage.wal_recovery import verify as read

    with opened(directory) as disk:
        require_log(disk, directory)
        report = read(disk, directory)
        examined = None if report.corrupt is None else examine(disk, directory)
    if as_json:
        told = {
            "path": directory,
            "sound": report.corrupt is None,
            "segments": report.segments,
            "batches": report.batches,
            "entries": report.entries,
            "groups": report.groups,
            "sealed": report.sealed,
            "torn": None
            if report.torn is None
            else {"path": report.torn.path, "offset": report.torn.offset},
        }
        say_json(told if examined is None else {**told, "damage": examined.as_data()})
    elif examined is not None:
        typer.echo(f"{directory}: damaged")
        for line in examined.in_words():
            typer.echo(f"  {line}")
        typer.echo(f"What a repair would do: mcpctl log repair {directory} --plan")
    else:
        counts = f"{report.segments} segments, {report.batches} batches, {report.entries} entries"
        typer.echo(f"{directory}: sound; {counts}, {report.groups} groups")
        if report.torn is not None:
            typer.echo(
                f"  a torn tail of {report.torn.length_bytes} bytes at byte {report.torn.offset} "
                f"of {report.torn.path}: never acknowledged, the next start cuts it"
            )
    if report.corrupt is not None:
        raise typer.Exit(ExitCode.NO)


@app.command()
def dump(
    directory: Directory,
    group: Annotated[str, typer.Option(help="Only this group.")] = "",
    first: Annotated[
        int, typer.Option("--from", metavar="INDEX", min=0, help="No entries before this one.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many lines.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a log says, damage included, oldest first.

    Example: mcpctl log dump data/us-east-1 --group main --from 1000 --limit 20
    """
    from mcpcore.node.storage.log_dump import dump as read
    from mcpcore.node.storage.log_dump import require_log

    with opened(directory) as disk:
        require_log(disk, directory)
        for told in islice(read(disk, directory, group=group, first_index=first), limit):
            if as_json:
                say_json(told)
            else:
                typer.echo(_line(dict(told)))


@app.command()
def repair(
    directory: Directory,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. The node must not run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what of a damaged log is kept and lost; with --apply, write it anew.

    The damaged files are kept beside it. A node does the same when it starts.

    Example: mcpctl log repair data/us-east-1 --plan
    """
    import asyncio

    from mcpcore.node.repair import examine, mend_offline
    from mcpcore.node.storage.log_dump import require_log
    from mcpcore.node.storage.wal_recovery import verify as read

    if plan and apply:
        raise InvalidInput("--plan and --apply exclude each other", remedy="Look at the plan first")
    with opened(directory) as disk:
        require_log(disk, directory)
        if read(disk, directory).corrupt is None:
            if as_json:
                say_json({"path": directory, "sound": True})
            else:
                typer.echo(f"{directory}: sound, nothing to repair")
            return
        examined = examine(disk, directory)
        if apply:
            aside = asyncio.run(mend_offline(disk, directory))
    if as_json:
        say_json({"path": directory, "applied": apply, **examined.as_data()})
        return
    for line in examined.in_words():
        typer.echo(line)
    if apply:
        typer.echo(f"Done. The damaged files and a report are in {aside}.")
    else:
        typer.echo("Nothing was changed. --apply writes the log anew and keeps the damaged files.")


@contextmanager
def opened(directory: str) -> Iterator[FileDisk]:
    """A disk to read a stopped node's files; what the system refuses becomes one sentence.

    Raises:
        InvalidInput: a file cannot be read.
    """
    disk = FileDisk()
    try:
        yield disk
    except OSError as error:
        raise InvalidInput(
            f"cannot be read: {error.strerror}", where=str(error.filename or directory)
        ) from error
    finally:
        disk.close()


def _line(told: dict[str, object]) -> str:
    what = str(told.pop("what"))
    place = f"{told.pop('segment')}/{told.pop('batch')}"
    group = str(told.pop("group", ""))
    if what == "entry":
        what = f"{told.pop('index')}@{told.pop('term')} {told.pop('kind')}"
    rest = " ".join(f"{key}={_value(value)}" for key, value in told.items())
    return f"{place:<8} {readable(group.encode()):<12} {what:<16} {rest}".rstrip()


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return readable(text.encode("utf-8", "backslashreplace"), keep="\\")
