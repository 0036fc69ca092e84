"""Finding the few statements that can match a request among many thousand.

This module exists so that deciding costs what matches and not what is stored. A statement stands
under (principal, action, resource), each the whole name where the pattern is literal, else what
stands before its first wildcard, cut at a separator. A request looks under its own names and their
beginnings. It must never decide anything: what it finds is matched in full.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Final

from mcpcore.policy.conditions import ALWAYS, Truth
from mcpcore.policy.model import AccessRule, Request, Statement
from mcpcore.policy.patterns import Names, matcher, parse

if TYPE_CHECKING:
    from mcpcore.policy.engine import Owner

_ANYBODY: Final = ""
_PLACES_MAX: Final = 256
"""A statement that would stand in more places than this stands in a coarser one."""


class Compiled:
    """A statement about access, ready to be matched.

    Attributes:
        for_own_people: whether all its principals live in its author's namespaces; the engine
            says so.
    """

    __slots__ = (
        "_always",
        "_filled",
        "_principals",
        "_rule",
        "epoch",
        "for_own_people",
        "id",
        "rule",
        "statement",
    )

    def __init__(self, statement: Statement, rule: AccessRule, epoch: int) -> None:
        self.statement = statement
        self.rule = rule
        self.epoch = epoch
        self.id = statement.id
        self.for_own_people = False
        self._always = rule.condition == ALWAYS
        self._filled = any(
            names.has_variables for names in (rule.principals, rule.actions, rule.resources)
        )
        self._principals = _NamesMatcher(rule.principals)
        self._rule = _NamesMatcher(rule.actions), _NamesMatcher(rule.resources)

    def speaks_for(self, owner: Owner) -> bool:
        """Whether its author owned this when it was written."""
        return self.statement.author == owner.tenant and self.epoch >= owner.epoch

    def matches(self, names: tuple[str, ...], barred: tuple[str, ...], request: Request) -> bool:
        """Whether principal, action and resource match; the condition is asked apart.

        Args:
            names: the subject's names that may bring it in.
            barred: those that may take it out again.
        """
        if self._filled:
            facts, rule = request.facts, self.rule
            return (
                rule.principals.filled(facts).matches_any(names, barred)
                and rule.actions.filled(facts).matches(request.action)
                and rule.resources.filled(facts).matches(request.resource)
            )
        actions, resources = self._rule
        return (
            actions.matches(request.action)
            and resources.matches(request.resource)
            and self._principals.matches_any(names, barred)
        )

    def condition_truth(self, request: Request) -> Truth:
        """What its condition says."""
        return True if self._always else self.rule.condition.truth(request.facts)


class _NamesMatcher:
    """:class:`Names` with its literal patterns in a set."""

    __slots__ = ("_barred", "_exact", "_patterns")

    def __init__(self, names: Names) -> None:
        self._exact = frozenset(parse(p).head for p in names.any_of if parse(p).exact)
        self._patterns = tuple(matcher(p) for p in names.any_of if not parse(p).exact)
        self._barred = tuple(matcher(p) for p in names.none_of)

    def matches(self, name: str) -> bool:
        """Whether a name is meant."""
        if name not in self._exact:
            for matches in self._patterns:
                if matches(name):
                    break
            else:
                return False
        return not self._barred or not any(barred(name) for barred in self._barred)

    def matches_any(self, names: tuple[str, ...], others: tuple[str, ...]) -> bool:
        """Whether one of a subject's names is meant, and none of the others is taken out."""
        if self._exact.isdisjoint(names) and not any(
            matches(name) for matches in self._patterns for name in names
        ):
            return False
        return not self._barred or not any(
            barred(name) for barred in self._barred for name in others
        )


class Index:
    """Statements by principal, then action, then resource."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[str, dict[str, dict[str, list[Compiled]]]] = {}

    def add(self, compiled: Compiled) -> None:
        """Put a statement where its requests will look."""
        for principal, action, resource in _places_of(compiled.rule):
            by_action = self._places.setdefault(principal, {})
            place = by_action.setdefault(action, {}).setdefault(resource, [])
            insort(place, compiled, key=_id)

    def discard(self, compiled: Compiled) -> None:
        """Take a statement out again."""
        for principal, action, resource in _places_of(compiled.rule):
            by_action = self._places[principal]
            by_resource = by_action[action]
            by_resource[resource].remove(compiled)
            if not by_resource[resource]:
                del by_resource[resource]
            if not by_resource:
                del by_action[action]
            if not by_action:
                del self._places[principal]

    def candidates(self, names: tuple[str, ...], request: Request) -> Iterator[Compiled]:
        """Everything that can match, each at least once; in one order everywhere."""
        places = self._places
        if not places:
            return
        actions: Iterable[str] = stems(request.action)
        resources = stems(request.resource)
        for name in (*names, _ANYBODY):
            by_action = places.get(name)
            if by_action is None:
                continue
            for action in actions:
                by_resource = by_action.get(action)
                if by_resource is None:
                    continue
                for resource in resources:
                    found = by_resource.get(resource)
                    if found is not None:
                        yield from found


def _id(compiled: Compiled) -> str:
    return compiled.id


def _places_of(rule: AccessRule) -> Iterator[tuple[str, str, str]]:
    """Where a statement stands."""
    principals = _keys(rule.principals, _exact_or_anybody)
    actions = _keys(rule.actions, _stem)
    resources = _keys(rule.resources, _stem)
    while len(principals) * len(actions) * len(resources) > _PLACES_MAX:
        widest = max((principals, actions, resources), key=len)
        widest.clear()
        widest.append("")
    return product(principals, actions, resources)


def _keys(names: Names, key: object) -> list[str]:
    assert callable(key)
    return list(dict.fromkeys(key(pattern) for pattern in names.any_of))


def _exact_or_anybody(pattern: str) -> str:
    parsed = parse(pattern)
    return parsed.head if parsed.exact else _ANYBODY


def _stem(pattern: str) -> str:
    """The literal text, or what stands before the first wildcard up to the last separator."""
    parsed = parse(pattern)
    if parsed.exact:
        return parsed.head
    cut = max(parsed.head.rfind("/"), parsed.head.rfind(":"))
    return parsed.head[: cut + 1]


@lru_cache(maxsize=65_536)
def stems(name: str) -> tuple[str, ...]:
    """Everywhere that a pattern matching this name may stand."""
    found = [name]
    found += [name[: i + 1] for i in range(len(name) - 1, -1, -1) if name[i] in "/:"]
    found.append("")
    return tuple(dict.fromkeys(found))
