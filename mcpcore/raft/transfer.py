"""Handing leadership over (thesis section 3.10).

This module exists so that the one case in which followers break their promise to a leader, because
the leader asks them to, is visible in one place together with its price: from the moment the offer
leaves, this leader never relies on its lease again in this term. The offer may arrive late.
"""

from __future__ import annotations

from mcpcore.errors import NotLeader, TransferRefused
from mcpcore.raft.election import campaign, may_campaign
from mcpcore.raft.identity import is_stranger
from mcpcore.raft.messages import TimeoutNow
from mcpcore.raft.outcome import NEVER
from mcpcore.raft.state import RaftState


def start(state: RaftState, target: str) -> None:
    """Begin: no new proposals until the target leads, or the attempt is given up.

    Raises:
        NotLeader: we have nothing to hand over.
        TransferRefused: the target cannot lead, or another transfer is under way.
    """
    if not state.is_leader:
        raise NotLeader(state.group, state.leader or None)
    if target == state.id:
        raise TransferRefused(state.group, target, "it leads already")
    if not state.configuration.votes(target):
        voters = ", ".join(sorted(state.configuration.voters))
        raise TransferRefused(state.group, target, f"it is not a voter of this group ({voters})")
    if is_stranger(state, target):
        raise TransferRefused(state.group, target, "its disk is not the one it was admitted with")
    if state.transfer_target not in ("", target):
        raise TransferRefused(
            state.group, target, f"a transfer to {state.transfer_target} is already under way"
        )
    state.transfer_target = target
    state.transfer_deadline_ns = state.now_ns + state.settings.election_timeout_ns
    offer_when_ready(state)


def offer_when_ready(state: RaftState) -> None:
    """Make the offer once the target has everything: it could not win before."""
    target = state.transfer_target
    if not target or state.transfer_sent:
        return
    if state.progress[target].match == state.log.last_index:
        state.transfer_sent = True
        state.lease_void = True
        state.send(target, TimeoutNow(state.term))


def give_up_when_late(state: RaftState) -> None:
    """Accept proposals again if the target has not taken over within an election timeout."""
    if state.now_ns >= state.transfer_deadline_ns:
        state.transfer_target, state.transfer_sent = "", False
        state.transfer_deadline_ns = NEVER


def leave_without_state(state: RaftState) -> None:
    """A leader whose applied state is lost brings the others up to date and hands over to one.

    It may have to lead for a moment, because its log may be the longest; but it can apply nothing,
    and there is nobody to send it a snapshot while it leads.
    """
    if not state.stateless or state.transfer_target:
        return
    patience_ns = state.settings.election_timeout_ns
    heirs = [
        peer
        for peer, progress in state.progress.items()
        if state.configuration.votes(peer)
        and not progress.awaits_snapshot
        and state.now_ns - progress.contact_ns < patience_ns
    ]
    if heirs:
        start(state, max(heirs, key=lambda peer: state.progress[peer].match))


def on_timeout_now(state: RaftState, sender: str, offer: TimeoutNow) -> None:
    """Take the offer, if it comes from the leader we follow now."""
    if offer.term == state.term and sender == state.leader:
        state.offered_term = offer.term
        take_offer(state)


def take_offer(state: RaftState) -> None:
    """Stand for election with the leader's consent.

    A configuration that we know to be committed is handed out first, like before every campaign: a
    leader that is removed offers its office in the very moment in which it announces the commit.
    """
    if state.handed < state.configurations[-1][0] <= state.commit:
        return  # until the next ``ready``
    offered_term, state.offered_term = state.offered_term, 0
    if offered_term == state.term and state.leader not in ("", state.id) and may_campaign(state):
        campaign(state, transfer=True)
