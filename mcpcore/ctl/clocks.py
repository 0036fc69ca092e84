"""`mcpctl clocks`: every node's clock against the cluster's time, as it and the others see it.

This module exists so that "whose clock is wrong?" has one command for an answer. It shows what the
nodes say; what counts as wrong is decided in ``mcpcore.clock``. It is loaded for `--help`, so what
talks to a cluster is imported late.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.ctl.status import Shape, Survey

_HEADINGS = ("node", "clock", "offset ms", "± ms", "skew ppm", "steps", "refused", "remarks")


@on_cluster
def clocks(
    cluster: ClusterOptions,
    output: Annotated[Shape, typer.Option("--output", "-o", help="How to show it.")] = Shape.TABLE,
) -> None:
    """Show every node's clock against the cluster's time.

    Offsets are to what a majority of clocks agrees on; ahead is positive. Exit status 1 if a node
    does not answer, or its clock is not fit for leases.

    Example: mcpctl clocks
    """
    import asyncio

    from mcpcore.ctl.output import say_json, say_table
    from mcpcore.ctl.profile import find_profile

    async def ask() -> list[dict[str, Any]]:
        async with Survey(find_profile(cluster, administers=True)) as survey:
            return [
                {"node": account.name or account.endpoint, "error": account.error}
                if account.status is None
                else {"node": account.status["node"], **account.status["clock"]}
                for account in await survey.ask()
            ]

    told = asyncio.run(ask())
    if output is Shape.JSON:
        say_json(told)
    else:
        say_table(_HEADINGS, [_line(clock, told) for clock in told])
    if not all(clock.get("may_lease") for clock in told):
        raise typer.Exit(ExitCode.NO)


def _line(clock: dict[str, Any], told: list[dict[str, Any]]) -> tuple[object, ...]:
    node = clock["node"]
    if "view" not in clock:
        return (node, "unreachable", "", "", "", "", "", clock["error"])
    own = next(row for row in clock["view"] if row["node"] == node)
    doubters = [
        other["node"]
        for other in told
        for row in other.get("view", ())
        if row["node"] == node and row["verdict"] == "false"
    ]
    refused = sum(
        row["refusals"] for other in told for row in other.get("view", ()) if row["node"] == node
    )
    remarks = [] if clock["may_lease"] else list(clock["reasons"])
    if doubters:
        remarks.append(f"called false by {', '.join(doubters)}")
    return (
        node,
        clock["state"],
        _number(own["offset_ns"], 1e6),
        _number(own["uncertainty_ns"], 1e6),
        _number(own["skew_ppm"], 1),
        own["steps"],
        refused,
        "; ".join(remarks),
    )


def _number(value: float | None, unit: float) -> str:
    return "unknown" if value is None else f"{value / unit:.3f}"
