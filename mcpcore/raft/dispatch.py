"""Which rule a message is about, and whether its term lets it count (section 5.1).

This module exists so that the one rule about terms (a higher one is followed, a lower one counts
for nothing) stands in front of all others, once. It must never decide anything else.
"""

from __future__ import annotations

from mcpcore.errors import ProtocolViolation
from mcpcore.raft import (
    commitment,
    election,
    quiescence,
    reads,
    recall,
    replication,
    reuniting,
    snapshots,
    transfer,
)
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Awake,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Recall,
    RecallReply,
    Rest,
    ReunionHeld,
    ReunionNeeded,
    SnapshotAsk,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from mcpcore.raft.state import RaftState

# Questions are answered with our newer term. A pre-vote changes no term, so whoever lags behind can
# still grant one; its answer names the term that was asked about.
_TERM_NEED_NOT_BE_OURS = frozenset({PreVote, PreVoteReply, Vote, ReadIndex, Recall, RecallReply})
_REPLIES = frozenset(
    {
        AppendReply,
        HeartbeatReply,
        PreVoteReply,
        VoteReply,
        ReadIndexReply,
        Awake,
        SnapshotReply,
        ReunionHeld,
    }
)
_FROM_LEADER = frozenset({Append, Heartbeat, Rest, SnapshotOffer, SnapshotChunk, ReunionNeeded})


def dispatch(state: RaftState, sender: str, message: Message) -> None:
    """Let the rule that a message is about act on it.

    Raises:
        ProtocolViolation: no correct member sends this.
    """
    if state.doubt is not None and state.doubt.fact.forgotten:
        return  # It may have promised anything to anybody: every word could break a promise.
    term = message.term
    kind = type(message)
    if term > state.term:
        if kind in _FROM_LEADER:
            election.become_follower(state, term, sender, f"{sender} leads term {term}")
        elif kind in _REPLIES:
            reason = f"{sender} is already in term {term}"
            election.become_follower(state, term, "", reason)
    elif term < state.term:
        if kind is Append:
            assert isinstance(message, Append)
            refusal = AppendReply(state.term, message.session, False, 0, 0, 0, 0)
            state.reply(sender, refusal)
            return
        if kind is Heartbeat:
            assert isinstance(message, Heartbeat)
            state.reply(sender, HeartbeatReply(state.term, message.session, 0, 0))
            return
        if isinstance(message, SnapshotOffer | SnapshotChunk):
            snapshots.refuse_old(state, sender, message)
            return
        if kind is Rest:
            state.reply(sender, Awake(state.term))  # it leads no more, and must not sleep on
            return
        if kind not in _TERM_NEED_NOT_BE_OURS:
            return  # An answer or offer of an older term: it counts for nothing now.
    match message:
        case Append():
            _expect_follower(state, sender, term)
            replication.on_append(state, sender, message)
        case AppendReply():
            replication.on_append_reply(state, sender, message)
        case Heartbeat():
            _expect_follower(state, sender, term)
            _on_heartbeat(state, sender, message)
        case HeartbeatReply():
            _on_heartbeat_reply(state, sender, message)
        case PreVote():
            election.on_pre_vote(state, sender, message)
        case PreVoteReply():
            election.on_pre_vote_reply(state, sender, message)
        case Vote():
            election.on_vote(state, sender, message)
        case VoteReply():
            election.on_vote_reply(state, sender, message)
        case TimeoutNow():
            transfer.on_timeout_now(state, sender, message)
        case ReadIndex():
            reads.on_read_index(state, sender, message)
        case ReadIndexReply():
            reads.on_read_index_reply(state, sender, message)
        case SnapshotOffer():
            _expect_follower(state, sender, term)
            snapshots.on_offer(state, sender, message)
        case SnapshotChunk():
            _expect_follower(state, sender, term)
            snapshots.on_chunk(state, sender, message)
        case SnapshotReply():
            replication.on_snapshot_reply(state, sender, message)
        case SnapshotAsk():
            snapshots.on_ask(state, sender, message)
        case Rest():
            _expect_follower(state, sender, term)
            quiescence.on_rest(state, sender, message)
        case Awake():
            pass  # whoever slept is awake by now
        case Recall():
            recall.on_recall(state, sender, message)
        case ReunionHeld():
            progress = replication.heard(state, sender, message.session, message.sent_ns)
            if progress is not None:
                reuniting.on_held(state, sender, progress, message)
        case ReunionNeeded():
            _expect_follower(state, sender, term)
            reuniting.on_needed(state, sender, message)
        case RecallReply():
            recall.on_recall_reply(state, sender, message)


def _expect_follower(state: RaftState, sender: str, term: int) -> None:
    if state.is_leader or (state.leader and state.leader != sender):
        raise ProtocolViolation(
            f"{sender} claims to lead term {term} of group {state.group}, which "
            f"{state.leader} leads"
        )


def _on_heartbeat(state: RaftState, sender: str, beat: Heartbeat) -> None:
    if beat.sent_ns:
        election.keep_promise(state, sender, beat.promise_ns)
    if beat.sent_ns and state.patience.vouches(beat.promise_ns):
        state.reply(sender, HeartbeatReply(state.term, beat.session, beat.round, beat.sent_ns))
    commitment.learn_commit(state, beat.commit)
    snapshots.ask_again(state, sender)


def _on_heartbeat_reply(state: RaftState, sender: str, answer: HeartbeatReply) -> None:
    progress = replication.heard(state, sender, answer.session, answer.sent_ns)
    if progress is not None:
        if answer.round > state.read_round_sent:
            raise ProtocolViolation(f"{sender} confirms read round {answer.round}, not yet sent")
        progress.round = max(progress.round, answer.round)
        replication.measure(progress, state.now_ns - answer.sent_ns)
        if state.windows.settings.moving:
            state.windows.link(sender).answered(answer.sent_ns, state.now_ns)
