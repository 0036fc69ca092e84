"""Groups that have nothing to do, and sleep until something concerns them.

This module exists so that a thousand idle groups cost a node one message per peer and beat, and so
that the whole argument why that is safe stands in one place. It decides what a group does with
sleep; whether the *nodes* of its members live is judged elsewhere, once for all groups, and handed
in as a number. It must never count votes or entries.

**Falling asleep.** A leader whose every member holds, on its disk, the whole log, all of it
committed and applied, and that nobody waits for, says ``Rest(term, session, index)`` and sleeps: no
heartbeats, no deadline. A follower that agrees (it follows this leader in this term, and its log
ends at that index, durable, committed, matched) sleeps too; one that does not says ``Awake``, which
wakes the leader.

**While asleep** nothing of the protocol's state changes: terms, votes, logs stand still. A sleeper
relies on its node hearing from the leader's node (a leader: from every member's node, both ways).
Each beat between nodes says how many groups sleep on the sender's word, and which (a checksum), so
a word that was lost, or a leader that ended without one, is noticed at the next beats.

**Waking.** Silence between the nodes for an election timeout, a new connection, a peer's new life,
a checksum that disagrees, a proposal, a read, or any message that is not a late answer, wakes a
group. It then behaves as if the last beat of the node had been this group's own heartbeat: the
follower keeps its promise for one election timeout from then (so that a member that comes back from
a cut disturbs nobody) and draws a new deadline; the leader has held office since then, beats at
once, and steps down if a quorum has been silent for an election timeout, exactly like one that
never slept.

**Why this is safe.** Votes, terms and commits never depend on time, so sleep cannot touch them.
Leases do. A leader's lease counts from the sending of *its own* heartbeats and appends that were
answered (``quorum_contact_ns``); sleep sends none and the moment a leader awakes from is kept
apart from it (``office_since_ns``, which only ``check_office`` and the promise to oneself look at).
So a sleeping leader's lease runs out as if its heartbeats had been lost, and holds again only when
a quorum has answered a heartbeat sent after waking. A follower's promise is only ever extended by
waking, never cut short, and falling asleep leaves it as it is; a restart promises a whole timeout
as ever. Hence nobody helps a new leader earlier than without sleep, and no old leader believes in
its lease for longer.
"""

from __future__ import annotations

from mcpcore.raft.election import quorum_contact_ns
from mcpcore.raft.messages import (
    AppendReply,
    Awake,
    HeartbeatReply,
    Message,
    PreVoteReply,
    ReadIndexReply,
    Rest,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.state import RaftState


def unrest(state: RaftState) -> str:
    """What keeps this member's group from sleeping, in words; empty if nothing does."""
    last = state.log.last_index
    if not state.is_leader:
        return "only a leader decides"
    if state.commit < last or state.handed < last:
        return "entries are not committed or not applied"
    if state.durable_index < last or state.durable_hard_state != state.hard_state or state.writes:
        return "the disk is not done"
    if state.gated or state.new_blocks or state.read_answers:
        return "something waits for the disk or for an answer"  # what is in the outbox goes first
    if state.reads_waiting:
        return "reads wait"
    if state.transfer_target:
        return f"leadership is being handed to {state.transfer_target}"
    if state.stateless or state.base_change is not None or state.snapshot_events:
        return "a snapshot is on its way to the disk, to us or from us"
    if state.configuration.joint or state.leaving or state.retiring:
        return "a change of members is under way"
    if state.preference.heir:
        return f"{state.preference.heir} may be better placed to lead"
    if state.device_stalled or state.device_full:
        return "the disk does not take writes"
    for peer in state.configuration.members:
        if peer == state.id:
            continue
        progress = state.progress.get(peer)
        if progress is None or progress.match < last or progress.probing or progress.inflight:
            return f"{peer} does not hold the whole log"
        if progress.snapshot_index:
            return f"{peer} is being sent a snapshot"
        if progress.commit_sent < state.commit:
            return f"{peer} does not know that it is committed"
    return ""


def fall_asleep(state: RaftState) -> None:
    """Tell every member to sleep, and sleep. Only when there is no ``unrest``."""
    last = state.log.last_index
    for peer, progress in state.progress.items():
        state.send(peer, Rest(state.term, progress.session, last))
    state.quiet = True


def on_rest(state: RaftState, sender: str, ask: Rest) -> None:
    """The leader sleeps. Sleep too, if we agree on what there is; otherwise wake it."""
    last = state.log.last_index
    agreed = (
        state.role is Role.FOLLOWER
        and state.leader == sender
        and ask.index == last == state.matched_index == state.commit == state.handed
        and state.durable_index == last
        and state.durable_hard_state == state.hard_state
        and not (state.writes or state.gated or state.reads_forwarded)
        and state.doubt is None
        and not (state.stateless or state.snapshot_events)
    )
    if agreed:
        state.quiet = True
    else:
        state.reply(sender, Awake(state.term))


_ANSWERS = frozenset({AppendReply, HeartbeatReply, PreVoteReply, VoteReply, ReadIndexReply})


def disturbs(state: RaftState, message: Message) -> bool:
    """Whether a message wakes a sleeper: all do but answers that come late, and a second Rest."""
    kind = type(message)
    if message.term > state.term:
        return True
    return kind not in _ANSWERS and kind is not Rest


def wake(state: RaftState, heard_ns: int, *, by: str = "") -> None:
    """Wake up as if the last heartbeat of this group had been at ``heard_ns``.

    Args:
        heard_ns: when the nodes last heard of each other, on our clock: a follower's node of the
            leader's; a leader's of a quorum, counted from the sending of what was answered.
        by: the member whose message woke us; the leader is told of our waking unless it did.
    """
    if not state.quiet:
        return
    state.quiet = False
    timeout = state.settings.election_timeout_ns
    # Nobody has been silent for longer than it took to notice, and what was promised stands.
    heard_ns = min(max(heard_ns, state.now_ns - timeout), state.now_ns)
    if state.is_leader:
        state.office_since_ns = heard_ns
        state.heartbeat_due_ns = state.now_ns
        return
    patience = state.patience
    state.leader_heard_ns = max(state.leader_heard_ns, heard_ns)
    patience.promise_until_ns = max(patience.promise_until_ns, heard_ns + timeout)
    # From [0, timeout) after the silence was noticed: a thousand groups do not stand up at once.
    drawn_ns = heard_ns + timeout + state.rng.randrange(timeout)
    state.election_deadline_ns = max(drawn_ns, patience.promise_until_ns)
    if state.leader and by != state.leader:
        state.reply(state.leader, Awake(state.term))


def just_woken(state: RaftState) -> bool:
    """Whether this leader has woken up and no quorum has answered it since: it has no lease yet,
    and will in a moment.
    """
    return state.is_leader and state.office_since_ns > quorum_contact_ns(state)


def check(state: RaftState) -> None:
    """Every promise a sleeper makes about itself."""
    if not state.quiet:
        return
    last = state.log.last_index
    assert state.role in (Role.LEADER, Role.FOLLOWER)
    assert state.leader, "a sleeper knows on whom it relies"
    assert state.commit == state.handed == last == state.durable_index
    assert not state.reads_forwarded
    assert not state.reads_waiting
    assert not state.transfer_target
    for progress in state.progress.values():
        assert progress.match == last
