"""`mcpctl backup` and `mcpctl restore`: a group's state as a file, and a new cluster from one.

This module exists so that a copy of the state outlives every machine of its cluster. A backup is a
snapshot file as members send it to each other; what is in it is decided in ``mcpcore.node.backup``.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.log import opened
from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.ctl.output import say_json
from mcpcore.errors import InvalidInput

if TYPE_CHECKING:
    from mcpcore.ctl.profile import Profile
    from mcpcore.node.storage.snapshot_format import SnapshotHead

app = typer.Typer(
    name="backup", no_args_is_help=True, add_completion=False, help="Groups as files, and back."
)

File = Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="The backup.")]


@app.command()
@on_cluster
def take(
    cluster: ClusterOptions,
    group: Annotated[str, typer.Argument(metavar="GROUP", show_default=False, help="The group.")],
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="Where to.")],
) -> None:
    """Write the state of a group to a file, as one node has applied it.

    Needs an administrator's certificate. The file appears whole or not at all.

    Example: mcpctl backup take main main-2026-11-23.snap
    """
    import asyncio

    from mcpcore.ctl.profile import find_profile

    head = asyncio.run(_take(find_profile(cluster, administers=True), group, file))
    typer.echo(f"{file}: {_words(head)}")


async def _take(profile: Profile, group: str, file: str) -> SnapshotHead:
    from mcpcore.node.backup import head_from
    from mcpcore.node.storage.snapshot_files import SnapshotWriter

    if "/" not in file:
        file = f"./{file}"
    with opened(file) as disk:
        if disk.exists(file):
            raise InvalidInput("exists already", where=file, remedy="Name another file")
        async with (
            profile.client(administers=True) as client,
            aclosing(client.backup(group=group)) as pieces,
        ):
            head = head_from(await anext(pieces))
            writer = await SnapshotWriter.create(disk, f"{file}.part", head)
            try:
                async for piece in pieces:
                    assert isinstance(piece, bytes)
                    await writer.add(piece)
                return await writer.finish(file)
            finally:
                writer.close()
                if disk.exists(f"{file}.part"):
                    disk.remove(f"{file}.part")


@app.command()
def inspect(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="As one line of JSON.")] = False,
) -> None:
    """Read a whole backup, check every byte, and say what it is of.

    Example: mcpctl backup inspect main-2026-11-23.snap
    """
    from mcpcore.node.backup import open_backup

    with opened(file) as disk:
        reader = open_backup(disk, file)
        try:
            reader.verify()
        finally:
            reader.close()
    head = reader.head
    if as_json:
        say_json(
            {
                "cluster": head.cluster,
                "group": head.group,
                "term": head.position.term,
                "index": head.position.index,
                "voters": sorted(head.configuration.voters),
                "digest": head.digest.hex(),
                "created": _time(head),
                "payload_bytes": head.payload_bytes,
            }
        )
    else:
        typer.echo(f"{file}: sound; {_words(head)}")
        typer.echo(f"members then: {head.configuration}; digest {head.digest.hex()}")


@app.command()
def restore(
    file: File,
    data: Annotated[str, typer.Option(metavar="DIR", help="The new node's data directory.")],
    node: Annotated[str, typer.Option(metavar="NAME", help="The new node's name.")],
    as_new_cluster: Annotated[str, typer.Option(metavar="NAME", help="The new cluster's name.")],
    group: Annotated[str, typer.Option(help="The group's new name; by default its old one.")] = "",
) -> None:
    """Make a data directory from a backup: a group of one voter, in a cluster of its own.

    Then write a node.toml with that cluster, node, data and group, start it, and add members.

    Example: mcpctl backup restore main.snap --data data/a --node a --as-new-cluster demo2
    """
    import asyncio
    from random import SystemRandom

    from mcpcore.node.backup import restore as make
    from mcpcore.node.storage.contract import Identity
    from mcpcore.node.transport.transport import new_incarnation

    owner = Identity(as_new_cluster, node, new_incarnation(SystemRandom()))
    with opened(file) as disk:
        head = asyncio.run(make(disk, file, data, owner, group=group))
    typer.echo(
        f"{data}: {node} of {as_new_cluster} is the only voter of group {head.group}, at index "
        f"{head.position.index}"
    )


def _words(head: SnapshotHead) -> str:
    return (
        f"group {head.group} of {head.cluster} at index {head.position.index} of term "
        f"{head.position.term}, {head.payload_bytes} bytes, taken {_time(head)}"
    )


def _time(head: SnapshotHead) -> str:
    return datetime.fromtimestamp(head.created_ns / 1e9, UTC).isoformat(timespec="seconds")
