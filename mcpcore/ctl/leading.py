"""`mcpctl transfer-leader`: hand a group's leadership to another node, and see it arrive.

This module exists so that maintenance of a leader's machine costs no election timeout. It is loaded
for `--help`, so what talks to a cluster is imported late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.errors import OutcomeUnknown

if TYPE_CHECKING:
    from mcpcore.ctl.profile import Profile
    from mcpcore.node.client import Client

_LOOK_AGAIN_S = 0.05


@on_cluster
def transfer_leader(
    cluster: ClusterOptions,
    target: Annotated[
        str, typer.Argument(metavar="NODE", show_default=False, help="Who shall lead.")
    ],
    group: Annotated[
        str, typer.Option("--group", "-g", metavar="NAME", help="The group to be led.")
    ] = "main",
    wait: Annotated[
        bool, typer.Option(help="Return once NODE leads, or fail if it does not within --timeout.")
    ] = True,
) -> None:
    """Hand the leadership of a group to another node.

    Needs an administrator's certificate. With --wait, exit status 4 if the node has not been seen
    to lead in time.

    Example: mcpctl transfer-leader hangzhou --group main
    """
    import asyncio

    from mcpcore.ctl.profile import find_profile

    typer.echo(asyncio.run(_transfer(find_profile(cluster, administers=True), target, group, wait)))


async def _transfer(profile: Profile, target: str, group: str, wait: bool) -> str:
    import asyncio

    async with profile.client(administers=True) as client:
        await client.transfer_leadership(target, group=group)
        if not wait:
            return f"{target} was asked to lead {group}"
        try:
            async with asyncio.timeout(profile.timeout_s):
                while True:
                    term = await _term_led(client, target, group)
                    if term is not None:
                        return f"{target} leads {group} in term {term}"
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise OutcomeUnknown(
                f"group {group}: the hand-over to {target} has begun, and {target} was not seen to "
                f"lead within {profile.timeout_s:g} s; it may still. Look at `mcpctl status`"
            ) from None


async def _term_led(client: Client, target: str, group: str) -> int | None:
    """The term in which the target leads, as it says itself; None if it doesn't (yet)."""
    for told in (await client.status(timeout_s=2.0)).values():
        if isinstance(told, dict) and told["node"] == target:
            replica = told["groups"].get(group)
            if replica is not None and replica["role"] == "leader":
                return int(replica["term"])
    return None
