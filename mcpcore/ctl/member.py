"""`mcpctl member`: who takes part in a group, shown and changed.

This module exists so that a change of membership is always seen before it is made: a plan with what
it does to quorums and zones, then a question, then each step until it has settled. What is planned
is decided in ``member_plan``; Raft has the last word.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mcpcore.ctl.exits import ExitCode, complain
from mcpcore.ctl.member_plan import (
    GroupView,
    Plan,
    plan_add,
    plan_demote,
    plan_promote,
    plan_remove,
    plan_replace,
    plan_zones,
    to_json,
    view_of,
)
from mcpcore.ctl.member_run import Surveyor, carry_out
from mcpcore.ctl.member_show import show_done, show_members, show_plan, show_progress
from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.ctl.output import say_json
from mcpcore.ctl.profile import Profile, find_profile
from mcpcore.errors import InvalidInput, UnknownGroup
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.identity import check_name

app = typer.Typer(
    no_args_is_help=True,
    help="Show and change who takes part in a group. Every change is shown before it is made.",
)

Name = Annotated[str, typer.Argument(metavar="NODE", show_default=False, help="The node.")]
GroupOption = Annotated[
    str, typer.Option("--group", "-g", metavar="NAME", help="The group concerned.")
]
AllGroups = Annotated[
    bool, typer.Option("--all-groups", help="Every group of the cluster, one after the other.")
]
AddressOption = Annotated[
    str,
    typer.Option("--address", metavar="HOST:PORT", help="Where the node listens for the others."),
]
ZoneOption = Annotated[
    str, typer.Option("--zone", metavar="NAME", help="The cloud, region or rack it stands in.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask: carry it out.")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Show the plan and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object to a line; never asks.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Override what is safe for consensus: an added learner that does not answer, one "
        "zone for all voters, a learner that is far behind.",
    ),
]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=1, help="How long it may take to settle.")
]

Planner = Callable[[GroupView, str], Plan]
"""Makes a plan out of a view and what hindered us from asking the candidate."""


@app.command("list")
@on_cluster
def list_members(
    cluster: ClusterOptions,
    group: Annotated[
        str, typer.Option("--group", "-g", metavar="NAME", help="Only this group.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the members of every group: role, lag, zone, address, and what is the matter.

    Nodes that run and wait to be added are named below the table.

    Example: mcpctl member list
    """
    profile = find_profile(cluster, administers=True)
    views = asyncio.run(_views(profile, group))
    if as_json:
        for view in views:
            say_json(_view_to_json(view))
    else:
        show_members(views)


@app.command()
@on_cluster
def add(
    cluster: ClusterOptions,
    name: Name,
    address: AddressOption,
    zone: ZoneOption = "",
    learner: Annotated[
        bool, typer.Option("--learner", help="It shall receive the log and not vote.")
    ] = False,
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    force: Force = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:
    """Add a node to a group: it catches up as a learner, then votes.

    The node must run, with the group in its file and without --bootstrap. The same command again
    takes up what was interrupted.

    Example: mcpctl member add seoul --address 10.4.0.1:7400 --zone gcp
    """
    check_name(name, "NODE")
    at = Address.parse(address, where="--address")
    if zone:
        check_name(zone, "--zone")
    _change(
        find_profile(cluster, administers=True),
        lambda view, problem: plan_add(
            view, name, str(at), zone, learner=learner, problem=problem
        ),
        (name, at), group, all_groups, yes, plan, force, wait_s, as_json,
    )  # fmt: skip


@app.command()
@on_cluster
def remove(
    cluster: ClusterOptions,
    name: Name,
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    force: Force = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:
    """Remove a member from a group. A leader hands over first.

    Example: mcpctl member remove edge --group main
    """
    _change(
        find_profile(cluster, administers=True), lambda view, _: plan_remove(view, name),
        None, group, all_groups, yes, plan, force, wait_s, as_json,
    )  # fmt: skip


@app.command()
@on_cluster
def promote(
    cluster: ClusterOptions,
    name: Name,
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    force: Force = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:
    """Make a learner a voter, once it has caught up: so a node whose disk was wiped comes back.

    Example: mcpctl member promote edge
    """
    _change(
        find_profile(cluster, administers=True), lambda view, _: plan_promote(view, name),
        None, group, all_groups, yes, plan, force, wait_s, as_json,
    )  # fmt: skip


@app.command()
@on_cluster
def demote(
    cluster: ClusterOptions,
    name: Name,
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    force: Force = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:
    """Make a voter a learner: it goes on receiving the log.

    Example: mcpctl member demote edge
    """
    _change(
        find_profile(cluster, administers=True), lambda view, _: plan_demote(view, name),
        None, group, all_groups, yes, plan, force, wait_s, as_json,
    )  # fmt: skip


@app.command("replace")
@on_cluster
def replace_member(
    cluster: ClusterOptions,
    old: Annotated[str, typer.Argument(metavar="OLD", show_default=False, help="Who goes.")],
    new: Annotated[str, typer.Argument(metavar="NEW", show_default=False, help="Who comes.")],
    address: AddressOption,
    zone: ZoneOption = "",
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    force: Force = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:
    """Put a node in the place of a voter: it catches up first, then both change in one step.

    Example: mcpctl member replace edge edge-2 --address 10.4.0.2:7400
    """
    check_name(new, "NEW")
    if new == old:
        raise InvalidInput(
            "a node cannot take its own place",
            remedy="A node with a new disk comes back with `mcpctl member promote`",
        )
    at = Address.parse(address, where="--address")
    if zone:
        check_name(zone, "--zone")
    _change(
        find_profile(cluster, administers=True),
        lambda view, problem: plan_replace(view, old, new, str(at), zone, problem),
        (new, at), group, all_groups, yes, plan, force, wait_s, as_json,
    )  # fmt: skip


@app.command()
@on_cluster
def zones(
    cluster: ClusterOptions,
    require: Annotated[
        int | None,
        typer.Option("--require", metavar="N", min=1, max=64, show_default=False,
                     help="Count an entry as committed when held in so many zones."),
    ] = None,
    group: GroupOption = "main",
    all_groups: AllGroups = False,
    yes: Yes = False,
    plan: PlanOnly = False,
    wait_s: Wait = 600,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show in which zones the voters stand, or demand that commits reach several of them.

    Example: mcpctl member zones --require 2
    """
    profile = find_profile(cluster, administers=True)
    if require is not None:
        _change(
            profile, lambda view, _: plan_zones(view, require),
            None, group, all_groups, yes, plan, False, wait_s, as_json,
        )  # fmt: skip
        return
    for view in asyncio.run(_views(profile, "" if all_groups else group)):
        for zone, voters in sorted(view.now.zones.items()):
            if as_json:
                say_json({"group": view.group, "zone": zone, "voters": list(voters)})
            else:
                typer.echo(f"{view.group}: {zone or '(none stated)'}: {', '.join(voters)}")


# --- Inside --------------------------------------------------------------------------------------


def _change(
    profile: Profile,
    planner: Planner,
    candidate: tuple[str, Address] | None,
    group: str,
    all_groups: bool,
    yes: bool,
    plan_only: bool,
    force: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Plan, show, ask, carry out."""
    plans = asyncio.run(_plans(profile, planner, candidate, "" if all_groups else group))
    for plan in plans:
        if as_json:
            say_json(to_json(plan))
        else:
            show_plan(plan, force=force)
    if any(plan.refused(force=force) for plan in plans):
        if not as_json:
            typer.echo("Nothing was changed.")
        raise typer.Exit(ExitCode.REJECTED)
    due = [plan for plan in plans if plan.steps]
    if plan_only or not due:
        return
    if not yes and not as_json:
        if not sys.stdin.isatty():
            complain("not carried out: nobody is here to ask; --yes carries it out")
            raise typer.Exit(ExitCode.USAGE)
        typer.echo()
        typer.confirm("Carry it out?", abort=True)

    def say(text: str) -> None:
        if as_json:
            say_json({"progress": text})
        else:
            show_progress(text)

    asyncio.run(_carry_out(profile, candidate, due, say, force, wait_s, as_json))


async def _plans(
    profile: Profile, planner: Planner, candidate: tuple[str, Address] | None, group: str
) -> list[Plan]:
    surveyor = Surveyor(profile, candidate)
    try:
        views = await _look(surveyor, group)
        return [planner(view, surveyor.problem) for view in views]
    finally:
        await surveyor.close()


async def _carry_out(
    profile: Profile,
    candidate: tuple[str, Address] | None,
    plans: list[Plan],
    say: Callable[[str], None],
    force: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    surveyor = Surveyor(profile, candidate)
    try:
        for plan in plans:
            await surveyor.accounts()  # everybody's address, before somebody must be found
            view = await carry_out(profile, surveyor, plan, say, force=force, wait_s=wait_s)
            if as_json:
                say_json({"done": plan.title, **_view_to_json(view)})
            else:
                show_done(plan, view)
    finally:
        await surveyor.close()


async def _views(profile: Profile, group: str) -> list[GroupView]:
    surveyor = Surveyor(profile)
    try:
        return await _look(surveyor, group)
    finally:
        await surveyor.close()


async def _look(surveyor: Surveyor, group: str) -> list[GroupView]:
    """The view of one group, or of all."""
    accounts = await surveyor.accounts()
    known = sorted({g for a in accounts if a.status is not None for g in a.status["groups"]})
    if group and known and group not in known:
        raise UnknownGroup(group, "any node that answers", tuple(known))
    if not known:
        silent = "; ".join(f"{a.name or a.endpoint}: {a.error}" for a in accounts)
        raise InvalidInput(
            f"no node answers ({silent})", remedy="Look at the endpoints, and start the nodes"
        )
    views = [view_of(name, accounts) for name in ([group] if group else known)]
    return [view for view in views if view is not None]


def _view_to_json(view: GroupView) -> dict[str, Any]:
    return {
        "group": view.group,
        "leader": view.leader,
        "joint": bool(view.outgoing),
        "members": [
            {
                "member": name,
                "votes": name in view.voters,
                **view.member(name)._asdict(),
                "answers": name in view.answering,
                "lag": view.lag.get(name),
                "standing": view.standings.get(name, ""),
            }
            for name in sorted(view.members)
        ],
    }
