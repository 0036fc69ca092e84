"""What a merge left for people to decide, as values with ids.

This module exists so that nothing that the merge settled by rule stays unseen. A conflict's id
comes from its kind and its edits, so every replica gives it the same one, and settling it anywhere
settles it everywhere. Nothing here changes a decision: rules have decided already, on the safe
side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from itertools import combinations

from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel, Note, describe
from mcpcore.policy.model import AccessRule, Effect
from mcpcore.policy.roles import reach
from mcpcore.policy.rules import Mode
from mcpcore.policy.view import IN_FORCE, Standing, View


class Kind(StrEnum):
    """What sort of conflict."""

    LOOSENING = "concurrent-loosening"
    """Two edits that give, neither knowing of the other: together they may allow what neither
    author allowed. Only in optimistic mode; the log orders them otherwise."""
    EDIT_RACE = "edit-race"
    """One place in a document was given two statements at once, or one statement was added here
    and dropped there."""
    MULTI_VALUE = "multi-value"
    """A setting was given two values at once."""
    CYCLE_CUT = "cycle-cut"
    """A role edge would make somebody a member of itself; it does not count."""
    INERT = "inert-scope"
    """A statement outside its author's namespaces, or not proved to be its author's."""
    STALE = "stale-epoch"
    """A statement written before its namespace changed hands."""
    LOST = "lost-authority"
    """A statement by a delegation that is gone."""


ACCEPT = "accept"
DROP = "drop"
RENEW = "renew"
KEEP = "keep:{}"
UNDO = "undo:{}"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something to decide.

    Args:
        id: the same on every replica.
        kind: what sort.
        edits: the edits that meet, by dot; choices count them from 1.
        text: what it is about, in words, and what holds meanwhile.
        choices: what :func:`mcpcore.policy.resolve.resolve` takes.
    """

    id: str
    kind: Kind
    edits: tuple[Edit, ...]
    text: str
    choices: tuple[str, ...]

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who may settle it: the authors."""
        return tuple(sorted({edit.tenant for edit in self.edits}))

    def __str__(self) -> str:
        return f"{self.id} {self.kind}: {self.text}"


def find_conflicts(view: View) -> list[Conflict]:
    """Every conflict that nobody has settled, by kind and id."""
    found = {conflict.id: conflict for conflict in _all(view)}
    return [c for c in found.values() if settlement(view, c) is None]


def conflict_ids(view: View) -> set[str]:
    """The ids of all conflicts, settled or not."""
    return {conflict.id for conflict in _all(view)}


def settlement(view: View, conflict: Conflict) -> Edit | None:
    """The edit that settles a conflict, if one of its tenants did; the first by order of time."""
    found = [e for e in view.settled.get(conflict.id, ()) if e.tenant in conflict.tenants]
    return min(found, key=lambda e: (e.at.timestamp, e.dot), default=None)


def _all(view: View) -> Iterator[Conflict]:
    if view.mode is Mode.OPTIMISTIC:
        yield from _loosenings(view)
    yield from _races(view)
    yield from _notes(view)
    yield from _misplaced(view)


def _make(kind: Kind, edits: tuple[Edit, ...], text: str, choices: tuple[str, ...]) -> Conflict:
    hasher = blake2b(kind.encode(), digest_size=6)
    for edit in edits:
        hasher.update(blake2b(edit.signed_part(), digest_size=16).digest())
    return Conflict(hasher.hexdigest(), kind, edits, text, (*choices, ACCEPT))


# --- two that give ------------------------------------------------------------------------------


def _loosenings(view: View) -> Iterator[Conflict]:
    # An addition that is not in force gives nothing, so it cannot give together with another one.
    idle = {p.edit.dot for p in view.placed if p.standing not in IN_FORCE}
    standing = [e for e in view.ordered if not (isinstance(e.body, Add) and e.dot in idle)]
    by_replica: dict[str, list[Edit]] = defaultdict(list)
    for edit in standing:
        by_replica[edit.dot[0]].append(edit)
    for one, other in combinations(sorted(by_replica), 2):
        for a in by_replica[one]:
            for b in by_replica[other]:
                if view.concurrent(a, b) and _meet(view, a, b):
                    text = (
                        f"{a.cloud} {describe(a.body)}, while {b.cloud} {describe(b.body)}; "
                        "both count, and together they may allow what neither did"
                    )
                    pair = tuple(sorted((a, b), key=lambda e: e.dot))
                    yield _make(Kind.LOOSENING, pair, text, (UNDO.format(1), UNDO.format(2)))


def _meet(view: View, a: Edit, b: Edit) -> bool:
    """Whether two edits that give may together allow one request. Says yes when in doubt."""
    if isinstance(a.body, Add | Drop) and isinstance(b.body, Add | Drop):
        return a.body.statement.overlaps(b.body.statement)
    if isinstance(a.body, Enrol) and isinstance(b.body, Enrol):
        upward = _upward(view)
        return b.body.member in reach(upward, a.body.role) or a.body.member in reach(
            upward, b.body.role
        )
    edge, other = (a.body, b.body) if isinstance(a.body, Enrol | Expel) else (b.body, a.body)
    if isinstance(edge, Enrol) and isinstance(other, Add):
        rule = other.statement.rule
        if other.statement.effect is Effect.PERMIT and isinstance(rule, AccessRule):
            names = reach(_upward(view), edge.role)
            return rule.principals.has_variables or rule.principals.matches_any(names, ())
    return True


def _upward(view: View) -> dict[str, list[str]]:
    upward: dict[str, list[str]] = defaultdict(list)
    for edit in view.sound:
        if isinstance(edit.body, Enrol):
            upward[edit.body.member].append(edit.body.role)
    return upward


# --- races --------------------------------------------------------------------------------------


def _races(view: View) -> Iterator[Conflict]:
    places: dict[tuple[str, str, str], list[Edit]] = defaultdict(list)
    adds: dict[str, list[Edit]] = defaultdict(list)
    for placed in view.placed:
        edit = placed.edit
        if not isinstance(edit.body, Add) or placed.standing is Standing.UNPROVED:
            continue
        adds[edit.body.statement.id].append(edit)
        if placed.standing is not Standing.DROPPED and edit.body.name:
            places[edit.tenant, edit.document, edit.body.name].append(edit)
    for (tenant, document, name), edits in sorted(places.items()):
        for a, b in combinations(edits, 2):
            if view.concurrent(a, b) and _statement_id(a) != _statement_id(b):
                text = (
                    f"{tenant}/{document} has two statements called {name}: {a.cloud} "
                    f"{describe(a.body)}; {b.cloud} {describe(b.body)}. Both stand"
                )
                yield _make(Kind.EDIT_RACE, (a, b), text, (KEEP.format(1), KEEP.format(2)))
    for edit in view.sound:
        if isinstance(edit.body, Drop):
            for added in adds.get(edit.body.statement.id, ()):
                if view.concurrent(added, edit):
                    yield _against(view, added, edit)


def _statement_id(edit: Edit) -> str:
    assert isinstance(edit.body, Add)
    return edit.body.statement.id


def _against(view: View, added: Edit, dropped: Edit) -> Conflict:
    """An addition and a drop of one statement at once: the tighter of the two holds."""
    stands = "the drop holds" if added.body.loosens else "the addition holds"
    assert isinstance(added.body, Add)
    text = (
        f"{added.cloud} adds what {dropped.cloud} drops at once: {added.body.statement}; {stands}"
    )
    choices = (KEEP.format(1), KEEP.format(2))
    return _make(Kind.EDIT_RACE, (added, dropped), text, choices)


def _notes(view: View) -> Iterator[Conflict]:
    for (tenant, document, key), edits in sorted(view.notes.items()):
        values = {edit.body.value for edit in edits if isinstance(edit.body, Note)}
        if len(values) > 1:
            words = "; ".join(
                f"{e.cloud} sets {e.body.value}" for e in edits if isinstance(e.body, Note)
            )
            text = f"{tenant}/{document} has several values of {key}: {words}"
            choices = tuple(KEEP.format(i) for i in range(1, len(edits) + 1))
            yield _make(Kind.MULTI_VALUE, tuple(edits), text, choices)


# --- not in force -------------------------------------------------------------------------------

_KINDS = {
    Standing.CUT: (Kind.CYCLE_CUT, (DROP,)),
    Standing.UNPROVED: (Kind.INERT, ()),
    Standing.INERT: (Kind.INERT, (DROP, RENEW)),
    Standing.STALE: (Kind.STALE, (DROP, RENEW)),
    Standing.LOST: (Kind.LOST, (DROP, RENEW)),
}


def _misplaced(view: View) -> Iterator[Conflict]:
    for placed in view.placed:
        found = _KINDS.get(placed.standing)
        if found is not None:
            kind, choices = found
            text = f"{placed.edit.cloud} {describe(placed.edit.body)}: {placed.why}; not in force"
            yield _make(kind, (placed.edit,), text, choices)
