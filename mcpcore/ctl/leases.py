"""`mcpctl lease`: leases, on which keys hang that are to go with whoever holds them.

This module exists so that `put --lease` has something to name. It is loaded on demand.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mcpcore.ctl.keys import Group, in_cluster
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import say_json
from mcpcore.node.kv.client import KeyValueClient

app = typer.Typer(
    name="lease",
    help="Grant, renew and revoke leases: keys that hang on one go when it ends.",
    no_args_is_help=True,
)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, show_default=False, help="The lease.")]


@app.command()
@on_cluster
def grant(
    cluster: ClusterOptions,
    ttl_s: Annotated[
        float,
        typer.Argument(
            metavar="SECONDS", min=0.001, show_default=False, help="How long it lives unrenewed."
        ),
    ],
    group: Group = "main",
    output: OutputOption = Output.PLAIN,
) -> None:
    """Make a lease and print its id.

    Example: mcpctl put service/a up --lease $(mcpctl lease grant 30)
    """

    async def work(kv: KeyValueClient) -> int:
        return await kv.lease_grant(ttl_s)

    lease = in_cluster(cluster, group, work)
    if output is Output.JSON:
        say_json({"lease": lease, "ttl_s": ttl_s})
    else:
        typer.echo(str(lease))


@app.command()
@on_cluster
def keep_alive(
    cluster: ClusterOptions, lease: Id, group: Group = "main", output: OutputOption = Output.PLAIN
) -> None:
    """Let a lease run in full again.

    Example: mcpctl lease keep-alive 17
    """

    async def work(kv: KeyValueClient) -> float:
        return await kv.lease_keep_alive(lease)

    ttl_s = in_cluster(cluster, group, work)
    if output is Output.JSON:
        say_json({"lease": lease, "ttl_s": ttl_s})
    else:
        typer.echo(f"lease {lease} ends in {ttl_s:g} s, unless it is renewed")


@app.command()
@on_cluster
def revoke(
    cluster: ClusterOptions, lease: Id, group: Group = "main", output: OutputOption = Output.PLAIN
) -> None:
    """End a lease; the keys that hang on it go at once.

    Example: mcpctl lease revoke 17
    """

    async def work(kv: KeyValueClient) -> int:
        return await kv.lease_revoke(lease)

    count = in_cluster(cluster, group, work)
    if output is Output.JSON:
        say_json({"lease": lease, "deleted": count})
    else:
        typer.echo(f"lease {lease} ended, and {count} {'key' if count == 1 else 'keys'} with it")
