"""How a member in doubt learns its log again, and when it is in doubt no more.

This module exists so that the argument for repairing a log stands beside the lines that rely on
it. A member whose disk lost entries may have acknowledged them, and they may be committed with its
help. So until it certainly holds every such entry again, it neither votes nor stands for election.
It must never decide what was lost: the disk says that (``Doubt``).

Four ways lead out of doubt. Let T be the log as it stood before the damage, and t the newest term
the member had promised anything in (certain; who has *forgotten* it never leaves doubt).

1. *Every hole was filled from another member's log.* If a log holds the entry behind our hole, at
   its index and term, then by Log Matching (section 5.3) everything before it is what T held. If
   it also agrees on the entry before the hole, the two ends meet and T is whole. This needs no
   leader, so that two members damaged at different places can help each other.
2. *Our log equals a leader's up to the highest index that T may have had.* While we do not vote,
   whoever leads was elected by members that forgot nothing, so it holds all that was committed
   (section 5.4.3); up to that index nothing of T that counts can be missing.
3. *Our log equals a leader's up to an entry of a term beyond t.* T's entries are of terms up to t.
   Those committed stand in that leader's log before the first entry of its own term.
4. *Our log equals that of the present leader as far as it reached when we asked.* The leader of
   this very term holds all that earlier terms committed, and all that we acknowledged to itself.

What it stores meanwhile it acknowledges, and that counts: such an answer is true, durable, and of
a term that it remembers, and the leader's windows live on it. Only what it said *before* is in
doubt, and a vote is the only act that relies on that. If several members are in doubt, fewer can
vote, and perhaps nobody can be elected: then this says so, and an operator must decide.

Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, sections
3.4 and 3.5; there a leader repairs its followers, here any log that Log Matching vouches for.
"""

from __future__ import annotations

from mcpcore.errors import GroupInDoubt
from mcpcore.raft.doubt import Answer, InDoubt
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import Recall, RecallReply
from mcpcore.raft.outcome import RoleChanged
from mcpcore.raft.quorum import VoteResult, vote_result
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import EMPTY_BLOCK, Block, Entry, LogPosition

# --- the member in doubt ------------------------------------------------------------------------


def ask_when_due(state: RaftState, doubt: InDoubt) -> None:
    """Ask everybody, once in a heartbeat interval, until the doubt is over."""
    if state.now_ns < doubt.due_ns:
        return
    doubt.due_ns = state.now_ns + state.settings.heartbeat_ns
    if doubt.fact.forgotten:
        _note_stuck(
            state,
            doubt,
            f"{state.id} has forgotten its vote, so it is a new member and not yet admitted. "
            "Remove it from the group and add it anew",
        )
    else:
        _judge_stuck(state, doubt)
        _ask(state, doubt)


def _ask(state: RaftState, doubt: InDoubt) -> None:
    anchor = doubt.runs[0][0] if doubt.runs else None
    question = Recall(
        state.term,
        doubt.number,
        state.log.last_index + 1,
        anchor.term if anchor else 0,
        anchor.index if anchor else 0,
    )
    for peer in sorted(state.configuration.members - {state.id}):
        state.reply(peer, question)


def on_recall_reply(state: RaftState, sender: str, answer: RecallReply) -> None:
    """Take what another member still holds, if it fits both ends of the hole."""
    doubt = state.doubt
    if doubt is None or answer.number != doubt.number:
        return
    doubt.answers[sender] = Answer(answer.held, answer.in_doubt)
    if answer.last_index and answer.term == state.term and sender == state.leader:
        doubt.leader_term, doubt.leader_last = answer.term, answer.last_index
    if answer.held and doubt.runs and _fits(state.log, doubt.runs[0][0], answer):
        _fill(state, doubt, answer.block)


def _fits(log: RaftLog, anchor: Entry, answer: RecallReply) -> bool:
    """Whether the answer's entries stand between our last entry and the anchor."""
    if answer.prev_term != log.last.term:
        return False  # another log's entry stands there: only a leader may settle that
    if not answer.block.entries:
        return log.last_index + 1 == anchor.index
    first, last = answer.block.entries[0], answer.block.entries[-1]
    return (
        first.index == log.last_index + 1
        and last.index < anchor.index
        and log.last.term <= first.term
        and last.term <= anchor.term
    )


def _fill(state: RaftState, doubt: InDoubt, block: Block) -> None:
    if block.entries:
        state.append_block(block)
    if state.log.last_index + 1 == doubt.runs[0][0].index:
        state.append_block(Block(doubt.runs.pop(0)))
        doubt.mended = not doubt.runs and not doubt.fact.open
    doubt.number += 1
    doubt.answers.clear()
    if doubt.runs:
        _ask(state, doubt)


def end_if_certain(state: RaftState, doubt: InDoubt) -> None:
    """Leave doubt once what we hold durably is certain to be all that counts of T."""
    log, fact = state.log, doubt.fact
    while doubt.runs and doubt.runs[0][0].index <= log.last_index:
        doubt.runs.pop(0)  # a leader's log has reached it and decides
    if fact.forgotten:
        return
    # What a leader has vouched for, as far as it is on our disk.
    sure = min(max(state.matched_index, state.commit), state.durable_index)
    if doubt.mended and state.durable_index >= fact.until:
        reason = "what was lost came back from the others"
    elif sure >= fact.until:
        reason = f"its log equals the leader's up to {sure}"
    elif (log.term_at(sure) or 0) > fact.term:
        reason = f"its log equals that of a leader elected after term {fact.term}"
    elif doubt.leader_term == state.term and sure >= doubt.leader_last:
        reason = f"its log equals the leader's up to {sure}, all that it held when asked"
    else:
        return
    state.doubt = None
    state.events.append(
        RoleChanged(state.term, state.role, state.leader, f"in doubt no more: {reason}")
    )


# --- everybody else -----------------------------------------------------------------------------


def on_recall(state: RaftState, sender: str, ask: Recall) -> None:
    """Say what we hold of what another member lost; a leader also corrects what it knows of it."""
    progress = state.progress.get(sender)
    if progress is not None and progress.match >= ask.first:
        # It confirmed these once and has lost them. That it did still counts for what is
        # committed: it will not vote before it has them again.
        progress.match = ask.first - 1
        progress.probe()
    held, prev_term, block = _look_up(state, ask)
    state.reply(
        sender,
        RecallReply(
            state.term,
            ask.number,
            held,
            prev_term,
            state.log.last_index if state.is_leader else 0,
            state.doubt is not None,
            block,
        ),
    )


def _look_up(state: RaftState, ask: Recall) -> tuple[bool, int, Block]:
    """Whether our log or a run of ours reaches from before ``first`` to the anchor."""
    first, anchor = ask.first, ask.anchor_index
    if not 0 < first <= anchor:
        return False, 0, EMPTY_BLOCK
    logs = [state.log]
    if state.doubt is not None:
        logs += [RaftLog(LogPosition(*run[0][:2]), run[1:]) for run in state.doubt.runs]
    for log in logs:
        prev_term = log.term_at(first - 1)
        if prev_term is not None and log.term_at(anchor) == ask.anchor_term:
            if first == anchor:
                return True, prev_term, EMPTY_BLOCK
            last = log.limit(first, anchor - 1, state.settings.max_append_bytes)
            return True, prev_term, log.block(first, last)
    return False, 0, EMPTY_BLOCK


# --- when nobody can help -----------------------------------------------------------------------


def _judge_stuck(state: RaftState, doubt: InDoubt) -> None:
    """Whether so many voters are in doubt, and none holds what we lack, that nobody may lead."""
    others = (state.configuration.voters | state.configuration.outgoing) - {state.id}
    answers = doubt.answers
    sound = {state.id: False} | {peer: not answer.in_doubt for peer, answer in answers.items()}
    hopeless = (
        not state.leader
        and others <= answers.keys()
        and not any(answer.held for answer in answers.values())
        and vote_result(state.configuration, sound) is VoteResult.LOST
    )
    if not hopeless:
        doubt.stuck, doubt.stuck_since_ns = "", 0
    elif not doubt.stuck_since_ns:
        doubt.stuck_since_ns = state.now_ns
    elif state.now_ns - doubt.stuck_since_ns >= state.settings.election_timeout_ns:
        voters = sorted(state.configuration.voters | state.configuration.outgoing)
        lost = [name for name in voters if not sound.get(name)]
        _note_stuck(
            state,
            doubt,
            f"{', '.join(lost)} of {', '.join(voters)} lost part of their logs, and nobody holds "
            f"what {state.id} lacks from index {_hole(state, doubt)}. Bring back a "
            "member whose disk is sound; if there is none, `mcpctl recover --plan` shows what can "
            "be kept",
        )


def _note_stuck(state: RaftState, doubt: InDoubt, why: str) -> None:
    if doubt.stuck != why:
        doubt.stuck = why
        state.events.append(RoleChanged(state.term, state.role, state.leader, f"stuck: {why}"))


def refuse_if_stuck(state: RaftState) -> None:
    """Say that waiting does not help.

    Raises:
        GroupInDoubt: nobody may lead, or this member may not take part.
    """
    if state.doubt is not None and state.doubt.stuck:
        raise GroupInDoubt(state.group, state.doubt.stuck)


def in_words(state: RaftState) -> str:
    """What this member lost and waits for; empty if it is in no doubt."""
    doubt = state.doubt
    if doubt is None or doubt.stuck:
        return "" if doubt is None else doubt.stuck
    return f"lost entries from index {_hole(state, doubt)}, waits for the others"


def _hole(state: RaftState, doubt: InDoubt) -> str:
    end = f"to {doubt.runs[0][0].index - 1}" if doubt.runs else "on"
    return f"{state.log.last_index + 1} {end}"
