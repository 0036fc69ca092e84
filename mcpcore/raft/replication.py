"""How a leader's log reaches the others (section 5.3).

This module exists so that "same index and term, same log up to there" is kept by one pair of
functions: one that sends what may be missing, one that stores what really is. Sends are pipelined
within windows of messages and bytes; a member whose log we do not know yet is probed first.
It must never decide what is committed.
"""

from __future__ import annotations

from mcpcore.errors import ProtocolViolation
from mcpcore.raft import backlog
from mcpcore.raft.commitment import advance_commit, learn_commit
from mcpcore.raft.election import keep_promise, vouched_ns
from mcpcore.raft.messages import Append, AppendReply, SnapshotReply
from mcpcore.raft.outcome import NEVER
from mcpcore.raft.progress import Progress
from mcpcore.raft.reuniting import refuses_entries
from mcpcore.raft.snapshots import ask_again, need_snapshot, on_reply
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Block

HELD_UP_TIMEOUTS = 10
"""After how many election timeouts a member whose reunion is held up is asked again."""

# --- leader -----------------------------------------------------------------------------------


def replicate(state: RaftState) -> None:
    """Send every member what it misses, as far as its windows allow."""
    state.paced_due_ns = NEVER
    last = state.log.last_index
    for peer, progress in state.progress.items():
        if progress.probing:
            if not progress.waiting:
                # Where the logs meet is not known, so nothing says yet that a snapshot is needed.
                progress.next = max(progress.next, state.log.base.index + 1)
                most = min(backlog.PROBE_BYTES, state.settings.max_append_bytes)
                _send_append(state, peer, progress, most)
        elif progress.next <= state.log.base.index:
            need_snapshot(state, peer, progress)
        else:
            limit = state.settings.max_inflight
            while (
                progress.next <= last
                and len(progress.inflight) < limit
                and progress.inflight_bytes < state.settings.max_inflight_bytes
                and (most := backlog.may_send(state, progress))
            ):
                _send_append(state, peer, progress, most)


def _send_append(state: RaftState, peer: str, progress: Progress, max_bytes: int) -> None:
    log = state.log
    prev_index = progress.next - 1
    prev_term = log.term_at(prev_index)
    assert prev_term is not None, "entries up to the base are gone"
    last = log.last_index
    if progress.next <= last:
        last = log.limit(progress.next, last, max_bytes)
    block = log.block(progress.next, last)
    state.send(
        peer,
        Append(
            state.term,
            progress.session,
            prev_term,
            prev_index,
            block,
            state.commit,
            state.now_ns,
            progress.promises.promise_ns,
        ),
    )
    progress.commit_sent = state.commit
    if progress.probing:
        progress.waiting = True
        progress.probe_sent_ns = state.now_ns
    elif block.entries:
        size = block.data_bytes
        progress.inflight.append((last, size, state.now_ns))
        progress.inflight_bytes += size
        progress.next = last + 1


def resend_lost(state: RaftState) -> None:
    """Probe members that left an append unanswered for a whole election timeout.

    Connections lose messages only when they break, and a new connection probes at once; this is
    the net below that.
    """
    patience_ns = state.settings.election_timeout_ns
    for progress in state.progress.values():
        if progress.awaits_snapshot:
            continue  # It may take for ever, and it says when it is done.
        if progress.probing:
            # Who is held up says when that is over, but the word may get lost.
            timeouts = HELD_UP_TIMEOUTS if progress.held_up else 1
            if progress.waiting and state.now_ns - progress.probe_sent_ns >= timeouts * patience_ns:
                progress.probe()
        elif progress.inflight and state.now_ns - progress.inflight[0][2] >= patience_ns:
            progress.probe()


def on_append_reply(state: RaftState, sender: str, answer: AppendReply) -> None:
    """Learn how far a member's log equals ours."""
    progress = heard(state, sender, answer.session, answer.sent_ns)
    if progress is None:
        return
    if answer.at_index > state.log.last_index:
        raise ProtocolViolation(
            f"{sender} answers for index {answer.at_index}, beyond our last {state.log.last_index}"
        )
    if answer.accepted:
        _accepted(state, sender, progress, answer.at_index)
    else:
        _refused(state, sender, progress, answer)


def on_snapshot_reply(state: RaftState, sender: str, answer: SnapshotReply) -> None:
    """Learn how far a member is with a snapshot."""
    progress = heard(state, sender, answer.session, answer.sent_ns)
    if progress is not None:
        on_reply(state, sender, progress, answer)


def heard(state: RaftState, sender: str, session: int, sent_ns: int) -> Progress | None:
    """The member's progress, if this answer belongs to our present conversation.

    Answers of an older term do not come this far (``Raft.step``), those of a disk that was not
    admitted no farther.
    """
    progress = state.progress.get(sender)
    if progress is None or session != progress.session or progress.stranger:
        return None
    if sent_ns > state.now_ns:
        raise ProtocolViolation(f"{sender} answers a message from the future ({sent_ns} ns)")
    if sent_ns > progress.contact_ns:
        progress.contact_ns = sent_ns
    progress.promises.answered(sent_ns)
    return progress


def measure(progress: Progress, round_trip_ns: int) -> None:
    """Smooth the round trip with the usual eighth, so that one late answer moves it little."""
    before_ns = progress.round_trip_ns
    progress.round_trip_ns = (
        before_ns + (round_trip_ns - before_ns) // 8 if before_ns else round_trip_ns
    )


def _accepted(state: RaftState, peer: str, progress: Progress, index: int) -> None:
    inflight = progress.inflight
    while inflight and inflight[0][0] <= index:
        _, size, sent_ns = inflight.popleft()
        progress.inflight_bytes -= size
        if progress.pacer is not None:
            progress.pacer.answered(size, sent_ns, state.now_ns)
    if index > progress.match:
        progress.match = index
        progress.next = max(progress.next, index + 1)
    if progress.probing and (not progress.awaits_snapshot or index >= state.log.base.index):
        progress.probe()
        progress.probing = False
        backlog.begin(state, progress)
    if progress.catch_up is not None:
        progress.catch_up.observe(progress.match, state.log.last_index, state.now_ns)
    if peer in state.leaving:
        state.chores = True  # it may know enough now, and nothing more is meant for it
    advance_commit(state)


def _refused(state: RaftState, peer: str, progress: Progress, answer: AppendReply) -> None:
    if answer.at_index <= progress.match or progress.awaits_snapshot:
        return  # An old refusal: that position was found to match since, or entries won't help.
    if progress.probing and answer.at_index != progress.next - 1:
        return  # Answers an earlier probe.
    meet = state.log.last_position_at_most(answer.hint_index, answer.hint_term)
    progress.probe()
    progress.next = max(progress.match, meet.index) + 1
    if progress.next <= state.log.base.index:
        need_snapshot(state, peer, progress)


# --- follower ---------------------------------------------------------------------------------


def on_append(state: RaftState, sender: str, ask: Append) -> None:
    """Store what the leader sent, if our logs agree on what comes before it."""
    keep_promise(state, sender, ask.promise_ns)
    sent_ns = vouched_ns(state, ask.sent_ns, ask.promise_ns)
    ask_again(state, sender)
    log = state.log
    known = log.term_at(ask.prev_index)
    if ask.prev_index < log.base.index:
        # The snapshot already covers it; what it covers is committed and therefore equal.
        known = ask.prev_term
    if known != ask.prev_term:
        hint = log.last_position_at_most(ask.prev_index, ask.prev_term)
        state.reply(
            sender,
            AppendReply(
                state.term,
                ask.session,
                False,
                ask.prev_index,
                hint.term,
                hint.index,
                sent_ns,
            ),
        )
        return
    if refuses_entries(state, sender, ask):
        return
    last_new = ask.prev_index + len(ask.block)
    _store_missing(state, sender, ask.block)
    state.matched_index = max(state.matched_index, last_new)
    state.reunion.reached(state.matched_index)
    learn_commit(state, ask.commit)
    state.reply_after_log(
        sender, AppendReply(state.term, ask.session, True, last_new, 0, 0, sent_ns)
    )


def _store_missing(state: RaftState, sender: str, block: Block) -> None:
    """Append the entries we lack. Only an entry that really conflicts truncates ours.

    An old, reordered append must not cut off entries that arrived since: they matched.
    """
    log = state.log
    for position, entry in enumerate(block.entries):
        if entry.index <= log.base.index:
            continue
        ours = log.term_at(entry.index)
        if ours == entry.term:
            continue
        if ours is not None:
            if entry.index <= state.commit:
                raise ProtocolViolation(
                    f"{sender} wants to replace index {entry.index}, committed up to {state.commit}"
                )
            state.truncate_from(entry.index)
        state.append_block(Block(block.entries[position:]) if position else block)
        return
