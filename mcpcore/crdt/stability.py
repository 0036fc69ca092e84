"""Collecting what only concurrent events could still need, once there can be none.

This module exists because remove-wins tokens and counter bases must outlive the removal, but not
for ever. Collected too early they let the removed come back; so the rule is stated once, here. It
must never look at the clock: age proves nothing.

An event is *causally stable* here when every member has told us, in a context that we cover
entirely, that it has seen it. Then whatever any member did before seeing it is here already, and
whatever comes later has seen it.

HAZARD: this is as true as the membership. A member that is left out and comes back with old
additions brings them back; give returning replicas a new incarnation and an empty state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mcpcore.crdt.causal import ABSENT, BASE, COUNT, PRESENT, Causal, Path
from mcpcore.crdt.context import CausalContext, Dot
from mcpcore.crdt.resettable import running_total
from mcpcore.crdt.values import fields


def stable_context(
    ours: CausalContext, members: Iterable[str], told: Mapping[str, CausalContext]
) -> CausalContext:
    """The dots that are causally stable; none while any member is unheard or ahead of us.

    Args:
        ours: the context of our state.
        members: every other member that may hold a replica.
        told: the latest context that each peer reported.
    """
    stable = ours
    for member in members:
        theirs = told.get(member)
        if theirs is None or not ours.covers(theirs):
            return CausalContext()
        stable = stable.meet(theirs)
    return stable.copy()


def collect(state: Causal, stable: CausalContext) -> Causal:
    """Drop stable residue from a state. Returns the delta, which makes others drop it too."""
    residue = [dot for dot, e in state.entries.items() if e.kind in (ABSENT, BASE)]
    gone: set[Dot] = set()
    for dot in residue:
        if dot not in stable:
            continue
        path = state.entries[dot].path
        if state.entries[dot].kind == ABSENT:
            # Additions that stand beside the token never saw it. They lost, and go with it.
            gone.add(dot)
            gone.update(d for d in state.at(path) if state.entries[d].kind == PRESENT)
        elif not _in_use(state, path, dot):
            gone.add(dot)
    return state.mutate("", gone, ())


def _in_use(state: Causal, path: Path, base: Dot) -> bool:
    """Whether a running total is still here that a reset has to be taken off."""
    seen = {replica: number for replica, number, _ in fields(state.entries[base].payload)}
    return any(
        running_total(state.entries[dot])[0] <= seen.get(dot[0], 0) < dot[1]
        for dot in state.at(path)
        if state.entries[dot].kind == COUNT
    )
