"""Which edits nobody needs any more: overtaken, and known to all.

This module exists because edits pile up: each permit that was ever given and taken back, each note
that was ever replaced. What may go is decided once, by whoever leads the policy's log, and ordered
by the log itself: every replica lets go of the same edits at the same entry, so nobody holds half
of a pair. It must never look at a clock: age proves nothing.

An edit may go when it is *causally stable* (every member has told that it knows it, without gaps,
and we know all that they told) and *overtaken for good*:

- an addition that a drop has ended; a role edge that is expelled for permits and for forbids;
- a drop or an expulsion, once every addition that it ends goes too: later additions have seen it;
- a note that another one replaces, and a settlement whose conflict is gone.

What an open conflict speaks of stays, until somebody has decided it.

HAZARD: like all that is collected, this is as true as the membership. A member that comes back from
an old copy of its disk brings nothing back (its edits' dots are known as gone), but what it says
next may not have seen a drop that others have forgotten; it waits for the log like every gift.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from mcpcore.crdt import CausalContext, Dot, stable_context
from mcpcore.policy.conflicts import conflict_ids, find_conflicts
from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel, Note, Settle
from mcpcore.policy.rules import Mode, aims_at
from mcpcore.policy.view import View

DOTS_MAX: Final = 5_000
"""About so many edits go at a time; the rest goes the next time."""


def stable_events(
    ours: CausalContext, members: Iterable[str], told: Mapping[str, CausalContext]
) -> CausalContext:
    """The events that every member has told to know, without gaps; none while one is unheard."""
    whole = {name: without_gaps(context) for name, context in told.items()}
    members = list(members)
    if any(not ours.covers(context) for context in told.values()):
        return CausalContext()
    return without_gaps(stable_context(ours, members, whole))


def without_gaps(context: CausalContext) -> CausalContext:
    """Of each replica the events up to its first gap."""
    whole = CausalContext()
    for replica, number in context.vector().items():
        if number:
            whole.add_run(replica, 1, number + 1)
    return whole


def superseded(view: View, stable: CausalContext) -> CausalContext:
    """The edits that may go, with those that went before: what a compaction names.

    Args:
        view: what the leader of the log knows.
        stable: see :func:`stable_events`.
    """
    if view.mode is Mode.OPTIMISTIC:
        return view.prefix.compacted.copy()  # conflicts of that mode are told by their edits
    disputed = {edit.dot for conflict in find_conflicts(view) for edit in conflict.edits}

    def may(edit: Edit) -> bool:
        return edit.dot in stable and edit.dot not in disputed

    units = list(_statements(view, may))
    if not view.cut:
        units += _roles(view, may)  # an edge that was cut would come back with the ones it met
    units += [{dot} for dot in _notes(view, may)]
    known = conflict_ids(view)
    for edit in view.sound:
        if isinstance(edit.body, Settle) and edit.body.conflict not in known and may(edit):
            units.append({edit.dot})
    compacted = view.prefix.compacted.copy()
    compacted.join(CausalContext(sorted(_at_most(DOTS_MAX, units))))
    return compacted


def _at_most(most: int, units: Iterable[set[Dot]]) -> set[Dot]:
    """As many whole units as fit; one that is too large for any time goes alone."""
    gone: set[Dot] = set()
    for unit in units:
        if not gone or len(gone) + len(unit) <= most:
            gone |= unit
    return gone


def _statements(view: View, may: Callable[[Edit], bool]) -> Iterator[set[Dot]]:
    """What goes of each statement, together or not at all."""
    adds: dict[str, list[Edit]] = defaultdict(list)
    for edit in view.sound:
        if isinstance(edit.body, Add):
            adds[edit.body.statement.id].append(edit)
    for key, drops in view.drops.items():
        leaving = {edit.dot for edit in adds[key] if view.is_gone(edit) and may(edit)}
        unit = set(leaving)
        for drop in drops:
            assert isinstance(drop.body, Drop)
            if not may(drop) or (drop.body.loosens and not view.is_ordered(drop)):
                continue
            takes = drop.body.tightens
            ended = [e for e in adds[key] if aims_at(drop, e) or (takes and not e.saw(drop))]
            if all(edit.dot in leaving for edit in ended):
                unit.add(drop.dot)
        yield unit


def _roles(view: View, may: Callable[[Edit], bool]) -> Iterator[set[Dot]]:
    """What goes of each edge between roles, together or not at all."""
    enrols = [edit for edit in view.sound if isinstance(edit.body, Enrol)]
    for (member, role), expels in view.expels.items():
        here = [e for e in enrols if e.body == Enrol(member, role)]
        leaving = set()
        for edit in here:
            assert isinstance(edit.body, Enrol)
            body = edit.body
            ended = view.expelled_for_permits(edit, body) and view.expelled_for_forbids(edit, body)
            if ended and may(edit):
                leaving.add(edit.dot)
        unit = set(leaving)
        for expel in expels:
            assert isinstance(expel.body, Expel)
            touched = [e for e in here if aims_at(expel, e) or not e.saw(expel)]
            if (
                may(expel)
                and view.is_ordered(expel)
                and all(edit.dot in leaving for edit in touched)
            ):
                unit.add(expel.dot)
        yield unit


def _notes(view: View, may: Callable[[Edit], bool]) -> list[Dot]:
    """A note goes once another replaces it, and after what it replaced itself: in this order."""
    notes = {edit.dot: edit for edit in view.sound if isinstance(edit.body, Note)}
    replaced = {
        (dot, edit.tenant)
        for edit in notes.values()
        if isinstance(edit.body, Note)
        for dot in edit.body.replaces
    }
    waiting = sorted(e.dot for e in notes.values() if (e.dot, e.tenant) in replaced and may(e))
    leaving: dict[Dot, None] = {}
    while True:
        before = len(leaving)
        for dot in waiting:
            body = notes[dot].body
            assert isinstance(body, Note)
            if all(each in leaving or each not in notes for each in body.replaces):
                leaving[dot] = None
        if len(leaving) == before:
            return list(leaving)
        waiting = [dot for dot in waiting if dot not in leaving]
