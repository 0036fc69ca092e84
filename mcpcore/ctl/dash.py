"""`mcpctl dash`: a live page of the cluster, served on loopback.

This module exists so that the page (``mcpcore.observe.dash``) is started as the user that the
command line names, and stops with Ctrl-C. What it shows and may do is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.options import ClusterOptions, on_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpcore.ctl.profile import Profile
    from mcpcore.observe.dash.actions import Action

app = typer.Typer()


@app.command()
@on_cluster
def dash(
    cluster: ClusterOptions,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to serve the page.")
    ] = "127.0.0.1:8740",
    interval_s: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="How often to ask.")
    ] = 0.5,
    allow_actions: Annotated[
        bool, typer.Option("--allow-actions", help="Let who has the printed address also act.")
    ] = False,
    max_lag: Annotated[
        int, typer.Option(metavar="ENTRIES", min=0, help="From when on a lag is a problem.")
    ] = 100,
) -> None:
    """Show a live page: who leads, who is cut off, what is wrong and what to do.

    It only looks, unless --allow-actions is given; then a plan is shown before anything is done.

    Example: mcpctl dash --listen 127.0.0.1:8740
    """
    import asyncio
    from contextlib import suppress

    from mcpcore.ctl.profile import find_profile

    profile = find_profile(cluster, administers=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(profile, listen, interval_s, max_lag, act=allow_actions))


async def _run(
    profile: Profile, listen: str, interval_s: float, max_lag: int, *, act: bool
) -> None:
    import asyncio
    import secrets

    from mcpcore.errors import InvalidInput
    from mcpcore.node.transport.addresses import Address

    try:
        from mcpcore.observe.asking import NodeAsker
        from mcpcore.observe.dash.actions import Desk
        from mcpcore.observe.dash.server import Page
        from mcpcore.observe.endpoint import HttpServer
        from mcpcore.observe.watcher import Watcher
    except ImportError as error:
        raise InvalidInput(
            f"a package that the page needs is not installed: {error.name}",
            remedy="pip install 'mcpcore[observe]'",
        ) from error

    address = Address.parse(listen, where="--listen", listening=True)
    askers = [
        NodeAsker(each, name, lambda a: profile.client(administers=True, addresses=(a,)))
        for each, name in profile.endpoints.items()
    ]
    token = secrets.token_urlsafe(18) if act else ""
    desk = Desk(_actions(profile), asyncio.get_running_loop().time) if act else None
    asks = {asker.endpoint: asker.ask for asker in askers}
    async with Watcher(profile.cluster, asks, interval_s=interval_s, lag_max=max_lag) as watcher:
        hosts = frozenset({address.host, "localhost"} if _is_loopback(address) else {address.host})
        page = Page(watcher, hosts=hosts, desk=desk, token=token)
        server = HttpServer(page.application(), address)
        await server.start()
        where = f"http://{server.address}/"
        typer.echo(f"{profile.cluster} at {where}{f'#token={token}' if token else ''}")
        typer.echo("Ctrl-C ends it.")
        try:
            await asyncio.Event().wait()
        finally:
            page.close()
            await server.close()
            await asyncio.gather(*(asker.close() for asker in askers))


def _is_loopback(address: object) -> bool:
    return str(address).startswith(("127.", "localhost", "[::1]"))


def _actions(profile: Profile) -> Mapping[str, Action]:
    from mcpcore.observe.dash.actions import Action, Given

    async def plan_transfer(given: Given) -> str:
        group, target = given.get("group", ""), given.get("target", "")
        return (
            f"Hand leadership of {group} to {target}.\n\nThe leader brings {target} up to date, "
            "then lets it stand for election. Writes wait for about a round trip; nothing is lost. "
            f"If {target} does not take over within an election timeout, all stays as it is."
        )

    async def transfer(given: Given) -> str:
        group, target = given.get("group", ""), given.get("target", "")
        async with profile.client(administers=True) as client:
            await client.transfer_leadership(target, group=group)
        return f"The leader of {group} has begun to hand over to {target}."

    return {"transfer": Action(plan_transfer, transfer)}
