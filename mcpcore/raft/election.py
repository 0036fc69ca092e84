"""Who may lead (sections 5.1, 5.2, 5.4.1; thesis sections 4.2.3, 9.6).

This module exists so that the whole argument for "at most one leader per term", and for "nobody
is disturbed who has a working leader", sits on one screen. It must never touch the log's contents:
the only thing an election knows of a log is where it ends.
"""

from __future__ import annotations

from mcpcore.raft import tracking
from mcpcore.raft.identity import is_stranger
from mcpcore.raft.messages import PreVote, PreVoteReply, Vote, VoteReply
from mcpcore.raft.outcome import NEVER, Role, RoleChanged
from mcpcore.raft.quorum import VoteResult, quorum_value, vote_result
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Entry, EntryKind, LogPosition

# --- changing role --------------------------------------------------------------------------


def become_follower(state: RaftState, term: int, leader: str, reason: str) -> None:
    """Follow, in ``term``; a higher term takes away our vote of the lower one (section 5.1)."""
    assert term >= state.term, "terms never go back"
    changed = (state.role, state.term, state.leader) != (Role.FOLLOWER, term, leader)
    if term > state.term:
        state.term, state.voted_for = term, ""
        # What matched the old leader's log need not match the new one's, beyond the commit.
        state.matched_index = state.commit
    was_leader = state.is_leader
    state.role, state.leader = Role.FOLLOWER, leader
    if leader:
        state.custody.led(term, leader)
    state.votes.clear()
    if was_leader:
        _lay_down_office(state)
    if changed:
        state.events.append(RoleChanged(term, Role.FOLLOWER, leader, reason))


def _lay_down_office(state: RaftState) -> None:
    """Forget what only a leader knows, so that nothing stale is ever acted upon later."""
    held = {peer: progress.match for peer, progress in state.progress.items()}
    state.custody.acknowledged = {**held, state.id: state.durable_index}
    state.leader_heard_ns = max(state.leader_heard_ns, office_ns(state))
    tracking.end(state)
    state.heartbeat_due_ns = NEVER
    state.uncommitted_bytes = 0
    state.transfer_target, state.transfer_sent = "", False
    state.transfer_deadline_ns = NEVER
    state.reset_election_deadline()


def start_pre_vote(state: RaftState, reason: str) -> None:
    """Ask whether an election could be won, without disturbing anybody (thesis section 9.6)."""
    if state.leader:
        state.patience.doubted(state.term)
    state.patience.stood()
    state.reset_election_deadline()
    if not may_campaign(state):
        return
    # The old leader is forgotten here: two members that both went on believing in a dead one
    # would refuse each other for ever.
    state.role, state.leader = Role.PRE_CANDIDATE, ""
    state.votes = {state.id: True}
    state.events.append(RoleChanged(state.term, Role.PRE_CANDIDATE, "", reason))
    if vote_result(state.configuration, state.votes) is VoteResult.WON:
        campaign(state, transfer=False)
        return
    last = state.log.last
    for peer in _other_voters(state):
        state.send(peer, PreVote(state.term + 1, last.term, last.index))


def campaign(state: RaftState, *, transfer: bool) -> None:
    """Stand for election in a new term (section 5.2)."""
    state.term += 1
    state.voted_for = state.id
    state.matched_index = state.commit
    state.role, state.leader = Role.CANDIDATE, ""
    state.votes = {}
    state.reset_election_deadline()
    reason = "the leader handed over" if transfer else "a quorum would vote for me"
    state.events.append(RoleChanged(state.term, Role.CANDIDATE, "", reason))
    last = state.log.last
    # Our own vote travels the same way as everybody else's: it counts once it is durable.
    state.reply(state.id, VoteReply(state.term, True))
    for peer in _other_voters(state):
        state.reply(peer, Vote(state.term, last.term, last.index, transfer))


def become_leader(state: RaftState) -> None:
    """Lead: announce it with an entry of our own term (sections 5.2 and 8)."""
    assert state.role is Role.CANDIDATE
    state.role, state.leader = Role.LEADER, state.id
    state.custody.led(state.term, state.id)
    state.reunion.leads()
    state.votes = {}
    last = state.log.last
    tracking.begin(state)
    state.heartbeat_due_ns = state.now_ns
    state.lease_void = False
    state.term_start = last.index + 1
    state.log.append([Entry(state.term, state.term_start, EntryKind.NOOP, b"")])
    state.uncommitted_bytes = state.log.size_bytes(state.handed + 1, state.term_start)
    state.events.append(RoleChanged(state.term, Role.LEADER, state.id, "a quorum voted for me"))


# --- the promises that keep elections calm --------------------------------------------------


def may_campaign(state: RaftState) -> bool:
    """Only a voter whose disk answers and remembers may stand: nobody else could keep a promise.

    Who is no voter in its latest configuration, but was one before, stands as long as it does not
    know that configuration to be committed: its log may be the longest there is, and nobody else
    could win (thesis section 4.2.2). Its own vote does not count.

    A configuration counts from the moment it is in the log, so a candidate cannot miss one that it
    holds (etcd #7625, where it counts once applied). It waits all the same until a configuration
    that it knows to be committed is applied: its driver learns there where new members live.
    """
    index, configuration = state.configurations[-1]
    voter = configuration.votes(state.id)
    if not voter and index > state.commit and len(state.configurations) > 1:
        voter = state.configurations[-2][1].votes(state.id)
    return (
        voter
        and not state.handed < index <= state.commit
        and not state.disqualified
        and not state.disk_stalled()
        and state.doubt is None  # it could lead without a committed entry
        and not state.device_full  # where would its vote for itself go?
    )


def promised(state: RaftState) -> bool:
    """Whether we still owe our leader that we help nobody else (thesis section 4.2.3)."""
    if state.is_leader:
        return office_until_ns(state) > state.now_ns
    return not state.patience.may_help(state.now_ns)


def quorum_contact_ns(state: RaftState) -> int:
    """The latest moment (our clock) by which a quorum is known to have accepted us as leader.

    It is the *sending* time of messages that were answered: a reply may be old when it arrives,
    but the request it answers was made at that moment or later received.
    """
    progress, own, now_ns = state.progress, state.id, state.now_ns

    def contact(peer: str) -> int:
        return now_ns if peer == own else progress[peer].contact_ns if peer in progress else 0

    return quorum_value(state.configuration, contact)


def office_ns(state: RaftState) -> int:
    """Since when nobody has spoken for us as leader.

    A new voter has not promised anything yet, so it counts for no lease; but a leader that has just
    asked for its agreement must be given the time to get it.
    """
    return max(quorum_contact_ns(state), state.office_since_ns)


def office_until_ns(state: RaftState) -> int:
    """Until when we hold office: as long as a quorum keeps to us, or has not been asked for long.

    Each member counts by the promise that the message it answered asked for, and at least for as
    long as a lease would (``windows``): we never help a rival while we rely on a lease.
    """
    progress, own = state.progress, state.id

    def office_until(peer: str) -> int:
        if peer == own:
            return NEVER
        return progress[peer].promises.office_until_ns if peer in progress else 0

    grace_ns = state.office_since_ns + state.settings.election_timeout_ns
    return max(quorum_value(state.configuration, office_until), grace_ns)


def lease_until_ns(state: RaftState) -> int:
    """Until when a quorum certainly helps nobody else, however clocks drift within their bound.

    Nothing but answered messages of our own counts here: no grace, and no moment of waking.
    """
    progress, own = state.progress, state.id

    def counted_until(peer: str) -> int:
        if peer == own:
            return NEVER
        return progress[peer].promises.counted_until_ns if peer in progress else 0

    return quorum_value(state.configuration, counted_until)


def keep_promise(state: RaftState, leader: str, promise_ns: int) -> None:
    """Heard from the leader of this term: help nobody else for a while."""
    if state.role is not Role.FOLLOWER or state.leader != leader:
        become_follower(state, state.term, leader, f"{leader} leads term {state.term}")
    state.leader_heard_ns = state.now_ns
    state.patience.heard(promise_ns, state.now_ns, state.term)
    state.reset_election_deadline()


def vouched_ns(state: RaftState, sent_ns: int, promise_ns: int) -> int:
    """What an answer says of when its question was sent: 0 if nobody may count on our promise."""
    return sent_ns if state.patience.vouches(promise_ns) else 0


# --- questions and answers ------------------------------------------------------------------


def on_pre_vote(state: RaftState, sender: str, ask: PreVote) -> None:
    """Say whether we would vote; nothing changes here.

    A refusal carries our term, so that a candidate with a lower one catches up and can then win:
    a longer log in a lower term would otherwise block for ever.
    """
    granted = (
        ask.term > state.term
        and state.doubt is None
        and not promised(state)
        and _may_help(state, sender)
        and LogPosition(ask.last_term, ask.last_index) >= state.log.last
    )
    state.reply(sender, PreVoteReply(state.term, ask.term, granted))


def on_pre_vote_reply(state: RaftState, sender: str, answer: PreVoteReply) -> None:
    """Count a would-be vote."""
    if state.role is not Role.PRE_CANDIDATE or answer.asked_term != state.term + 1:
        return
    if is_stranger(state, sender):
        return  # It forgot what it promised to others.
    state.votes[sender] = answer.granted
    match vote_result(state.configuration, state.votes):
        case VoteResult.WON if may_campaign(state):
            campaign(state, transfer=False)
        case VoteResult.LOST:
            become_follower(state, state.term, "", "a quorum would not vote for me")
        case _:
            pass


def on_vote(state: RaftState, sender: str, ask: Vote) -> None:
    """Cast a vote: at most one per term, and only for a log as complete as ours (section 5.4.1)."""
    if ask.term > state.term:
        if promised(state) and not ask.transfer:
            return  # Neither the vote nor the term: a removed or blind member disturbs nobody.
        become_follower(state, ask.term, "", f"{sender} stands for election in term {ask.term}")
    granted = (
        ask.term == state.term
        and not state.leader
        and state.voted_for in ("", sender)
        and state.doubt is None  # we may have acknowledged more than our log shows
        # We may have learned this very term from a late answer, after we promised.
        and (ask.transfer or not promised(state))
        and _may_help(state, sender)
        and LogPosition(ask.last_term, ask.last_index) >= state.log.last
    )
    if granted:
        become_follower(state, state.term, "", f"voted for {sender}")
        state.voted_for = sender
        state.reset_election_deadline()
    # Durable before it leaves: a vote that a crash forgets can be cast twice.
    state.reply(sender, VoteReply(state.term, granted))


def on_vote_reply(state: RaftState, sender: str, answer: VoteReply) -> None:
    """Count a vote."""
    if state.role is not Role.CANDIDATE or answer.term != state.term:
        return
    if is_stranger(state, sender):
        return  # It may have given the same vote to somebody else, and forgotten.
    state.votes[sender] = answer.granted
    match vote_result(state.configuration, state.votes):
        case VoteResult.WON:
            become_leader(state)
        case VoteResult.LOST:
            become_follower(state, state.term, "", "a quorum voted for others")
        case _:
            pass


def _may_help(state: RaftState, candidate: str) -> bool:
    """Whether our vote is ours to give. Our own view of the configuration does not matter here:
    a voter may not know yet that it was promoted, and the candidate's view decides.
    """
    return not state.disqualified and not is_stranger(state, candidate)


def _other_voters(state: RaftState) -> list[str]:
    configuration = state.configuration
    return sorted((configuration.voters | configuration.outgoing) - {state.id})
