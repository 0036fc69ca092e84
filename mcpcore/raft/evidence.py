"""What one member knows at one moment, as far as it bears on whether its group is split.

This module exists so that whoever gathers evidence (a node, a simulation, a test) and whoever
judges it meet in one plain value. Ages, not moments: nobody who judges needs to know which clock.
It holds facts and their simplest sums; it must never hold a limit or a judgement.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """What we know about one peer.

    Args:
        votes: whether its agreement counts.
        heard_age_ns: since anything came from it; None if nothing ever did.
        answered_age_ns: since we *sent* the latest message that it answered; None if unknown.
            Heard lately but not answering means: it does not hear us.
        commit, last_index, term: what it told us last. A log may become shorter: a remembered
            highest would name entries that were truncated long ago.
        leader: whom it says it follows; empty if it did not say.
        round_trip_ns: 0 if unknown.
        phi: how suspicious its silence is.
    """

    name: str
    votes: bool = True
    heard_age_ns: int | None = None
    answered_age_ns: int | None = None
    commit: int = 0
    last_index: int = 0
    term: int = 0
    leader: str = ""
    round_trip_ns: int = 0
    phi: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on, as one member has it at one moment.

    Args:
        contact_age_ns: on a leader, since it *sent* the latest messages that a quorum answered;
            on others, since they last heard a leader of their term or a later one.
        election_timeout_ns: the group's patience; the ceiling where windows move.
        multiplier: of our patience (``suspicion.LocalHealth``); a slow judge suspects later.
        disk_stalled_ns: for how long our own disk has not answered.
        clock_trouble: what is wrong with our clock, in words; empty if nothing.
        snapshot: the snapshot that is on its way to us, in words; empty if none is.
        awaiting_operator: the reunion that was refused, in words; empty if none.
    """

    node: str
    group: str
    leads: bool
    leader: str
    term: int
    contact_age_ns: int
    election_timeout_ns: int
    commit: int
    last_index: int
    peers: tuple[PeerEvidence, ...]
    votes: bool = True
    multiplier: float = 1.0
    disk_stalled_ns: int = 0
    clock_trouble: str = ""
    snapshot: str = ""
    awaiting_operator: str = ""

    @property
    def highest_seen(self) -> int:
        """The highest index of which anybody ever told us, or that our own log has."""
        told = (max(peer.commit, peer.last_index) for peer in self.peers)
        return max(self.commit, self.last_index, *told, 0)

    @property
    def trails_by(self) -> int:
        """By how many entries our commit index trails the highest index seen."""
        return self.highest_seen - self.commit

    @property
    def leaders_index(self) -> int:
        """Where the log ends that counts: the leader's, else the highest seen."""
        if self.leads:
            return self.last_index
        for peer in self.peers:
            if peer.name == self.leader:
                return max(peer.commit, peer.last_index)
        return self.highest_seen

    @property
    def might_lead(self) -> str:
        """Whoever leads as far as anybody told us: the claim of the latest term, else empty."""
        claims = [(self.term, self.leader)] if self.leader else []
        claims += [(peer.term, peer.leader) for peer in self.peers if peer.leader]
        return max(claims, default=(0, ""))[1]

    def hears(self, within_ns: float) -> frozenset[str]:
        """Peers of which anything came that lately."""
        return frozenset(
            peer.name
            for peer in self.peers
            if peer.heard_age_ns is not None and peer.heard_age_ns <= within_ns
        )

    def heard_by(self, within_ns: float) -> frozenset[str]:
        """Peers that answered something we sent that lately."""
        return frozenset(
            peer.name
            for peer in self.peers
            if peer.answered_age_ns is not None and peer.answered_age_ns <= within_ns
        )


def span(ns: int | None) -> str:
    """A length of time for people; None is ever."""
    return "ever" if ns is None else f"{ns / 1e9:.1f} s"
