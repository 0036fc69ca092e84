"""`mcpctl recover`: a group whose quorum is lost for good, brought back from what is left.

This module exists so that nobody forces a membership by accident: it shows the plan, and carries
it out only on the survivor with the best log, stopped, and told twice. What the plan says is
decided in ``mcpcore.node.recovery``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.log import opened
from mcpcore.ctl.output import say_json
from mcpcore.errors import InvalidInput, RecoveryRefused

if TYPE_CHECKING:
    from mcpcore.node.recovery.plan import GroupPlan
    from mcpcore.node.recovery.survey import Survey

app = typer.Typer(name="recover", add_completion=False, rich_markup_mode=None)


@app.command(no_args_is_help=True)
def recover(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR|SURVEY.json...", help="Survivors: data directories, or surveys of them."
        ),
    ],
    survey: Annotated[
        bool, typer.Option("--survey", help="Print what one directory holds, as JSON.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it on the first DIR. Its node must not run.")
    ] = False,
    group: Annotated[str, typer.Option(help="Only this group.")] = "",
    voters: Annotated[
        str, typer.Option(metavar="NAME,...", help="The new voters; by default DIR's node alone.")
    ] = "",
    i_understand: Annotated[
        bool, typer.Option("--i-understand", help="Writes that others committed may be lost.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Bring a group back whose quorum is lost for good.

    First the plan, from all survivors that there are: their data directories, or surveys that
    were made where those are. Then --apply where the chosen survivor's data is.

    Example: mcpctl recover --survey data/edge > edge.json; mcpctl recover --plan data/hq edge.json
    """
    if survey + plan + apply > 1:
        raise InvalidInput("--survey, --plan and --apply exclude each other")
    if survey:
        if len(places) != 1:
            raise InvalidInput("--survey takes one directory", where=", ".join(places))
        typer.echo(_survey(places[0]).as_json())
        return
    from mcpcore.node.recovery.plan import make_plans

    surveys = [_survey(place) for place in places]
    plans = [each for each in make_plans(surveys) if not group or each.group == group]
    if not plans:
        known = sorted({name for each in surveys for name in each.groups})
        raise InvalidInput(
            f"no survivor holds {f'group {group}' if group else 'any group'}",
            remedy=f"They hold: {', '.join(known)}" if known else "",
        )
    if apply:
        _apply(places, plans, voters, i_understand)
        return
    for each in plans:
        if as_json:
            say_json(each.as_data())
        else:
            for line in each.in_words():
                typer.echo(line)
    if not as_json and not all(each.quorum_alive for each in plans):
        typer.echo("Nothing was changed. To do it, run --apply where the chosen node's data is.")
    if any(each.quorum_alive for each in plans):
        raise typer.Exit(ExitCode.NO)


def _survey(place: str) -> Survey:
    from mcpcore.node.recovery.survey import read_survey
    from mcpcore.node.recovery.survey import survey as read

    if place.endswith(".json"):
        return read_survey(Path(place))
    with opened(place) as disk:
        return read(disk, place)


def _apply(places: list[str], plans: list[GroupPlan], voters: str, i_understand: bool) -> None:
    import asyncio
    from random import SystemRandom

    from mcpcore.node.recovery.apply import apply_plan
    from mcpcore.node.transport.transport import new_incarnation

    if len(plans) != 1:
        raise InvalidInput(
            f"these survivors hold {len(plans)} groups: {', '.join(p.group for p in plans)}",
            remedy="Name one with --group, and repeat for the others",
        )
    [plan] = plans
    plan.refuse_if_alive()
    if not i_understand:
        raise RecoveryRefused(
            plan.group,
            "writes that the missing members committed may be lost for ever",
            "Look at --plan; if that is what you want, add --i-understand",
        )
    names = tuple(name for name in voters.split(",") if name) or (plan.chosen,)
    directory = places[0]
    if directory.endswith(".json"):
        raise InvalidInput(
            "is a survey", where=directory, remedy="Name the data directory to change first"
        )
    with opened(directory) as disk:
        report = asyncio.run(
            apply_plan(disk, directory, plan, names, new_incarnation(SystemRandom()))
        )
    typer.echo(
        f"group {plan.group} goes on from {plan.chosen}, index {plan.last.index}, with "
        f"{', '.join(names)} as its voters. The report is {report}."
    )
    typer.echo("Start the node; then wipe the other members and add them anew.")
