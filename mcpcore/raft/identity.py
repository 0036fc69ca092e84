"""Who somebody is: a name and the disk behind it.

This module exists so that one rule protects every count: *a voter that forgot is not the voter that
promised*. A disk has an incarnation, drawn when it was new; the configuration remembers with which
one a member was admitted. A peer that speaks with another is a stranger: its votes, its
acknowledgements and its promises count for nothing, and it gets no vote. Whoever counts decides
this, from the connection on which the answer came, because a wiped member cannot know that it
forgot. It must never guess: where no incarnation is recorded, the first one met in this life is
taken for the right one.

A voter answers votes whatever its own view of the configuration says, even if it believes to be a
learner or no member at all: it may not know yet that it was promoted, and the candidate's view is
the one that counts. Only a member that *knows* that its disk is not the one that was admitted keeps
silent.
"""

from __future__ import annotations

from mcpcore.raft.state import RaftState


def meet(state: RaftState, peer: str, incarnation: str) -> None:
    """A connection to ``peer`` says which disk is behind it; empty if the driver cannot tell."""
    if incarnation:
        first, _ = state.met.get(peer, (incarnation, incarnation))
        state.met[peer] = (first, incarnation)


def incarnation_of(state: RaftState, member: str) -> str:
    """The disk behind a member as far as we were told; empty if nobody said."""
    return state.incarnation if member == state.id else state.met.get(member, ("", ""))[1]


def is_stranger(state: RaftState, peer: str) -> bool:
    """Whether ``peer`` speaks from another disk than the one that was admitted."""
    met = state.met.get(peer)
    if met is None:
        return False
    first, latest = met
    return latest != (state.configuration.member(peer).incarnation or first)
