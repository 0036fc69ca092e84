"""What is committed (sections 5.3 and 5.4.2), and whether we still hold office.

This module exists so that the one rule that makes Raft safe is one function: a leader commits by
counting only entries of its own term. It must never look at anything but terms, indexes and the
answers of the members.
"""

from __future__ import annotations

from mcpcore.raft.election import become_follower, office_ns, office_until_ns
from mcpcore.raft.messages import Heartbeat
from mcpcore.raft.quorum import zone_quorum_value
from mcpcore.raft.state import RaftState


def advance_commit(state: RaftState) -> None:
    """Commit what a quorum has on its disks, in enough zones, if it is of our own term (Figure 8).

    A leader that is no voter (any more) counts the voters and not itself (section 6).
    """
    if not state.is_leader:
        return
    progress, own, durable = state.progress, state.id, state.durable_index

    def stored(peer: str) -> int:
        return durable if peer == own else progress[peer].match if peer in progress else 0

    index = zone_quorum_value(state.configuration, stored)
    if index > state.commit and state.log.term_at(index) == state.term:
        state.commit = index


def learn_commit(state: RaftState, commit: int) -> None:
    """Follow the leader's commit, as far as our log is known to equal the leader's."""
    if commit > state.told_commit:
        state.told_commit = commit
    state.commit = max(state.commit, min(commit, state.matched_index))


def announce_commit(state: RaftState) -> None:
    """Tell members of a new commit index that no append happens to carry."""
    for peer, progress in state.progress.items():
        if progress.commit_sent < state.commit and not progress.probing:
            progress.commit_sent = state.commit
            state.send(peer, Heartbeat(state.term, progress.session, state.commit, 0, 0, 0))


def beat(state: RaftState) -> None:
    """Say to every member that we still lead, and which reads wait for its answer.

    When the next regular one is due is not touched: reads without end would put it off for ever,
    and with it the look at our own office (``check_office``).
    """
    for peer, progress in state.progress.items():
        state.send(
            peer,
            Heartbeat(
                state.term,
                progress.session,
                state.commit,
                state.read_round,
                state.now_ns,
                progress.promises.promise_ns,
            ),
        )
        progress.commit_sent = state.commit
    state.read_round_sent = state.read_round


def next_beat_ns(state: RaftState) -> int:
    """When the next regular heartbeat is due, counted from now.

    Aligned, the beats of all groups of a node fall on the same moments and travel together; the
    first of them comes early, none ever late.
    """
    interval = state.heartbeat_ns
    return state.now_ns + interval - (state.now_ns % interval if state.aligned else 0)


def check_office(state: RaftState) -> None:
    """Step down without a quorum, or with a disk that no longer answers (thesis section 6.2)."""
    if state.now_ns >= office_until_ns(state):
        silent_ns = state.now_ns - office_ns(state)
        become_follower(
            state, state.term, "", f"no quorum has answered for {silent_ns / 1e9:.1f} s"
        )
    elif state.disk_stalled():
        since_ns = state.writes[0].since_ns if state.writes else state.now_ns
        stalled_s = max(state.now_ns - since_ns, state.settings.election_timeout_ns) / 1e9
        become_follower(state, state.term, "", f"the disk has not answered for {stalled_s:.1f} s")
