"""What is looked at before a peer's delta is joined: a join cannot be undone.

This module exists because a merged lie is everywhere. A delta is refused as a whole, before it
touches anything. It must never repair or trim what it dislikes.

HAZARD: a context that claims events of others erases them at its receivers. Without signatures a
relayed claim cannot be told from an invented one; that a member follows the protocol is assumed,
and ``authorise`` is where an application that assumes less hooks in its own proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mcpcore.crdt.causal import STAMPED, Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.registers import read_write
from mcpcore.errors import DeltaRefused, InvalidInput, ReplicaIdReused

Authorise: TypeAlias = "Callable[[str, Cells | Causal], str]"
"""Given the peer and its delta: empty if it may say that, else why not."""


def anybody(peer: str, delta: Cells | Causal) -> str:
    """Every member may say everything."""
    return ""


def inspect(
    peer: str,
    delta: Cells | Causal,
    *,
    ours: Cells | Causal,
    replica: str,
    events_ahead_max: int,
    latest_ns: int | None,
    authorise: Authorise,
) -> None:
    """Refuse what must not be joined.

    Args:
        latest_ns: the latest physical time that a register's timestamp may carry; None for any.

    Raises:
        InvalidInput: a state of the other lattice.
        ReplicaIdReused: it knows events of ours that we do not, or one dot with two meanings.
        DeltaRefused: events too far ahead, timestamps from the future, or not authorised.
    """
    if type(delta) is not type(ours):
        raise InvalidInput(
            f"a {type(delta).__name__} cannot be joined to a {type(ours).__name__}",
            where=f"delta from {peer}",
            remedy="Both sides must replicate the same document",
        )
    why = authorise(peer, delta)
    if why:
        raise DeltaRefused(peer, why)
    if not isinstance(delta, Causal) or not isinstance(ours, Causal):
        return
    _inspect_events(peer, delta, ours, replica, events_ahead_max)
    if latest_ns is not None:
        for dot, entry in delta.entries.items():
            if entry.kind == STAMPED:
                ahead_ns = read_write(dot, entry).reading.timestamp.physical_ns - latest_ns
                if ahead_ns > 0:
                    raise DeltaRefused(
                        peer, f"a timestamp of {dot[0]} lies {ahead_ns} ns beyond the limit"
                    )


def _inspect_events(
    peer: str, delta: Causal, ours: Causal, replica: str, events_ahead_max: int
) -> None:
    for other in delta.context.replicas():
        known, claimed = ours.context.latest(other), delta.context.latest(other)
        if other == replica and claimed > known:
            raise ReplicaIdReused(
                peer,
                f"it knows event {claimed} of {replica}, and we made only {known}: our memory is "
                "not complete. Start with a new incarnation",
                replica,
            )
        if claimed > known + events_ahead_max:
            raise DeltaRefused(
                peer,
                f"it claims event {claimed} of {other}; at most {events_ahead_max} beyond "
                f"our {known} are believed",
            )
    dot = ours.conflict_with(delta)
    if dot is not None:
        raise ReplicaIdReused(peer, f"event {dot[1]} of {dot[0]} means two things", dot[0])
