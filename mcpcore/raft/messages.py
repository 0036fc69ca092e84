"""What members of a group say to each other.

This module exists so that every field on the wire has one definition. Requests are imperative,
replies carry the replier's term, so that a late answer of an older life is recognised and dropped.
Who sent a message is not in it: the transport knows that from the sender's certificate.
It must never hold behaviour.

Times (``sent_ns``) are readings of the *leader's* monotonic clock, echoed back unchanged, so that
no two clocks are ever compared.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from mcpcore.raft.types import Block


class PreVote(NamedTuple):
    """Would you vote for me in ``term``? Changes nothing at the receiver (thesis section 9.6)."""

    term: int
    last_term: int
    last_index: int


class PreVoteReply(NamedTuple):
    """The answer to a :class:`PreVote`; ``asked_term`` is the term that was asked about."""

    term: int
    asked_term: int
    granted: bool


class Vote(NamedTuple):
    """Vote for me in ``term`` (RequestVote, Figure 2).

    ``transfer`` says that the leader itself asked for this election, so that a promise to that
    leader does not stand against it (thesis section 4.2.3).
    """

    term: int
    last_term: int
    last_index: int
    transfer: bool


class VoteReply(NamedTuple):
    """The answer to a :class:`Vote`."""

    term: int
    granted: bool


class Append(NamedTuple):
    """Store these entries after (prev_term, prev_index) (AppendEntries, Figure 2).

    Args:
        session: number of this leader's conversation with this member; the reply repeats it.
        commit: the leader's commit index.
        sent_ns: the leader's monotonic clock when this was made.
        promise_ns: for how long after receipt the receiver helps no other candidate.
    """

    term: int
    session: int
    prev_term: int
    prev_index: int
    block: Block
    commit: int
    sent_ns: int
    promise_ns: int


class AppendReply(NamedTuple):
    """The answer to an :class:`Append`.

    ``accepted``: ``at_index`` is the last entry known to be on the follower's disk and equal to the
    leader's. Otherwise ``at_index`` repeats the refused ``prev_index``, and (hint_term, hint_index)
    is the last position at or below it that could still match (section 5.3, fast back-tracking).
    """

    term: int
    session: int
    accepted: bool
    at_index: int
    hint_term: int
    hint_index: int
    sent_ns: int


class Heartbeat(NamedTuple):
    """I still lead ``term``.

    ``round`` numbers the latest round of reads to be confirmed. ``sent_ns`` 0 means that only the
    commit index is news, and no reply is wanted.
    """

    term: int
    session: int
    commit: int
    round: int
    sent_ns: int
    promise_ns: int


class HeartbeatReply(NamedTuple):
    """The answer to a :class:`Heartbeat`."""

    term: int
    session: int
    round: int
    sent_ns: int


class TimeoutNow(NamedTuple):
    """Start an election at once: leadership is being handed to you (thesis section 3.10)."""

    term: int


class ReadIndex(NamedTuple):
    """At which index may I answer a read? Asked by a follower (thesis section 6.4)."""

    term: int
    read: int


class ReadIndexReply(NamedTuple):
    """The answer to a :class:`ReadIndex`; ``read_index`` 0 means that the
    leader cannot say."""

    term: int
    read: int
    read_index: int


class Rest(NamedTuple):
    """All is said: sleep until something concerns us, if your log too ends at ``index``.

    The group then relies on the beats between the nodes (``mcpcore.raft.quiescence``).
    """

    term: int
    session: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class Awake(NamedTuple):
    """I am awake in ``term``: wake up too."""

    term: int


class Recall(NamedTuple):
    """I lost part of my log: who still holds it? Asked of everybody by a member in doubt.

    Args:
        number: of the question; the answer repeats it.
        first: the first index the asker does not hold.
        anchor_term: term of the first entry that it does hold again; 0 if there is none.
        anchor_index: its index.
    """

    term: int
    number: int
    first: int
    anchor_term: int
    anchor_index: int


class RecallReply(NamedTuple):
    """The answer to a :class:`Recall`.

    Args:
        held: whether the answering log holds the anchor and what stands before it; then
            ``prev_term`` and ``block`` mean something.
        prev_term: the term of the entry before ``first``.
        last_index: how far the log reaches, if it is a leader's; otherwise 0.
        in_doubt: whether the answering member is in doubt itself.
        block: entries from ``first`` on, all before the anchor.
    """

    term: int
    number: int
    held: bool
    prev_term: int
    last_index: int
    in_doubt: bool
    block: Block


class ReunionHeld(NamedTuple):
    """I take none of your entries, since an operator must agree first; or, with ``over``: I do now.

    ``commit`` and (``last_term``, ``last_index``) say where my log stands. The answer to an append
    or an offer, whose ``session`` and ``sent_ns`` it repeats.
    """

    term: int
    session: int
    over: bool
    commit: int
    last_term: int
    last_index: int
    sent_ns: int


class ReunionNeeded(NamedTuple):
    """The group cannot commit without you: take my entries, whatever an operator was to say."""

    term: int
    session: int


class SnapshotOffer(NamedTuple):
    """A snapshot covers what you miss up to (last_term, last_index) (InstallSnapshot, Figure 13).

    Args:
        session: as in :class:`Append`.
        transfer: number of this offer in the session; chunks and answers repeat it.
        head: what the snapshot is of and how large, for the driver.
        sent_ns: as in :class:`Append`, like ``promise_ns``.
    """

    term: int
    session: int
    transfer: int
    last_term: int
    last_index: int
    head: bytes
    sent_ns: int
    promise_ns: int


class SnapshotChunk(NamedTuple):
    """Bytes of the offered snapshot from ``offset`` on; ``checksum`` is their CRC-32."""

    term: int
    session: int
    transfer: int
    offset: int
    data: bytes
    checksum: int
    sent_ns: int
    promise_ns: int


class SnapshotStatus(IntEnum):
    """How far a member is with an offered snapshot."""

    WANTED = 0
    """It has everything before ``offset``: go on there."""
    INSTALLING = 1
    """It has everything and is at work. There is no time by which it must be done."""
    INSTALLED = 2
    """It is durable there and in force."""
    REFUSED = 3
    """It is of no use there (damaged, or its disk is full): offer again later, or another one."""


class SnapshotReply(NamedTuple):
    """The answer to a :class:`SnapshotOffer` or a :class:`SnapshotChunk`.

    Args:
        status: a :class:`SnapshotStatus`.
        at_index: with INSTALLED, an index up to which its log is durable and equal to ours.
        offset: with WANTED, how much of the payload it holds.
        facts: in answer to an offer, what it says of its state: for the driver.
        sent_ns: of the message answered.
    """

    term: int
    session: int
    transfer: int
    status: int
    at_index: int
    offset: int
    facts: bytes
    sent_ns: int


class SnapshotAsk(NamedTuple):
    """My state is lost although my log is not: send me a snapshot that ends at ``at_least`` or
    later."""

    term: int
    at_least: int


Message = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | Rest
    | Awake
    | Recall
    | RecallReply
    | ReunionHeld
    | ReunionNeeded
    | SnapshotOffer
    | SnapshotChunk
    | SnapshotReply
    | SnapshotAsk
)
"""Anything that one member may say to another."""
