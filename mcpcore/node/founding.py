"""How a group begins: founded once, by all of its first voters together.

This module exists so that no fresh disk ever takes part in a group as if it remembered. A group is
founded when every one of its first voters has been heard, and its first configuration holds the
incarnation of each of their disks. From then on a voter that comes back with another disk is told
apart by everybody, at any time; there is no window in which its second vote in a term could count.
That is why founding waits for all and not for a majority: a majority that does not know who else
there was could count a wiped voter twice. It decides; it must never send, store or read a clock.

Who is not a first voter, or was not told to found (``bootstrap``), waits until a leader sends it
the log: whoever is a member already has added it.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from mcpcore.raft.types import Configuration, Member


class Standing(IntEnum):
    """What a group is on the node that is asked. Numbers are part of the protocol."""

    ABSENT = 0
    """Not there, or there and waiting: this node founds nothing."""
    FOUNDING = 1
    """About to be founded, as here."""
    STANDS = 2
    """There, with members."""


class Founding:
    """One first voter's part in the founding of a group.

    Args:
        own: our name.
        about: us: our zone, and the incarnation of our disk.
        voters: the first voters, us included.
    """

    __slots__ = ("_about", "_own", "_ready", "_voters", "refusal")

    def __init__(self, own: str, about: Member, voters: Collection[str]) -> None:
        assert own in voters, "only a first voter founds"
        self._own = own
        self._voters = tuple(sorted(voters))
        self._about = {own: about}
        self._ready = {own}
        self.refusal = ""
        """Why this disk must not found the group; it waits to be added instead."""

    def connected(self, peer: str, incarnation: str, *, can_answer: bool) -> None:
        """There is a connection to a peer, which may have another disk than last time.

        Args:
            can_answer: whether it speaks a version of the protocol that has such questions. One
                that does not founds without asking, as its release always did.
        """
        self._ready.discard(peer)
        self._about[peer] = Member(incarnation=incarnation)
        if not can_answer:
            self._ready.add(peer)

    def answered(self, peer: str, standing: Standing, known_as: str, zone: str) -> None:
        """What a peer said.

        Args:
            known_as: the incarnation under which we are a member there; empty if we are none.
            zone: where it is.
        """
        own = self._about[self._own].incarnation
        if standing is Standing.STANDS and known_as != own:
            self.refusal = refusal(peer, known_as, own)
        known = self._about.get(peer)
        if known is not None and standing is not Standing.ABSENT:
            self._about[peer] = known._replace(zone=zone)
            self._ready.add(peer)

    @property
    def missing(self) -> tuple[str, ...]:
        """The first voters that have not been heard, or don't found."""
        return tuple(voter for voter in self._voters if voter not in self._ready)

    def awaits(self, peer: str) -> bool:
        """Whether ``peer`` is one of the missing."""
        return peer in self._voters and peer not in self._ready

    def configuration(self) -> Configuration:
        """The first configuration, once nobody is missing."""
        assert not self.missing
        assert not self.refusal
        return Configuration(
            frozenset(self._voters), about={name: self._about[name] for name in self._voters}
        )


def refusal(peer: str, known_as: str, own: str) -> str:
    """Why a disk must not found a group that a peer says stands already.

    Args:
        known_as: the disk of ours that the peer knows; empty: none, we are no member.
        own: the one that we have.
    """
    if not known_as:
        return f"the group exists already, as {peer} says, and this node is no member"
    return (
        f"this node took part with the disk {known_as}, as {peer} says, and came back with {own}: "
        "what it voted and stored is forgotten"
    )
