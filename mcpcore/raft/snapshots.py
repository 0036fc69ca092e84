"""Snapshots instead of entries that are gone (section 7; thesis chapter 5).

This module exists so that the answer to "may the log begin later, and what may stand in its place?"
sits on one screen, for the leader that sends a snapshot and for the member that takes it in. How a
snapshot is made, stored and carried in pieces is the driver's business, and this module must never
look into one. Four rules:

- Only what was applied may be compacted, and compaction waits, within a bound, for members that are
  about to get those entries.
- A snapshot message is the leader's word like any other: it binds to the promise and keeps the
  election timer calm, however long an installation takes, and nothing here has a time limit.
- A snapshot is installed only if it is newer than what is committed here. If our log agrees with
  it at its last entry, the entries are at hand and nothing is replaced.
- With a snapshot comes the configuration of its position, never mixed with what the log said.
"""

from __future__ import annotations

from mcpcore.errors import ProtocolViolation
from mcpcore.raft import backlog, quiescence
from mcpcore.raft.commitment import advance_commit, learn_commit
from mcpcore.raft.election import become_follower, keep_promise, vouched_ns
from mcpcore.raft.messages import (
    SnapshotAsk,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotReply,
    SnapshotStatus,
)
from mcpcore.raft.progress import Progress
from mcpcore.raft.reuniting import refuses_snapshot
from mcpcore.raft.snapshot_events import (
    BaseChange,
    ChunkArrived,
    SnapshotAnswered,
    SnapshotEvent,
    SnapshotOffered,
    SnapshotWanted,
)
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Configuration, LogPosition


class Snapshots:
    """What a driver does with snapshots. Each verb that sends says whether it still made sense.

    Args:
        state: of the member.
    """

    __slots__ = ("_state",)

    def __init__(self, state: RaftState) -> None:
        self._state = state

    # --- any member -----------------------------------------------------------------------------

    def compact(self, snapshot_index: int, *, trailing: int = 0, hold_bytes: int = 0) -> int:
        """Drop entries that a durable snapshot covers, and return where the log begins then.

        Args:
            snapshot_index: the last entry that the snapshot covers; it was applied.
            trailing: entries before that index to keep, so that a member that is slightly behind
                gets entries and no snapshot.
            hold_bytes: as a leader, keep at most so many bytes of entries more, for members that
                answer and are about to get them.
        """
        state = self._state
        log = state.log
        assert snapshot_index <= state.handed, "only what was applied may be compacted"
        index = snapshot_index - trailing
        pending = state.base_change
        if index <= log.base.index or (pending is not None and not pending.suffix_kept):
            return log.base.index
        for progress in state.progress.values():
            needed = max(progress.match, progress.snapshot_index)
            silent_ns = state.now_ns - progress.contact_ns
            if (
                log.base.index <= needed < index
                and silent_ns < state.settings.election_timeout_ns
                and log.size_bytes(needed + 1, index) <= hold_bytes
            ):
                index = needed
        if index > log.base.index:
            log.compact_to(index)
            _forget_configurations(state, index)
            state.base_change = BaseChange(log.base, state.configurations[0][1], True)
        return log.base.index

    def configuration_at(self, index: int) -> Configuration:
        """The one in force at an applied index."""
        known = self._state.configurations
        return next(found for at, found in reversed(known) if at <= index)

    # --- the leader -----------------------------------------------------------------------------

    def serves(self, peer: str, session: int) -> bool:
        """Whether we lead, and still talk to ``peer`` in this session."""
        progress = self._state.progress.get(peer)
        return progress is not None and progress.session == session

    def offer(
        self, peer: str, session: int, transfer: int, position: LogPosition, head: bytes
    ) -> bool:
        """Offer a snapshot; what follows is numbered ``transfer``."""
        state = self._state
        if not self.serves(peer, session):
            return False
        state.progress[peer].snapshot_index = position.index
        promise_ns = state.progress[peer].promises.promise_ns
        state.send(
            peer,
            SnapshotOffer(state.term, session, transfer, *position, head, state.now_ns, promise_ns),
        )
        return True

    def send_chunk(
        self, peer: str, session: int, transfer: int, offset: int, data: bytes, checksum: int
    ) -> bool:
        """Send some bytes of what was offered."""
        state = self._state
        if not self.serves(peer, session):
            return False
        promise_ns = state.progress[peer].promises.promise_ns
        state.send(
            peer,
            SnapshotChunk(
                state.term, session, transfer, offset, data, checksum, state.now_ns, promise_ns
            ),
        )
        return True

    # --- the member that takes it in ------------------------------------------------------------

    def answer(
        self,
        asked: SnapshotOffered | ChunkArrived,
        status: SnapshotStatus,
        *,
        offset: int = 0,
        facts: bytes = b"",
    ) -> None:
        """Answer an offer or a chunk; INSTALLED leaves once the log is durably in its place."""
        state = self._state
        message = asked.offer if isinstance(asked, SnapshotOffered) else asked.chunk
        installed = status is SnapshotStatus.INSTALLED
        index = 0
        if installed:
            assert isinstance(message, SnapshotOffer), "it is the offer that names the index"
            index = message.last_index
            assert index <= state.commit, "only what is in force is vouched for"
        reply = SnapshotReply(
            state.term,
            message.session,
            message.transfer,
            int(status),
            index,
            offset,
            facts,
            vouched_ns(state, message.sent_ns, message.promise_ns),
        )
        if installed:
            state.reply_after_log(asked.sender, reply)
        else:
            state.reply(asked.sender, reply)

    def install(self, position: LogPosition, configuration: Configuration) -> bool:
        """Let a durable, verified snapshot take effect, if it is news here.

        Returns:
            Whether the state machine must become the snapshot, now, before anything else is
            applied. If not, the entries up to ``position`` are at hand and come with ``ready``.
        """
        state = self._state
        log = state.log
        assert position.term <= state.term, "the leader that sent it was in no lower term"
        if position.index < log.base.index:
            return False
        matches = log.term_at(position.index) == position.term
        if matches:
            state.matched_index = max(state.matched_index, position.index)
            state.commit = max(state.commit, position.index)
        if state.stateless:
            if not matches:
                assert position.index > state.commit, "what is committed is not dropped"
                _replace_log(state, position, configuration)
            elif position.index > log.base.index:
                log.compact_to(position.index)
                _forget_configurations(state, position.index)
                state.base_change = BaseChange(log.base, state.configurations[0][1], True)
            state.stateless = False
            state.handed = position.index
            return True
        if matches or position.index <= state.commit:
            return False
        _replace_log(state, position, configuration)
        return True

    def lose_state(self) -> None:
        """The applied state cannot be believed: apply nothing until a snapshot has come.

        The log stays, and so does the duty to vote and to store. A leader steps down: it could
        not even answer what it commits.
        """
        state = self._state
        if state.is_leader:
            become_follower(state, state.term, "", "the applied state is lost")
        quiescence.wake(state, state.now_ns)
        state.stateless = True
        state.handed = state.log.base.index
        state.snapshot_ask_due_ns = state.now_ns

    def take_events(self) -> list[SnapshotEvent]:
        """What happened to snapshots since the last call."""
        events, self._state.snapshot_events = self._state.snapshot_events, []
        return events


def _replace_log(state: RaftState, position: LogPosition, configuration: Configuration) -> None:
    """Nothing of our log is known to lead up to the snapshot: it goes, and with it what it said."""
    before = min(state.commit, position.index - 1)
    state.durable_index = min(state.durable_index, before)
    for write in state.writes:
        write.last_index = min(write.last_index, before)
    state.custody.replaced(state.log, position, state.commit, state.leader)
    state.log.replace(position)
    state.new_blocks = []
    state.unwritten_from = position.index + 1
    state.configurations = [(position.index, configuration)]
    state.commit = state.handed = state.matched_index = position.index
    state.reunion.reached(position.index)
    state.base_change = BaseChange(position, configuration, False)


def _forget_configurations(state: RaftState, index: int) -> None:
    """Only the newest configuration up to the log's new beginning still matters."""
    while len(state.configurations) > 1 and state.configurations[1][0] <= index:
        del state.configurations[0]


# --- messages: leader ---------------------------------------------------------------------------


def need_snapshot(state: RaftState, peer: str, progress: Progress) -> None:
    """The entries that come next for this member are gone: ask the driver for a snapshot."""
    progress.await_snapshot()
    state.snapshot_events.append(SnapshotWanted(peer, progress.session, state.log.base.index))


def on_reply(state: RaftState, sender: str, progress: Progress, answer: SnapshotReply) -> None:
    """A member answered; once the snapshot is installed there, entries go on after it."""
    if answer.status == SnapshotStatus.INSTALLED:
        if answer.at_index > state.log.last_index:
            raise ProtocolViolation(
                f"{sender} installed a snapshot up to {answer.at_index}, beyond our last "
                f"{state.log.last_index}"
            )
        progress.match = max(progress.match, answer.at_index)
        began = progress.awaits_snapshot
        if began:
            progress.probe()
            progress.probing = False
        progress.snapshot_index = 0
        progress.next = max(progress.next, progress.match + 1)
        if began:
            backlog.begin(state, progress)
        advance_commit(state)
    state.snapshot_events.append(SnapshotAnswered(sender, answer))


def on_ask(state: RaftState, sender: str, ask: SnapshotAsk) -> None:
    """A member lost its state but not its log: entries go on, and a snapshot goes beside them."""
    progress = state.progress.get(sender)
    if progress is not None and ask.term == state.term:
        least = max(ask.at_least, state.log.base.index)
        state.snapshot_events.append(SnapshotWanted(sender, progress.session, least))


# --- messages: the other members ----------------------------------------------------------------


def on_offer(state: RaftState, sender: str, offer: SnapshotOffer) -> None:
    """Take an offer, unless we have all that it covers."""
    keep_promise(state, sender, offer.promise_ns)
    if not state.stateless:
        if state.log.term_at(offer.last_index) == offer.last_term:
            # Section 7: "retain log entries following it and reply". What a snapshot covers is
            # committed, and our log is the same up to there.
            state.matched_index = max(state.matched_index, offer.last_index)
            learn_commit(state, offer.last_index)
        if offer.last_index <= state.commit:
            state.reply_after_log(
                sender,
                SnapshotReply(
                    state.term,
                    offer.session,
                    offer.transfer,
                    int(SnapshotStatus.INSTALLED),
                    offer.last_index,
                    0,
                    b"",
                    vouched_ns(state, offer.sent_ns, offer.promise_ns),
                ),
            )
            return
        if refuses_snapshot(state, sender, offer):
            return
    state.snapshot_events.append(SnapshotOffered(sender, offer))


def on_chunk(state: RaftState, sender: str, chunk: SnapshotChunk) -> None:
    """Take some bytes."""
    keep_promise(state, sender, chunk.promise_ns)
    state.snapshot_events.append(ChunkArrived(sender, chunk))


def refuse_old(state: RaftState, sender: str, message: SnapshotOffer | SnapshotChunk) -> None:
    """Tell a leader of an older term that its time is over."""
    refusal = int(SnapshotStatus.REFUSED)
    state.reply(
        sender, SnapshotReply(state.term, message.session, message.transfer, refusal, 0, 0, b"", 0)
    )


def ask_again(state: RaftState, leader: str) -> None:
    """Remind the leader, once in an election timeout, that we need a snapshot."""
    if state.stateless and state.now_ns >= state.snapshot_ask_due_ns:
        state.snapshot_ask_due_ns = state.now_ns + state.settings.election_timeout_ns
        state.reply(leader, SnapshotAsk(state.term, state.log.base.index))
