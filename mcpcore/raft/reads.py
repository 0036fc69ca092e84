"""Reads that never return old news, without writing to the log (thesis section 6.4).

This module exists so that the two ways of knowing "nobody else leads" stand side by side: asking
a quorum (read index), and remembering until when a quorum promised (lease). It must never answer
from state: it says up to which index the state must be applied first.

HAZARD: a lease is as good as the rate of the monotonic clock. A member whose clock runs more than
``drift_ppm`` slow against another's may answer a read after a new leader was elected. Read-index
reads depend on no clock.
"""

from __future__ import annotations

from mcpcore.errors import LeaseUnavailable, NotLeader, QueueFull
from mcpcore.raft.election import lease_until_ns
from mcpcore.raft.messages import ReadIndex, ReadIndexReply
from mcpcore.raft.outcome import NEVER, ReadAnswer
from mcpcore.raft.quorum import quorum_value
from mcpcore.raft.state import RaftState


def ask(state: RaftState) -> int:
    """Ask for a linearizable read; the answer comes later under the number returned."""
    if len(state.reads_waiting) + len(state.reads_forwarded) >= state.settings.max_pending_reads:
        raise QueueFull(state.group, "reads", state.settings.max_pending_reads)
    if not state.leader:
        raise NotLeader(state.group, None)
    read = state.reads_next_id
    state.reads_next_id += 1
    if state.is_leader:
        _enqueue(state, read, state.id)
    else:
        state.reads_forwarded[read] = state.now_ns + state.settings.election_timeout_ns
        state.reply(state.leader, ReadIndex(state.term, read))
    return read


def lease_index(state: RaftState) -> int:
    """The index up to which state must be applied to answer right now, by the lease alone.

    Raises:
        NotLeader: we do not lead.
        LeaseUnavailable: a quorum's promise has run out or cannot be relied upon.
    """
    if not state.is_leader:
        raise NotLeader(state.group, state.leader or None)
    if not state.settings.lease_reads:
        raise LeaseUnavailable(state.group, "lease reads are switched off in the settings")
    if state.transfer_target:
        raise LeaseUnavailable(
            state.group, f"leadership is being handed to {state.transfer_target}"
        )
    if state.lease_void:
        raise LeaseUnavailable(state.group, "leadership was offered to another member in this term")
    if state.commit < state.term_start:
        raise LeaseUnavailable(state.group, "this leader has not yet committed in its own term")
    left_ns = lease_until_ns(state) - state.now_ns
    if left_ns <= 0:
        late_ms = -left_ns / 1e6
        raise LeaseUnavailable(state.group, f"a quorum's promise ran out {late_ms:.0f} ms ago")
    return state.commit


def on_read_index(state: RaftState, sender: str, question: ReadIndex) -> None:
    """A follower wants to read: treat it as our own, and tell it the index."""
    full = len(state.reads_waiting) >= state.settings.max_pending_reads
    if not state.is_leader or question.term != state.term or full:
        state.reply(sender, ReadIndexReply(state.term, question.read, 0))
    else:
        _enqueue(state, question.read, sender)


def on_read_index_reply(state: RaftState, sender: str, answer: ReadIndexReply) -> None:
    """The leader's answer. A number we did not ask under is of an older life, and dropped."""
    if state.reads_forwarded.pop(answer.read, None) is not None:
        valid = answer.term == state.term and sender == state.leader
        state.read_answers.append(ReadAnswer(answer.read, answer.read_index if valid else 0))


def confirm(state: RaftState) -> None:
    """Answer the reads that a quorum has confirmed *after* they were asked.

    Until the leader has committed in its own term it does not know the latest commit index, so
    reads wait without an index (etcd-style early answers return old state).
    """
    waiting = state.reads_waiting
    if not waiting or not state.is_leader or state.commit < state.term_start:
        return
    progress, own, sent = state.progress, state.id, state.read_round_sent

    def confirmed(peer: str) -> int:
        return sent if peer == own else progress[peer].round if peer in progress else 0

    done = quorum_value(state.configuration, confirmed)
    while waiting and waiting[0][0] <= done:
        _, read, asker, index = waiting.popleft()
        _answer(state, read, asker, max(index, state.term_start))


def fail_pending(state: RaftState) -> None:
    """We lost office or the leader: nobody can confirm these any more."""
    for _, read, asker, _ in state.reads_waiting:
        _answer(state, read, asker, 0)
    state.reads_waiting.clear()
    state.read_answers.extend(ReadAnswer(read, 0) for read in state.reads_forwarded)
    state.reads_forwarded.clear()


def forwarded_deadline_ns(state: RaftState) -> int:
    """When the oldest forwarded read is overdue; they are kept in the order of asking."""
    return next(iter(state.reads_forwarded.values()), NEVER)


def expire_forwarded(state: RaftState) -> None:
    """Give up on forwarded reads whose answer is overdue."""
    late = [read for read, due_ns in state.reads_forwarded.items() if due_ns <= state.now_ns]
    for read in late:
        del state.reads_forwarded[read]
        state.read_answers.append(ReadAnswer(read, 0))


def _enqueue(state: RaftState, read: int, asker: str) -> None:
    # One round serves every read asked since the last one left; its heartbeats leave after this.
    if state.read_round == state.read_round_sent:
        state.read_round += 1
    state.reads_waiting.append((state.read_round, read, asker, state.commit))


def _answer(state: RaftState, read: int, asker: str, index: int) -> None:
    if asker == state.id:
        state.read_answers.append(ReadAnswer(read, index))
    else:
        state.reply(asker, ReadIndexReply(state.term, read, index))
