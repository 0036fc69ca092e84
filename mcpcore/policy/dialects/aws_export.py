"""Writing AWS IAM policy documents.

This module exists so that what AWS would do about a missing key is settled when the document is
written: our permit needs its key, our forbid does not wait for it. What cannot be said so is left
out of permits and of the conditions of forbids, on the safe side both times.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Final

from mcpcore.errors import Unsupported
from mcpcore.policy.conditions import All, AnyOf, Clause, Condition, Missing, Not, Quantifier
from mcpcore.policy.dialects.aws import NAMESPACE, OPERATORS, VARIABLES_SINCE
from mcpcore.policy.dialects.common import Exported, Losses
from mcpcore.policy.model import AccessRule, Effect, Statement
from mcpcore.policy.patterns import Names, literal, parse

_NAMES: Final = {
    "StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase",
    "StringLike", "StringNotLike", "NumericEquals", "NumericNotEquals", "NumericLessThan",
    "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals", "DateEquals",
    "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan",
    "DateGreaterThanEquals", "Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "ArnLike",
    "ArnNotLike",
}  # fmt: skip
_WRITTEN: Final = {OPERATORS[name.lower()]: name for name in sorted(_NAMES)}
_ALTERNATIVES_MAX: Final = 32


def export_policy(
    statements: Iterable[Statement], *, principal: str = "", namespace: str = NAMESPACE
) -> Exported:
    """Write one policy document.

    Args:
        principal: for an identity-based policy, whom it is to be attached to: only statements about
            exactly this principal go in. Empty for a resource-based policy.

    Raises:
        ExportRefused: the result would allow more.
    """
    losses = Losses("AWS IAM")
    written: list[dict[str, Any]] = []
    for statement in statements:
        rule = statement.rule
        try:
            if not isinstance(rule, AccessRule) or statement.effect is Effect.DELEGATE:
                raise Unsupported("IAM has statements about access only")
            written += _statements(statement, rule, principal, namespace, losses)
        except Unsupported as error:
            losses.unsaid(statement, error.what)
    return losses.finish([{"Version": VARIABLES_SINCE, "Statement": written}])


def _statements(
    statement: Statement, rule: AccessRule, principal: str, namespace: str, losses: Losses
) -> list[dict[str, Any]]:
    permits = statement.effect is Effect.PERMIT
    head: dict[str, Any] = {
        "Sid": f"mcpcore{statement.id[:12]}",
        "Effect": "Allow" if permits else "Deny",
    }
    if not principal:
        head |= _people(rule.principals, namespace)
    elif rule.principals != Names.of(f"{literal(namespace)}/{literal(principal)}"):
        raise Unsupported(f"it is not about {principal} alone")
    head |= _element("Action", rule.actions, "")
    head |= _element("Resource", rule.resources, f"{literal(namespace)}/")
    try:
        blocks = [_block(clauses, permits) for clauses in _alternatives(rule.condition)]
    except Unsupported as error:
        if permits:
            raise
        losses.narrower.append(f"{statement}: denies whatever the condition says; {error.what}")
        return [head]
    several = len(blocks) > 1
    return [
        {
            **head,
            **({"Sid": f"{head['Sid']}x{i}"} if several else {}),
            **({"Condition": block} if block else {}),
        }
        for i, block in enumerate(blocks)
    ]


def _element(name: str, names: Names, prefix: str) -> dict[str, list[str]]:
    if names.none_of:
        if names.any_of not in (("*",), (f"{prefix}*",)):
            raise Unsupported(f"{name} cannot have both a choice and exceptions")
        return {f"Not{name}": [_foreign(p, prefix) for p in names.none_of]}
    return {name: [_foreign(p, prefix) for p in names.any_of]}


def _foreign(pattern: str, prefix: str) -> str:
    """A pattern as AWS writes it; it has no escapes."""
    if prefix and not pattern.startswith(prefix):
        raise Unsupported(f"{pattern!r} is not in the namespace {prefix.rstrip('/')}")
    text = pattern.removeprefix(prefix)
    plain = text.replace("\\\\", "")
    if "\\" in plain:
        if "*" in parse(text).head or "?" in parse(text).head:
            raise Unsupported(f"{pattern!r} holds a wildcard that is meant as a character")
        text = text.replace("\\$", "$")
        if "${" in text and not parse(pattern).variables:
            raise Unsupported(f"{pattern!r} would be read as a variable")
    return text.replace("\\\\", "\\")


def _people(names: Names, namespace: str) -> dict[str, Any]:
    patterns = names.none_of or names.any_of
    if names.none_of and names.any_of != ("*",):
        raise Unsupported("NotPrincipal means everybody else")
    element = "NotPrincipal" if names.none_of else "Principal"
    people: dict[str, list[str]] = {}
    for pattern in patterns:
        if pattern == "*":
            return {element: "*"}
        if not parse(pattern).exact:
            raise Unsupported(f"{pattern!r}: principals have no wildcards")
        home, _, name = parse(pattern).head.partition("/")
        if home != namespace:
            raise Unsupported(f"{pattern!r} is not in the namespace {namespace}")
        folder, _, rest = name.partition("/")
        kind = {"service": "Service", "federated": "Federated", "canonical": "CanonicalUser"}
        if folder in kind:
            people.setdefault(kind[folder], []).append(rest)
        elif folder == "account":
            people.setdefault("AWS", []).append(rest)
        elif name.startswith("arn:"):
            people.setdefault("AWS", []).append(name)
        else:
            raise Unsupported(f"{name!r} is no principal of AWS")
    return {element: people}


def _alternatives(condition: Condition) -> list[list[Clause]]:
    """The condition as alternatives of clauses that must all hold: a statement each."""
    match condition:
        case Clause():
            return [[condition]]
        case All(parts):
            found: list[list[Clause]] = [[]]
            for part in parts:
                more = _alternatives(part)
                found = [[*a, *b] for a, b in product(found, more)]
                _check_size(found)
            return found
        case AnyOf(parts):
            either = [each for part in parts for each in _alternatives(part)]
            _check_size(either)
            return either
        case Not(Clause(missing=Missing.UNKNOWN, quantifier=Quantifier.ONE) as clause):
            return [[Clause(clause.operator, clause.key, clause.values, not clause.negated)]]
    raise Unsupported(f"IAM cannot say {condition}")


def _check_size(found: list[list[Clause]]) -> None:
    if len(found) > _ALTERNATIVES_MAX:
        raise Unsupported(f"more than {_ALTERNATIVES_MAX} alternatives")


def _block(clauses: list[Clause], permits: bool) -> dict[str, dict[str, Any]]:
    block: dict[str, dict[str, Any]] = {}
    for clause in clauses:
        for operator, key, values in _lines(clause, permits):
            keys = block.setdefault(operator, {})
            if keys.setdefault(key, values) != values:
                raise Unsupported(f"IAM cannot demand two things of {key} by {operator}")
    return block


def _lines(clause: Clause, permits: bool) -> list[tuple[str, str, list[str]]]:
    """One or two lines: the comparison, and if need be that the key is there."""
    if clause.key in ("principal", "action", "resource"):
        raise Unsupported(f"IAM has no key {clause.key}")
    if clause.operator == "present":
        return [("Null", clause.key, [str(clause.negated).lower()])]
    name = _WRITTEN.get((clause.operator, clause.negated))
    if name is None:
        raise Unsupported(f"IAM has no operator for {clause}")
    values = [_value(clause, value) for value in clause.values]
    prefix = {"one": "", "any": "ForAnyValue:", "all": "ForAllValues:"}[clause.quantifier]
    without = clause.missing
    if without is Missing.UNKNOWN:
        without = Missing.FALSE if permits else Missing.TRUE
    theirs = clause.negated
    if clause.quantifier is Quantifier.ALL:
        theirs, without = True, Missing.TRUE
    elif clause.quantifier is Quantifier.ANY:
        theirs = False
        without = Missing.TRUE if clause.missing is Missing.TRUE else Missing.FALSE
    if without is Missing.TRUE:
        return [(f"{prefix}{name}{'' if theirs else 'IfExists'}", clause.key, values)]
    line = (f"{prefix}{name}", clause.key, values)
    return [line, ("Null", clause.key, ["false"])] if theirs else [line]


def _value(clause: Clause, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _foreign(text, "") if clause.operator in ("like", "arn-like") else text
