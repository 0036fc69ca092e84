"""How members and planned changes look: fit for 80 columns.

This module exists so that a plan reads the same for every command. It decides nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

import typer

from mcpcore.ctl.member_plan import GroupView, Plan, Side
from mcpcore.ctl.output import say_table

_RED, _YELLOW = typer.colors.RED, typer.colors.YELLOW


def show_plan(plan: Plan, *, force: bool) -> None:
    """A plan: before and after, what will be done, and what speaks against it."""
    typer.echo(_styled(f"Group {plan.group}: {plan.title}", bold=True))
    if plan.steps:
        before, after = plan.before, plan.after
        typer.echo()
        rows = [
            ("voters", _names(before.voters), _names(after.voters)),
            ("learners", _names(before.learners), _names(after.learners)),
            ("quorum", _quorum(before), _quorum(after)),
            ("survives the loss of", str(before.tolerates), str(after.tolerates)),
            ("zones", _zones(before), _zones(after)),
        ]
        there = before.voters | after.voters if plan.view is None else plan.view.hosts
        silent = ("do not answer", _names(before.voters - there), _names(after.voters - there))
        if silent[1:] != ("-", "-"):
            rows.append(silent)
        say_table(("", "now", "afterwards"), rows)
        typer.echo()
        for number, step in enumerate(plan.steps, 1):
            _say(f"{number}. ", step.what)
    for warning in plan.warnings:
        _say("note: ", warning, fg=_YELLOW)
    for objection in plan.objections:
        overridden = force and objection.may_force
        word = "overridden" if overridden else "refused"
        forced = "" if not objection.may_force or force else " (or --force)"
        colour = _YELLOW if overridden else _RED
        _say(f"{word}: ", f"{objection.risk}. {objection.remedy}{forced}", fg=colour)


def show_progress(text: str) -> None:
    """What is being done, or how far it has come."""
    _say("... ", text)


def show_done(plan: Plan, view: GroupView) -> None:
    """How it ended."""
    voters = ", ".join(sorted(view.voters))
    _say("Done: ", f"{plan.title}. {view.group} has the voters {voters}.", indent="")


def show_members(views: list[GroupView]) -> None:
    """All members of the groups, one to a line; below, why somebody takes no full part."""
    rows = []
    for view in views:
        for name in sorted(view.members):
            member = view.member(name)
            rows.append(
                (
                    view.group,
                    name,
                    _role(view, name),
                    _lag(view, name),
                    member.zone or "-",
                    member.address or view.endpoints.get(name, "-"),
                    "" if name in view.answering else "does not answer",
                )
            )
    several = len(views) > 1
    headings = ("group", "member", "role", "lag", "zone", "address", "")
    say_table(headings if several else headings[1:], [r if several else r[1:] for r in rows])
    for view in views:
        for name, standing in sorted(view.standings.items()):
            _say(f"{name} in {view.group}: ", standing, indent="")


def _say(head: str, text: str, *, indent: str = "  ", **style: object) -> None:
    """One paragraph, folded at the width of the terminal."""
    width = min(100, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        head + text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * min(9, len(head)),
    )
    for line in lines:
        typer.echo(_styled(line, **style))


def _role(view: GroupView, name: str) -> str:
    if name == view.leader:
        return "leader"
    if name in view.voters:
        return "voter" if name in view.outgoing or not view.outgoing else "voter, coming"
    if name in view.learners:
        return "learner, to vote" if view.member(name).promote else "learner"
    return "voter, leaving"


def _lag(view: GroupView, name: str) -> str:
    lag = view.lag.get(name)
    return "?" if lag is None else str(lag)


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "-"


def _quorum(side: Side) -> str:
    return f"{side.quorum} of {len(side.voters)}" if side.voters else "-"


def _zones(side: Side) -> str:
    named = [f"{zone} {len(voters)}" for zone, voters in sorted(side.zones.items()) if zone]
    alone = len(side.zones.get("", ()))
    if alone:
        named.append(f"none {alone}" if named else "none stated")
    return ", ".join(named) or "-"


def _styled(text: str, **style: object) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, **style)  # type: ignore[arg-type]
