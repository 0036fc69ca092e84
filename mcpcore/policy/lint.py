"""Looking over documents before anybody relies on them.

This module exists to say, before a policy is in force, what a reader would want to be asked about.
It finds what is probably not meant; it must never refuse what is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mcpcore.policy.conditions import ALWAYS
from mcpcore.policy.documents import Document, Named
from mcpcore.policy.model import AccessRule, Effect, Statement
from mcpcore.policy.network import NetworkRule
from mcpcore.policy.patterns import Names, namespace_of, overlap


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to look at.

    Args:
        where: tenant, document and statement.
        text: what, and what to do about it.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def lint(documents: Iterable[Document]) -> list[Remark]:
    """Everything worth a look, in the order of the documents."""
    documents = list(documents)
    remarks: list[Remark] = []
    everything = [named.statement for d in documents for named in d.statements]
    roles = {role for d in documents for _, role in d.roles}
    for document in documents:
        for i, named in enumerate(document.statements, 1):
            place = f"{document.tenant}/{document.name}, {named.name or f'statement {i}'}"
            for text in _about(document, named, everything, roles):
                remarks.append(Remark(place, text))
    return remarks


def _about(
    document: Document, named: Named, everything: list[Statement], roles: set[str]
) -> Iterator[str]:
    statement, rule = named.statement, named.statement.rule
    if sum(n.statement.id == statement.id for n in document.statements) > 1:
        yield "says what another statement of this document says; one of them can go"
    if isinstance(rule, NetworkRule):
        yield from _about_network(statement, rule, everything)
        return
    if statement.effect is Effect.PERMIT:
        if rule.principals == Names.of("*") and rule.condition == ALWAYS:
            yield "permits everybody, without a condition"
        if rule.actions == Names.of("*") and "*" in rule.resources.namespaces():
            yield "permits every action on everything"
        for other in everything:
            if _covers(other, rule):
                yield f"never counts: {other} forbids all of it"
                break
    for pattern in rule.principals.any_of:
        if "/role/" in pattern and "*" not in pattern and pattern not in roles:
            yield f"the role {pattern} has no members in these documents"
    for name in (*rule.principals.none_of, *rule.actions.none_of, *rule.resources.none_of):
        wider = (*rule.principals.any_of, *rule.actions.any_of, *rule.resources.any_of)
        if not any(overlap(name, pattern) for pattern in wider):
            yield f"the exception {name} excepts nothing"
    foreign = [n for n in rule.resources.namespaces() if n not in (document.tenant, "*")]
    home = {namespace_of(p) for p in rule.principals.any_of} <= {document.tenant}
    if foreign and not home and statement.effect is not Effect.DELEGATE:
        yield (
            f"is about {', '.join(foreign)}, for people outside {document.tenant}; it is inert "
            f"unless {document.tenant} owns that"
        )


def _covers(forbid: Statement, rule: AccessRule) -> bool:
    """Whether a forbid surely meets every request that a rule matches."""
    other = forbid.rule
    return (
        forbid.effect is Effect.FORBID
        and isinstance(other, AccessRule)
        and other.condition == ALWAYS
        and _wider(other.principals, rule.principals)
        and _wider(other.actions, rule.actions)
        and _wider(other.resources, rule.resources)
    )


def _wider(one: Names, other: Names) -> bool:
    return one == Names.of("*") or (not one.none_of and set(other.any_of) <= set(one.any_of))


def _about_network(
    statement: Statement, rule: NetworkRule, everything: list[Statement]
) -> Iterator[str]:
    if statement.effect is not Effect.PERMIT:
        return
    if not rule.everybody and not rule.peers:
        yield "permits nobody; an isolation says that"
    isolated = any(
        s.effect is Effect.ISOLATE and s.overlaps(statement)
        for s in everything
        if isinstance(s.rule, NetworkRule)
    )
    if not isolated:
        yield "permits what nothing isolates; without an isolation all traffic is free"
