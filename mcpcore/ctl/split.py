"""`mcpctl split`: why each node thinks of a group what it thinks, and every change as it comes.

This module exists so that an operator who reads `read_only` or `split` has the evidence, what the
members' views together say about the network, and what to do, in one answer. It repeats; it must
never judge. What talks to a cluster is imported late.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.options import ClusterOptions, Output, OutputOption, on_cluster
from mcpcore.ctl.output import readable, say_json

if TYPE_CHECKING:
    from mcpcore.ctl.profile import Profile
    from mcpcore.node.client.verdicts import VerdictTold

app = typer.Typer(
    no_args_is_help=True, help="Ask each node whether a group is split, why, and what to do."
)

ADVICE: Final = {
    "healthy": "nothing",
    "suspect": "look again in a moment; it may be nothing",
    "rejoining": "wait: it is catching up, and service is back through the leader",
    "read_only": "look at the links to the members that are not heard; write to the side with a "
    "quorum; it comes back by itself",
    "split": "as for read_only, and compare the members' views: what this side holds beyond its "
    "commit index may be taken back (see the quarantine afterwards)",
    "intervention": "read the plan of the reunion and answer it: this member catches up only then",
}
"""What to do about each verdict."""
_REFUSING: Final = ("read_only", "split", "intervention")


@app.command()
@on_cluster
def explain(
    cluster: ClusterOptions,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group.")] = "main",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every node's verdict on a group: evidence beside its limits, history, what to do.

    Exit status 1 if a node refuses writes, or does not answer.

    Example: mcpctl split explain main
    """
    import asyncio

    from mcpcore.ctl.profile import find_profile

    answers = asyncio.run(_ask(find_profile(cluster, administers=True), group))
    told = {node: answer for node, answer in answers.items() if isinstance(answer, dict)}
    views = _views(told)
    if output is Output.JSON:
        silent = {node: str(answer) for node, answer in answers.items() if node not in told}
        say_json({"group": group, "nodes": told, "silent": silent, "views": views})
    else:
        for node, answer in answers.items():
            _say(node, answer)
        for line in views:
            typer.echo(f"views: {line}")
    refusing = [
        node
        for node, answer in told.items()
        if answer["verdict"] and answer["verdict"]["state"] in _REFUSING
    ]
    if refusing or len(told) < len(answers):
        raise typer.Exit(ExitCode.NO)


@app.command()
@on_cluster
def watch(
    cluster: ClusterOptions,
    group: Annotated[
        str,
        typer.Option("--group", "-g", metavar="NAME", help="Only this group."),
    ] = "",
    output: OutputOption = Output.PLAIN,
) -> None:
    """Print every change of every node's verdicts, until Ctrl-C.

    First what is not well already. With -o json one object to a line, with the evidence.

    Example: mcpctl split watch -o json
    """
    import asyncio

    from mcpcore.ctl.profile import find_profile

    asyncio.run(_watch(find_profile(cluster), group, output))


async def _ask(profile: Profile, group: str) -> dict[str, Any]:
    from mcpcore.node.requests import Op

    async with profile.client(administers=True) as client:
        answers = await client.ask_each(Op.VERDICT, group, timeout_s=min(3.0, profile.timeout_s))
        names = {str(endpoint.address): endpoint.node for endpoint in client.endpoints}
    return {names[address] or address: answer for address, answer in answers.items()}


async def _watch(profile: Profile, group: str, output: Output) -> None:
    from contextlib import aclosing

    from mcpcore.node.client.verdicts import follow_verdicts

    async with (
        profile.client() as client,
        aclosing(follow_verdicts(client, group)) as changes,
    ):
        async for told in changes:
            typer.echo(json.dumps(told._asdict()) if output is Output.JSON else _line(told))


def _line(told: VerdictTold) -> str:
    if told.lost:
        return f"{told.node or told.endpoint}\tlost\t{_printable(told.lost)}"
    verdict = told.verdict
    more = f"\t(+{told.passed_over} not told)" if told.passed_over else ""
    words = _printable(verdict["sentence"])
    return f"{verdict['node']}\t{verdict['group']}\t{verdict['state']}\t{words}{more}"


def _views(told: dict[str, Any]) -> list[str]:
    from mcpcore.raft.views import View, compare_views

    views = [View.from_dict(answer["verdict"]) for answer in told.values() if answer["verdict"]]
    return compare_views(views).splitlines()


def _say(node: str, answer: Any) -> None:
    if not isinstance(answer, dict):
        typer.echo(f"{node}: no answer: {_printable(str(answer))}\n")
        return
    verdict = answer["verdict"]
    if verdict is None:
        typer.echo(f"{node}: no verdict: it is no member, or the group is out of service there\n")
        return
    words = _printable(verdict["sentence"])
    typer.echo(f"{node}: {verdict['state']} for {verdict['for_s']:.1f} s: {words}")
    typer.echo(f"  to do     {ADVICE[verdict['state']]}")
    hears = ", ".join(verdict["hears"]) or "nobody"
    heard_by = ", ".join(verdict["heard_by"]) or "nobody"
    typer.echo(f"  contact   hears {hears}; is heard by {heard_by}")
    for name, figure in verdict["evidence"].items():
        limit = "" if figure["limit"] is None else f" (limit {figure['limit']:g})"
        typer.echo(f"  evidence  {name} {figure['value']:g}{limit}")
    for trouble in verdict["trouble"]:
        typer.echo(f"  trouble   {_printable(trouble)}")
    for each in answer["history"]:
        typer.echo(f"  history   {each['ago_s']:.1f} s ago {each['state']}")
    typer.echo()


def _printable(text: str) -> str:
    return readable(text.encode("utf-8", "replace"), keep="\\")
