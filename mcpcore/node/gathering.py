"""What this node knows of one group at one moment, put together as evidence for a verdict.

This module exists so that every fact a verdict rests on has one source, named here: who is heard
and hears us is known once per node (``liveness``), how far everybody is from Raft and from what
members in doubt tell each other (``notes.ViewTold``). It looks; it must never judge, and never
change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mcpcore.node.contacts import Contacts
from mcpcore.node.notes import ViewTold
from mcpcore.raft.election import office_ns
from mcpcore.raft.evidence import Evidence, PeerEvidence
from mcpcore.raft.state import RaftState

if TYPE_CHECKING:
    from mcpcore.node.group import Group

CLAIM_TIMEOUTS = 4
"""For how many election timeouts it counts what a peer said about who leads."""


class Surveyed(NamedTuple):
    """What holds for all groups of a node at one moment.

    Args:
        contacts: how near each peer is, and how far we trust ourselves as a judge.
        disk_stalled_ns: for how long the disk has owed an answer; 0 while it answers in time.
        clock_trouble: what is wrong with our clock, in words.
        rests_on_ns: of a sleeping group: when the nodes that its sleep relies on were last heard.
    """

    now_ns: int
    contacts: Contacts
    rests_on_ns: Callable[[RaftState], int]
    disk_stalled_ns: int
    clock_trouble: str


class Told(NamedTuple):
    """What a peer said of a group, and when it arrived."""

    view: ViewTold
    at_ns: int


def contact_ns(state: RaftState, rests_on_ns: Callable[[RaftState], int]) -> int:
    """When a leader with a quorum was last in contact: ourselves, if we lead and are answered."""
    spoke_ns = office_ns(state) if state.is_leader else state.leader_heard_ns
    return max(spoke_ns, rests_on_ns(state)) if state.quiet else spoke_ns


def gather(group: Group, around: Surveyed, told: Mapping[str, Told]) -> Evidence:
    """All of it."""
    state, now_ns = group.raft.state, around.now_ns
    heard_ns = min(contact_ns(state, around.rests_on_ns), now_ns)
    absent_ns = around.contacts.health.absent_ns(heard_ns, now_ns)
    others = sorted(state.configuration.members - {state.id})
    return Evidence(
        node=state.id,
        group=state.group,
        leads=state.is_leader,
        leader=state.leader,
        term=state.term,
        contact_age_ns=max(0, now_ns - heard_ns - absent_ns),
        election_timeout_ns=state.settings.election_timeout_ns,
        commit=state.commit,
        last_index=state.log.last_index,
        peers=tuple(_peer(state, name, around, told.get(name)) for name in others),
        votes=state.configuration.votes(state.id),
        multiplier=around.contacts.health.multiplier,
        disk_stalled_ns=around.disk_stalled_ns,
        clock_trouble=around.clock_trouble,
        snapshot=_arriving(group),
        awaiting_operator=group.awaiting_operator,
    )


def _peer(state: RaftState, name: str, around: Surveyed, told: Told | None) -> PeerEvidence:
    progress, now_ns = state.progress.get(name), around.now_ns
    contact = around.contacts.of(name, now_ns)
    answered_age_ns, round_trip_ns = contact.answered_age_ns, contact.round_trip_ns
    commit = last_index = term = 0
    leader = ""
    if told is not None:
        view = told.view
        commit, last_index, term = view.commit, view.last_index, view.term
        if now_ns - told.at_ns <= CLAIM_TIMEOUTS * state.settings.election_timeout_ns:
            leader = view.leader
    if name == state.leader:
        commit, term, leader = max(commit, state.told_commit), state.term, name
    if progress is not None:
        last_index = max(last_index, progress.match)
        if progress.round_trip_ns:  # it has answered us in this office
            round_trip_ns = progress.round_trip_ns
            answered_age_ns = _sooner(answered_age_ns, now_ns - progress.contact_ns)
    return PeerEvidence(
        name,
        votes=state.configuration.votes(name),
        heard_age_ns=_positive(contact.heard_age_ns),
        answered_age_ns=_positive(answered_age_ns),
        commit=commit,
        last_index=last_index,
        term=term,
        leader=leader,
        round_trip_ns=round_trip_ns,
        phi=contact.phi,
    )


def _sooner(one_ns: int | None, other_ns: int) -> int:
    return other_ns if one_ns is None else min(one_ns, other_ns)


def _positive(age_ns: int | None) -> int | None:
    """A beat may have come since the moment of which we speak."""
    return None if age_ns is None else max(0, age_ns)


def _arriving(group: Group) -> str:
    keeper = group.snapshots
    arriving = keeper.status()["receiving"] if keeper is not None else None
    if arriving is None:
        return ""
    return f"a snapshot of {arriving['bytes']} bytes, of which {arriving['held']} are here"
