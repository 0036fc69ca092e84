"""`mcpctl top`: the cluster in a terminal, all the time.

This module exists so that the live page has a twin where there is no browser. What is shown is
worked out in ``mcpcore.observe.picture``; here it only gets its place on 80 columns and 24 rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.options import ClusterOptions, on_cluster

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mcpcore.ctl.profile import Profile
    from mcpcore.observe.picture import Advice, GroupPicture, LinkPicture, NodePicture, Picture

app = typer.Typer()

_LEVEL = {"good": "black on green", "warn": "black on yellow", "bad": "white on red"}
_VERDICT = {"healthy": "green", "suspect": "yellow", "rejoining": "yellow"}
_AROUND = 7
"""Rows that headings, rules and the banner take."""


@app.command()
@on_cluster
def top(
    cluster: ClusterOptions,
    interval_s: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="How often to ask.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one screen, and end.")] = False,
    max_lag: Annotated[
        int, typer.Option(metavar="ENTRIES", min=0, help="From when on a lag is a problem.")
    ] = 100,
) -> None:
    """Watch the cluster in this terminal until Ctrl-C: what is wrong, nodes, links, groups.

    Groups that are not well come first, then those that are busiest.

    Example: mcpctl top --interval 2
    """
    import asyncio
    from contextlib import suppress

    from mcpcore.ctl.profile import find_profile

    profile = find_profile(cluster, administers=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(profile, interval_s, max_lag, once=once))


async def _run(profile: Profile, interval_s: float, max_lag: int, *, once: bool) -> None:
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from mcpcore.observe.asking import NodeAsker
    from mcpcore.observe.watcher import Watcher

    askers = [
        NodeAsker(each, name, lambda a: profile.client(administers=True, addresses=(a,)))
        for each, name in profile.endpoints.items()
    ]
    asks = {asker.endpoint: asker.ask for asker in askers}
    console, rates = Console(), Rates()
    try:
        async with Watcher(profile.cluster, asks, interval_s=interval_s, lag_max=max_lag) as seen:
            if once:
                picture = await seen.asked()
                console.print(screen(picture, rates, console.width, 10_000), end="")
                return
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    picture = await seen.after(seen.number)
                    rates.learn(picture, asyncio.get_running_loop().time())
                    live.update(screen(picture, rates, console.width, console.height), refresh=True)
    finally:
        await asyncio.gather(*(asker.close() for asker in askers))


class Rates:
    """Writes per second of each group, from two pictures."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}
        self.by_group: dict[str, float] = {}

    def learn(self, picture: Picture, now_s: float) -> None:
        """One more picture, taken at ``now_s`` of a monotonic clock."""
        for group in picture.groups:
            when_s, commit = self._before.get(group.name, (now_s, group.commit))
            if now_s > when_s:
                self.by_group[group.name] = max(0.0, (group.commit - commit) / (now_s - when_s))
            self._before[group.name] = (now_s, group.commit)


def screen(picture: Picture, rates: Rates, width: int, height: int) -> RenderableType:
    """One screen of it.

    Args:
        width, height: of the terminal; what has no room is counted and left out.
    """
    from rich.console import Group
    from rich.text import Text

    room = height - _AROUND - len(picture.nodes)
    advice = list(picture.advice)[: max(1, min(5, room // 2))]
    said = _said(advice, len(picture.advice) - len(advice))
    cut = [link for link in picture.links if not (link.there and link.back)][:4]
    room -= sum(1 + bool(each.do) for each in advice) + len(cut) + (len(picture.advice) > 5)
    banner = f" {picture.cluster}: {picture.headline}".ljust(width)[:width]
    parts: list[RenderableType] = [Text(banner, style=f"bold {_LEVEL[picture.level]}"), *said]
    parts += [_nodes(picture.nodes), *(Text(f" {_link(link)}", style="red") for link in cut)]
    parts.append(_groups(picture.groups, rates, max(3, room)))
    return Group(*parts)


def _said(advice: Iterable[Advice], more: int) -> list[RenderableType]:
    from rich.text import Text

    said: list[RenderableType] = []
    for each in advice:
        style = "bold red" if each.bad else "yellow"
        said.append(Text(f" ! {each.text}", style=style, no_wrap=True, overflow="ellipsis"))
        if each.do:
            said.append(Text(f"   {each.do}", style="dim", no_wrap=True, overflow="ellipsis"))
    if more:
        said.append(Text(f"   and {more} more: mcpctl status", style="dim"))
    return said


def _link(link: LinkPicture) -> str:
    if link.there is None and link.back is None:
        return f"{link.a} - {link.b}: not known, neither answers"
    if link.there or link.back:
        believer, other = (link.a, link.b) if link.there else (link.b, link.a)
        silent = link.back if link.there else link.there
        return f"{link.a} - {link.b}: only {believer} says so" + (
            f", {other} does not answer" if silent is None else ""
        )
    return f"{link.a} - {link.b}: cut"


def _nodes(nodes: Iterable[NodePicture]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column("NODE", no_wrap=True)
    table.add_column("ZONE", no_wrap=True)
    for name in ("LEADS", "LAG", "SYNC", "CLOCK"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, ratio=1)
    for node in nodes:
        if not node.up:
            silent = Text(f"silent: {node.error}", style="bold red", overflow="ellipsis")
            table.add_row(node.name, node.zone, "", "", "", "", silent)
            continue
        offset, spread = node.clock_offset_ms, node.clock_uncertainty_ms
        clock = node.clock if offset is None else f"{offset:+.1f}±{spread or 0:.1f} ms"
        disk = "" if node.disk == "well" else f"disk {node.disk}"
        table.add_row(
            node.name, node.zone, f"{node.leads:,}/{node.groups:,}", f"{node.lag:,}",
            f"{node.sync_ms:.1f} ms", clock, Text(disk, style="bold red"),
        )  # fmt: skip
    return table


def _groups(groups: tuple[GroupPicture, ...], rates: Rates, room: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def first(group: GroupPicture) -> tuple[bool, bool, float, str]:
        rate = rates.by_group.get(group.name, 0.0)
        return (group.verdict == "healthy", bool(group.leaders), -rate, group.name)

    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column("GROUP", no_wrap=True, ratio=1)
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("LEADER", no_wrap=True)
    for name in ("TERM", "COMMIT", "WRITES/S", "LAG"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = sorted(groups, key=first)[:room]
    for group in shown:
        rate = rates.by_group.get(group.name, 0.0)
        leader = Text(", ".join(group.leaders) or "nobody", style="" if group.leaders else "red")
        verdict = Text(
            group.verdict.replace("_", "-"), style=_VERDICT.get(group.verdict, "bold red")
        )
        table.add_row(
            group.name, verdict, leader, str(group.term), f"{group.commit:,}",
            f"{rate:,.0f}" if rate else "", f"{group.lag:,}" if group.lag else "",
        )  # fmt: skip
    if len(shown) == len(groups):
        return table
    return Group(table, Text(f" and {len(groups) - len(shown):,} more groups", style="dim"))
