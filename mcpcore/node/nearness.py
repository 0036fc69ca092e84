"""Which peers a node need not beat to often: those with which it decides nothing.

This module exists so that a fleet of edge sites does not pay for the square of its size. Elections,
leases, sleep and verdicts rest on contact with voters; between two nodes that only learn, beats
keep the clocks in touch and no more. Pure: configurations in, names out. It must never know what
is sent, nor when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from mcpcore.raft.types import Configuration

FAR_BEATS: Final = 4
"""To a far peer goes one beat in so many: a beat is a fifth of an election timeout and a second at
most, so it is heard once in an election timeout still, and its readings of time are young enough
to be echoed."""


def far_peers(
    own: str, peers: Collection[str], configurations: Iterable[Configuration]
) -> frozenset[str]:
    """Of ``peers``, those with which ``own`` is a learner in some group and never a voter's fellow.

    Who shares no group with us at all is near: it may be about to let us in, or we it.
    """
    near: set[str] = set()
    fellows: set[str] = set()
    for configuration in configurations:
        if own in configuration.learners:
            fellows |= configuration.learners
            near |= configuration.voters | configuration.outgoing
        elif configuration.votes(own):
            near |= configuration.members
            if near.issuperset(peers):
                return frozenset()
    return frozenset(fellows.intersection(peers) - near)
