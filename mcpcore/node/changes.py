"""Changes of membership as an administrator's request carries them.

This module exists so that what comes over the wire becomes a change only if every name, address and
zone in it could stand in a configuration file. It must never act on what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mcpcore.errors import InvalidInput
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.identity import check_incarnation, check_name
from mcpcore.raft.membership import (
    AddLearner,
    AddVoter,
    Change,
    Demote,
    Promote,
    Remove,
    RequireZones,
    Update,
)
from mcpcore.raft.types import Member

CHANGES_MAX: Final = 64
PRIORITY_MAX: Final = 1_000_000
ZONES_MAX: Final = 64

_WITH_MEMBER: Final[Mapping[str, type[AddVoter | AddLearner | Update]]] = {
    "add-voter": AddVoter,
    "add-learner": AddLearner,
    "update": Update,
}
_NAMED: Final[Mapping[str, type[Promote | Demote | Remove]]] = {
    "promote": Promote,
    "demote": Demote,
    "remove": Remove,
}
_WORDS: Final[Mapping[type, str]] = {
    kind: word for kinds in (_WITH_MEMBER, _NAMED) for word, kind in kinds.items()
}
_ZONES: Final = "require-zones"

Row = tuple[object, ...]


def to_rows(changes: Sequence[Change]) -> tuple[Row, ...]:
    """Changes as they stand in a request."""
    rows: list[Row] = []
    for change in changes:
        if isinstance(change, RequireZones):
            rows.append((_ZONES, change.zones))
        elif isinstance(change, AddVoter | AddLearner | Update):
            rows.append((_WORDS[type(change)], change.name, *(change.member or Member())))
        else:
            rows.append((_WORDS[type(change)], change.name))
    return tuple(rows)


def from_rows(rows: object) -> list[Change]:
    """Changes out of a request, believing nothing of it.

    Raises:
        InvalidInput: these are no changes, or a name or an address in them is none.
    """
    if type(rows) is not tuple or not 0 < len(rows) <= CHANGES_MAX:
        raise InvalidInput(f"a request must hold 1 to {CHANGES_MAX} changes", where="changes")
    return [_change(row) for row in rows]


def _change(row: object) -> Change:
    match row:
        case (str(word), str(name), *facts) if word in _WITH_MEMBER:
            where = f"changes, {word}"
            return _WITH_MEMBER[word](check_name(name, where), _member(facts, where))
        case (str(word), str(name)) if word in _NAMED:
            return _NAMED[word](check_name(name, f"changes, {word}"))
        case (str(word), zones) if word == _ZONES and type(zones) is int and 0 < zones <= ZONES_MAX:
            return RequireZones(zones)
    raise InvalidInput(f"{row!r} is no change"[:200], where="changes")


def _member(facts: list[object], where: str) -> Member:
    if [type(fact) for fact in facts] != [str, str, str, bool, int]:
        raise InvalidInput(f"{facts!r} is nothing known about a member"[:200], where=where)
    member = Member(*facts)  # type: ignore[arg-type]  # looked at just now
    if abs(member.priority) > PRIORITY_MAX:
        raise InvalidInput(f"a priority of {member.priority}", where=where)
    if member.zone:
        check_name(member.zone, f"{where}, zone")
    if member.incarnation:
        check_incarnation(member.incarnation, where)
    if member.address:
        member = member._replace(address=str(Address.parse(member.address, where=where)))
    return member
