"""Roles: which names a principal answers to.

This module exists so that a role edge that is in doubt is never read in the asker's favour. Edges
are kept twice: those that count for permits (the fewest that are certain) and those that count for
forbids (the most that are possible). It must never know how an edge came to be in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from mcpcore.errors import InvalidInput

Edge: TypeAlias = tuple[str, str]
"""(member, role): the member has the role; a role may be a member of another one."""

_CACHE_MAX: Final = 65_536


class Roles:
    """Both readings of the role edges, closed over roles of roles.

    Args:
        permit: edges that count for permits.
        forbid: edges that count for forbids; ``permit`` counts there too.
    """

    __slots__ = ("_forbid", "_known", "_permit")

    def __init__(self, permit: Iterable[Edge] = (), forbid: Iterable[Edge] = ()) -> None:
        permit = list(permit)
        self._permit = _upward(permit)
        self._forbid = _upward([*permit, *forbid])
        self._known: dict[tuple[bool, str], tuple[str, ...]] = {}

    def for_permits(self, principal: str, groups: Iterable[str] = ()) -> tuple[str, ...]:
        """The principal, its groups, and every role that they surely have."""
        return self._names(False, principal, groups)

    def for_forbids(self, principal: str, groups: Iterable[str] = ()) -> tuple[str, ...]:
        """The principal, its groups, and every role that they may have."""
        return self._names(True, principal, groups)

    def edges(self) -> tuple[list[Edge], list[Edge]]:
        """The edges that count for permits and those that count for forbids, sorted."""
        both = []
        for upward in (self._permit, self._forbid):
            both.append(sorted((m, role) for m, roles in upward.items() for role in roles))
        return both[0], both[1]

    def _names(self, wide: bool, principal: str, groups: Iterable[str]) -> tuple[str, ...]:
        names = self._closure(wide, principal)
        groups = tuple(groups)
        if not groups:
            return names
        found = dict.fromkeys(names)
        for group in groups:
            found.update(dict.fromkeys(self._closure(wide, group)))
        return tuple(found)

    def _closure(self, wide: bool, name: str) -> tuple[str, ...]:
        known = self._known.get((wide, name))
        if known is None:
            known = tuple(reach(self._forbid if wide else self._permit, name))
            if len(self._known) >= _CACHE_MAX:
                self._known.clear()
            self._known[wide, name] = known
        return known


def _upward(edges: Iterable[Edge]) -> dict[str, list[str]]:
    upward: dict[str, list[str]] = defaultdict(list)
    for member, role in sorted(set(edges)):
        upward[member].append(role)
    return dict(upward)


def reach(upward: Mapping[str, Iterable[str]], start: str) -> list[str]:
    """The start and everything above it, each once; cycles do no harm."""
    found, ahead = {start: None}, [start]
    while ahead:
        for role in upward.get(ahead.pop(), ()):
            if role not in found:
                found[role] = None
                ahead.append(role)
    return list(found)


def closes_cycle(upward: Mapping[str, Iterable[str]], edge: Edge) -> bool:
    """Whether an edge, added to these, makes somebody a member of itself."""
    member, role = edge
    return member in reach(upward, role)


def check_edge(member: object, role: object) -> Edge:
    """An edge of names that came from outside.

    Raises:
        InvalidInput: a name without a namespace.
    """
    for name in (member, role):
        if not isinstance(name, str) or not all(name.partition("/")) or len(name) > 2048:
            raise InvalidInput(
                f"{name!r} is no name", where="role edge", remedy="Names are namespace/name"
            )
    return str(member), str(role)
