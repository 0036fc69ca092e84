"""A reunion that waits for an operator, and a group that need not wait for it.

This module exists so that the whole argument why holding up a reunion costs neither safety nor
liveness stands in one place. It must never decide *whether* a gap needs a person (``reunion``), nor
keep anything on a disk.

**What is refused.** A member whose reunion is held up stores no entry of the leader and takes no
snapshot: its log stays as it is, its own suffix included. It says so (``ReunionHeld``) instead of
answering the append. All else goes on: it votes, keeps its promise to the leader, and answers
heartbeats, so reads are confirmed and the leader holds office with its help.

**Safety.** To answer an append late, or never, is what every slow link does. The member vouches for
nothing that it has not stored, so nothing counts as committed on its word; its log is what it was,
so its vote means what it always means.

**Liveness.** The leader counts. If an entry has waited for a quorum for a whole election timeout
while somebody is held up, the group may need that member: the leader says so (``ReunionNeeded``),
and the member gives way, with the leader's name on record in the place of an operator's. What it
gives up goes to quarantine as ever. So a held-up reunion delays a commit by an election timeout
and a round trip at most, once, and no answer of an operator is ever needed for the group to go on.

Who is elected while it is held up leads, and waits for nobody: its log is the group's.

**Messages may get lost**, and an operator may answer while the member follows nobody. A new
connection, and a new leader, begin with a probe, and a leader probes again now and then
(``replication.resend_lost``): the member says again that it is held up, or takes what it gets. What
a leader remembers about it ends with the session.
"""

from __future__ import annotations

from mcpcore.errors import ProtocolViolation
from mcpcore.raft.election import vouched_ns
from mcpcore.raft.messages import (
    Append,
    ReunionHeld,
    ReunionNeeded,
    SnapshotOffer,
    SnapshotReply,
    SnapshotStatus,
)
from mcpcore.raft.progress import Progress
from mcpcore.raft.reunion import Answer, Gap, Plan
from mcpcore.raft.reunion_guard import ReunionEvent
from mcpcore.raft.split import SplitState
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import LogPosition


class Reunions:
    """What a driver does about reunions.

    Args:
        state: of the member.
    """

    __slots__ = ("_state",)

    def __init__(self, state: RaftState) -> None:
        self._state = state

    @property
    def held(self) -> Plan | None:
        """The plan that waits for an operator's answer."""
        return self._state.reunion.held

    def judged(self, verdict: SplitState) -> None:
        """The verdict about this group changed."""
        self._state.reunion.judged(verdict)

    def recall(self, *, split: bool, agreed: Answer | None) -> None:
        """What an earlier life had made durable."""
        self._state.reunion.recall(split=split, agreed=agreed)

    def agree(self, answer: Answer) -> None:
        """An operator's answer, which is durable by now.

        Raises:
            InvalidInput: nothing is held up, or it is the answer to another plan.
        """
        self._state.reunion.agree(answer)
        _tell(self._state, over=True)

    def take_events(self) -> list[ReunionEvent]:
        """What happened since the last call."""
        guard = self._state.reunion
        events, guard.events = guard.events, []
        return events


# --- the member -----------------------------------------------------------------------------------


def refuses_entries(state: RaftState, leader: str, ask: Append) -> bool:
    """Whether what this append would do to our log has to wait. ``prev`` matches already."""
    guard = state.reunion
    if not guard.on_guard or guard.under_way:
        return False
    log = state.log
    for entry in ask.block.entries:
        if entry.index > log.base.index and log.term_at(entry.index) != entry.term:
            break
    else:
        return False  # it brings nothing
    if entry.index <= state.commit:
        return False  # no correct leader wants that, and whoever stores it will say so
    ancestor = log.term_at(entry.index - 1)
    assert ancestor is not None, "it follows on something that matches, or on our base"
    common = LogPosition(ancestor, entry.index - 1)
    last = ask.block.entries[-1]
    end = LogPosition(max(last.term, common.term), max(last.index, ask.commit))
    refused = guard.refuses(
        Gap(
            state.group,
            state.id,
            commit=max(state.commit, min(ask.commit, common.index)),
            ours=log.last,
            theirs=end,
            their_first=entry.index,
            ancestor=common,
            entry_bytes=sum(len(each.data) for each in ask.block.entries),
        )
    )
    if refused:
        _note(state, leader, ask.session, vouched_ns(state, ask.sent_ns, ask.promise_ns))
    return refused


def refuses_snapshot(state: RaftState, leader: str, offer: SnapshotOffer) -> bool:
    """Whether a snapshot that would replace our log has to wait; the leader is told."""
    guard = state.reunion
    if not guard.on_guard or guard.under_way:
        return False
    log = state.log
    position = LogPosition(offer.last_term, offer.last_index)
    common = LogPosition(log.term_at(state.commit) or 0, state.commit)
    meet = log.last_position_at_most(position.index, position.term)
    if meet.term == position.term and meet.index > common.index:
        common = meet  # its own leader made it, so the snapshot contains it
    refused = guard.refuses(
        Gap(
            state.group,
            state.id,
            commit=state.commit,
            ours=log.last,
            theirs=position,
            their_first=position.index + 1,
            ancestor=common,
            snapshot_index=position.index,
        )
    )
    if refused:
        sent_ns = vouched_ns(state, offer.sent_ns, offer.promise_ns)
        _note(state, leader, offer.session, sent_ns)
        no = int(SnapshotStatus.REFUSED)
        state.reply(
            leader,
            SnapshotReply(state.term, offer.session, offer.transfer, no, 0, 0, b"", sent_ns),
        )
    return refused


def _note(state: RaftState, leader: str, session: int, sent_ns: int) -> None:
    state.reunion_talk = (leader, session, sent_ns)
    _tell(state, over=False)


def _tell(state: RaftState, *, over: bool) -> None:
    """Tell the leader that asked whether its entries are taken."""
    leader, session, sent_ns = state.reunion_talk
    if leader and leader == state.leader:
        last = state.log.last
        state.reply(
            leader,
            ReunionHeld(state.term, session, over, state.commit, last.term, last.index, sent_ns),
        )


def on_needed(state: RaftState, sender: str, ask: ReunionNeeded) -> None:
    """The group cannot commit without us: give way."""
    held = state.reunion.held
    if held is not None:
        reason = f"{sender}, for the group could not commit without this member"
        state.reunion.agree(Answer(held.gap.episode, reason))
    # Said also if nothing is held up here: the leader believes so, for our word was lost.
    talked_to, _, sent_ns = state.reunion_talk
    state.reunion_talk = (sender, ask.session, sent_ns if talked_to == sender else 0)
    _tell(state, over=True)


# --- the leader -----------------------------------------------------------------------------------


def on_held(state: RaftState, sender: str, progress: Progress, told: ReunionHeld) -> None:
    """Send a member nothing that it would not take, until it does."""
    if told.last_index < told.commit:
        raise ProtocolViolation(
            f"{sender} says that it committed {told.commit} entries of a log of {told.last_index}"
        )
    progress.probe()
    progress.waiting = progress.held_up = not told.over


def call_for_the_needed(state: RaftState) -> None:
    """If a commit waits for too long, ask those who are held up to come in all the same."""
    held = [peer for peer, progress in state.progress.items() if progress.held_up]
    commit, since_ns = state.commit_waits
    if not held or commit != state.commit or state.commit == state.log.last_index:
        state.commit_waits = (state.commit, state.now_ns)
        return
    if state.now_ns - since_ns < state.settings.election_timeout_ns:
        return
    state.commit_waits = (state.commit, state.now_ns)
    for peer in held:
        state.send(peer, ReunionNeeded(state.term, state.progress[peer].session))
