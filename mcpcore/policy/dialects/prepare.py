"""What of a view can leave it: statements that mean the same where nobody knows tenants and roles.

This module exists because a foreign system knows neither our tenants nor our role edges. Roles are
written out as their members. What needs the word of two tenants, or counts in some places only, is
left out of permits; that is narrower, and told. It must never know a dialect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from mcpcore.policy.dialects.common import Exported, Fidelity
from mcpcore.policy.model import AccessRule, Effect, Statement
from mcpcore.policy.patterns import Names, literal, parse
from mcpcore.policy.roles import Edge, reach
from mcpcore.policy.view import IN_FORCE, Standing, View


def exportable(view: View) -> tuple[list[Statement], tuple[str, ...]]:
    """The statements in force, ready for export, and what had to stay behind, a sentence each."""
    permit_edges, forbid_edges = view.roles.edges()
    found: list[Statement] = []
    losses: list[str] = []
    for placed in view.placed:
        statement = placed.statement
        if statement is None or placed.standing not in IN_FORCE:
            continue
        if statement.effect.tightens:
            if placed.standing is Standing.CLIPPED:
                losses.append(f"{statement}: forbids there in all that it names")
            found.append(_written_out(statement, forbid_edges, permit_edges))
        elif statement.effect is Effect.DELEGATE:
            continue
        elif why := _stays(view, statement, placed.standing, placed.edit.epoch):
            losses.append(f"{statement}: left out, {why}")
        else:
            found.append(_written_out(statement, permit_edges, forbid_edges))
    return list(dict.fromkeys(found)), tuple(losses)


def _stays(view: View, statement: Statement, standing: Standing, epoch: int) -> str:
    """Why a permit cannot leave; empty if it can."""
    if standing is Standing.CLIPPED:
        return "since it counts in some of its places only"
    rule = statement.rule
    if not isinstance(rule, AccessRule):
        return ""
    for names, why in (
        (rule.resources, "since it speaks by acceptance or delegation"),
        (rule.principals, "since it needs another tenant's acceptance"),
    ):
        for namespace in names.namespaces():
            owner = view.owner(namespace)
            if owner is None or owner.tenant != statement.author or epoch < owner.epoch:
                return why
    return ""


def _written_out(statement: Statement, some: list[Edge], none: list[Edge]) -> Statement:
    """With the members of its roles named one by one."""
    rule = statement.rule
    if not isinstance(rule, AccessRule):
        return statement
    principals = Names(
        _members(rule.principals.any_of, _downward(some)),
        _members(rule.principals.none_of, _downward(none)),
    )
    return replace(statement, rule=replace(rule, principals=principals))


def _downward(edges: list[Edge]) -> Mapping[str, list[str]]:
    downward: dict[str, list[str]] = defaultdict(list)
    for member, role in edges:
        downward[role].append(member)
    return downward


def _members(patterns: tuple[str, ...], downward: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Each pattern; for a role its members, down to who is no role."""
    found: dict[str, None] = {}
    for pattern in patterns:
        parsed = parse(pattern)
        names = reach(downward, parsed.head) if parsed.exact else []
        people = sorted(literal(name) for name in names if name not in downward)
        found.update(dict.fromkeys(people if parsed.exact and len(names) > 1 else [pattern]))
    return tuple(found)


def with_losses(exported: Exported, losses: tuple[str, ...]) -> Exported:
    """An export of which something had stayed behind."""
    if not losses:
        return exported
    return replace(exported, fidelity=Fidelity.NARROWER, losses=(*losses, *exported.losses))
