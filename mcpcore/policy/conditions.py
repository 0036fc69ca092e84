"""Conditions: what must be true of a request besides who, what and where.

This module exists so that *I cannot tell* is an answer of its own: a condition is true, false or
unknown, and ``and``, ``or``, ``not`` follow Kleene. A permit needs true; a forbid is held off by
false alone. So a condition that cannot be evaluated never lets anybody in. It must never read a
clock or the network: everything comes with the request.

Source: Kleene 1952 (three values); XACML 3.0, section 7.10 (Indeterminate); the operators follow
the AWS IAM user guide, "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from mcpcore.errors import InvalidInput
from mcpcore.policy.operators import OPERATORS, Mismatch
from mcpcore.policy.patterns import fill

Truth: TypeAlias = "bool | None"
"""True, false, or None: it cannot be told."""

Facts: TypeAlias = Mapping[str, object]
"""What is known of a request, by key."""

DEPTH_MAX: Final = 32
_ABSENT: Final = object()


class Missing(StrEnum):
    """What a clause says when the request does not have its key."""

    UNKNOWN = "unknown"
    """It cannot be told; the rule of this project."""
    FALSE = "false"
    """As AWS does, for operators that look for equality."""
    TRUE = "true"
    """As AWS does, for operators that look for difference, and for ...IfExists."""


class Quantifier(StrEnum):
    """How a key with many values is looked at."""

    ONE = "one"
    """The key has one value. If it has several, any may match (none, when negated)."""
    ANY = "any"
    """At least one of the request's values; false without any value."""
    ALL = "all"
    """Every one of the request's values; true without any value."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One key compared with some values: true if any of them compares.

    Args:
        operator: a name of ``mcpcore.policy.operators.OPERATORS``.
        key: a key of the request's facts; ``principal``, ``action``, ``resource`` are always there.
        values: what to compare with; they may hold ``${key}``.
        negated: whether none may compare.
        quantifier: how a key with many values is looked at.
        missing: what it says without the key.
    """

    operator: str
    key: str
    values: tuple[str | int | float | bool, ...]
    negated: bool = False
    quantifier: Quantifier = Quantifier.ONE
    missing: Missing = Missing.UNKNOWN

    def truth(self, facts: Facts) -> Truth:
        """Compare."""
        found = facts.get(self.key, _ABSENT)
        if self.operator == "present":
            empty = isinstance(found, tuple | list | set | frozenset) and not found
            there = found is not _ABSENT and found is not None and not empty
            return there is not self.negated
        if found is _ABSENT or found is None:
            return self._without_key()
        if isinstance(found, tuple | list | set | frozenset):
            many = tuple(found)
            if not many and self.quantifier is Quantifier.ONE:
                return self._without_key()
        else:
            many = (found,)
        results = [self._compare(value, facts) for value in many]
        if self.quantifier is Quantifier.ALL:
            return conjunction(results)
        if self.quantifier is Quantifier.ONE and self.negated:
            return conjunction(results)
        return disjunction(results)

    def _without_key(self) -> Truth:
        if self.missing is Missing.TRUE:
            return True
        if self.quantifier is Quantifier.ALL:
            return True
        if self.missing is Missing.FALSE or self.quantifier is Quantifier.ANY:
            return False
        return None

    def _compare(self, value: object, facts: Facts) -> Truth:
        compare = OPERATORS[self.operator]
        results: list[Truth] = []
        for wanted in self.values:
            if isinstance(wanted, str) and "${" in wanted:
                filled = fill(wanted, facts)
                if filled is None:
                    results.append(False if self.missing is not Missing.UNKNOWN else None)
                    continue
                target: object = filled
                if self.operator not in _PATTERNED:
                    target = _UNESCAPE.sub(r"\1", filled)
            else:
                target = wanted
            try:
                results.append(compare(value, target))
            except Mismatch:
                results.append(None if self.missing is Missing.UNKNOWN else False)
        told = disjunction(results)
        return told if told is None or not self.negated else not told

    def __str__(self) -> str:
        wanted = " or ".join(str(value) for value in self.values)
        many = "" if self.quantifier is Quantifier.ONE else f"{self.quantifier.value} of "
        verb = f"not {self.operator}" if self.negated else self.operator
        return f"{many}{self.key} {verb} {wanted}".rstrip()


_PATTERNED: Final = {"like", "arn-like"}
_UNESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class All:
    """True if all parts are; with no part, true."""

    parts: tuple[Condition, ...] = ()

    def truth(self, facts: Facts) -> Truth:
        """False if one part is, else unknown if one part is."""
        return conjunction([part.truth(facts) for part in self.parts])

    def __str__(self) -> str:
        return " and ".join(_braced(part) for part in self.parts) or "always"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if one part is; with no part, false."""

    parts: tuple[Condition, ...]

    def truth(self, facts: Facts) -> Truth:
        """True if one part is, else unknown if one part is."""
        return disjunction([part.truth(facts) for part in self.parts])

    def __str__(self) -> str:
        return " or ".join(_braced(part) for part in self.parts) or "never"


@dataclass(frozen=True, slots=True)
class Not:
    """True if its part is false; unknown stays unknown."""

    part: Condition

    def truth(self, facts: Facts) -> Truth:
        """The opposite."""
        told = self.part.truth(facts)
        return None if told is None else not told

    def __str__(self) -> str:
        return f"not {_braced(self.part)}"


@dataclass(frozen=True, slots=True)
class Cel:
    """A condition in the Common Expression Language, as GCP writes them (a part of it)."""

    expression: str

    def truth(self, facts: Facts) -> Truth:
        """Evaluate; anything that goes wrong is unknown."""
        from mcpcore.policy.cel import compile_cel

        return compile_cel(self.expression).truth(facts)

    def __str__(self) -> str:
        return self.expression


Condition: TypeAlias = Clause | All | AnyOf | Not | Cel
ALWAYS: Final = All()


def conjunction(truths: list[Truth]) -> Truth:
    """Kleene's and."""
    if False in truths:
        return False
    return None if None in truths else True


def disjunction(truths: list[Truth]) -> Truth:
    """Kleene's or."""
    if True in truths:
        return True
    return None if None in truths else False


def _braced(part: Condition) -> str:
    text = str(part)
    return f"({text})" if isinstance(part, All | AnyOf) and len(part.parts) > 1 else text


def first_not_true(condition: Condition, facts: Facts) -> str:
    """The first part that keeps a condition from being true, and what the request has there."""
    if isinstance(condition, All):
        for part in condition.parts:
            if part.truth(facts) is not True:
                return first_not_true(part, facts)
    if isinstance(condition, Clause):
        has = repr(facts[condition.key]) if condition.key in facts else "nothing"
        return f"{condition} (the request has {has})"
    return f"{condition} ({'cannot be told' if condition.truth(facts) is None else 'is false'})"


# --- the wire -----------------------------------------------------------------------------------


def to_wire(condition: Condition) -> list[object]:
    """Plain lists; equal conditions give equal ones."""
    match condition:
        case Clause(operator, key, values, negated, quantifier, missing):
            return ["?", operator, key, list(values), negated, str(quantifier), str(missing)]
        case All(parts):
            return ["&", *(to_wire(part) for part in parts)]
        case AnyOf(parts):
            return ["|", *(to_wire(part) for part in parts)]
        case Not(part):
            return ["!", to_wire(part)]
        case Cel(expression):
            return ["cel", expression]


def from_wire(wire: object, depth: int = 0) -> Condition:
    """Read :func:`to_wire` back.

    Raises:
        InvalidInput: not that shape, an unknown operator, or nested deeper than 32.
    """
    if not isinstance(wire, list | tuple) or not wire or depth > DEPTH_MAX:
        raise InvalidInput("not a condition, or nested too deeply", where="condition")
    match list(wire):
        case ["?", str(operator), str(key), values, bool(negated), quantifier, missing]:
            return checked_clause(operator, key, values, negated, quantifier, missing)
        case ["&", *parts]:
            return All(tuple(from_wire(part, depth + 1) for part in parts))
        case ["|", *parts]:
            return AnyOf(tuple(from_wire(part, depth + 1) for part in parts))
        case ["!", part]:
            return Not(from_wire(part, depth + 1))
        case ["cel", str(expression)]:
            from mcpcore.policy.cel import compile_cel

            compile_cel(expression)
            return Cel(expression)
    raise InvalidInput(f"{wire[0]!r} begins no condition", where="condition")


def checked_clause(
    operator: str,
    key: str,
    values: object,
    negated: bool = False,
    quantifier: object = "one",
    missing: object = "unknown",
) -> Clause:
    """A clause of parts that came from outside.

    Raises:
        InvalidInput: an operator, quantifier or kind of value that does not exist.
    """
    if operator not in OPERATORS:
        raise InvalidInput(
            f"there is no operator {operator!r}",
            where=f"condition on {key}",
            remedy=f"Use one of {', '.join(sorted(OPERATORS))}",
        )
    wanted = tuple(values) if isinstance(values, list | tuple) else (values,)
    if not all(isinstance(value, str | int | float | bool) for value in wanted):
        raise InvalidInput(f"{values!r} is not text, number or truth", where=f"condition on {key}")
    if not key or (not wanted and operator != "present"):
        raise InvalidInput("a clause has a key and at least one value", where="condition")
    try:
        return Clause(
            operator, key, wanted, negated, Quantifier(str(quantifier)), Missing(str(missing))
        )
    except ValueError as error:
        raise InvalidInput(str(error), where=f"condition on {key}") from error
