"""What one peer is to get at the end of a loop turn, cut into frames that fit.

This module exists so that the messages of all groups travel together, heartbeats as columns of one
row, and yet no frame grows longer than the other side accepts, however many groups have how much to
say. Pure: it must never send.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from mcpcore.node.node_words import heartbeat_row, reply_row
from mcpcore.raft.codec import Row, to_row
from mcpcore.raft.messages import Append, Heartbeat, HeartbeatReply, Message

MESSAGES_PER_FRAME = 512
"""So that no single frame holds up the other side's loop for long."""

BEATS_PER_FRAME = 4 * MESSAGES_PER_FRAME
"""The same for heartbeats, which cost less."""

BYTES_PER_FRAME = 4 << 20
"""For the same reason; one message may be longer."""

MESSAGE_BYTES = 256
"""What a message takes at most beside its entries: a group's name and ten numbers."""

FRAME_BYTES = 256
"""What a frame takes at most beside its messages: the readings of time."""

_T = TypeVar("_T")

_BEAT_WEIGHT = MESSAGES_PER_FRAME / BEATS_PER_FRAME


class Outgoing:
    """Messages for one peer. Those of one group leave in order; heartbeats before all others.

    A heartbeat overtakes nothing that matters: what it says (who leads, what is committed, which
    reads to confirm) holds as well before whatever else was said in the same turn.

    A heartbeat that says nothing but what is committed waits for the next turn, because whoever
    hears here that a proposal is committed often proposes again, and that append says it too: with
    one proposal at a time this halves the frames.

    Args:
        frame_bytes: the longest frame that can be sent. A message that exceeds what a frame should
            hold has one of its own.
        due: what ``waiting`` gave in the turn before.
    """

    __slots__ = ("_beats", "_due", "_replies", "_room", "_rows", "waiting")

    def __init__(self, frame_bytes: int, due: dict[str, Heartbeat] | None = None) -> None:
        self._room = min(frame_bytes, BYTES_PER_FRAME) - FRAME_BYTES
        self._due = {} if due is None else due
        self.waiting: dict[str, Heartbeat] = {}
        """News of commits by group, to be handed to the next turn's."""
        self._rows: list[tuple[Row, int, bool]] = []
        self._beats: dict[tuple[int, int], list[tuple[str, Heartbeat]]] = {}
        self._replies: dict[int, list[tuple[str, HeartbeatReply]]] = {}

    def add(self, group: str, message: Message) -> None:
        """Append one message of a group."""
        if type(message) is Heartbeat:
            if not message.sent_ns:
                self.waiting[group] = message
                return
            self._take_commit(group)
            self._beat(group, message)
        elif type(message) is HeartbeatReply:
            self._replies.setdefault(message.sent_ns, []).append((group, message))
        else:
            size = MESSAGE_BYTES
            if type(message) is Append:
                size += len(message.block.encoded)
                self._take_commit(group)
            elif (news := self._take_commit(group)) is not None:
                self._beat(group, news)  # what follows may rely on it, as a Rest does
            self._rows.append(((group, *to_row(message)), size, False))

    def _take_commit(self, group: str) -> Heartbeat | None:
        """The newest news of a group's commit that have not left."""
        older = self._due.pop(group, None)
        return self.waiting.pop(group, None) or older

    def _beat(self, group: str, beat: Heartbeat) -> None:
        self._beats.setdefault((beat.sent_ns, beat.promise_ns), []).append((group, beat))

    def add_for_node(self, row: Row, *, droppable: bool) -> None:
        """Append a row that concerns the node: see ``node_words``."""
        self._rows.append((row, MESSAGE_BYTES, droppable))

    def frames(self) -> Iterator[tuple[list[Row], bool]]:
        """The rows of each frame, and whether it holds nothing that is missed if it is lost."""
        if len(self._rows) == 1 and not (self._beats or self._replies or self._due):
            ((row, _, droppable),) = self._rows  # as a rule
            yield [row], droppable
            return
        for group, news in self._due.items():
            if group not in self.waiting:
                self._beat(group, news)
        rows: list[Row] = []
        used, weight, droppable = 0, 0.0, True
        for row, size, row_weight, may_drop in self._weighed():
            if rows and (used + size > self._room or weight + row_weight > MESSAGES_PER_FRAME):
                yield rows, droppable
                rows, used, weight, droppable = [], 0, 0.0, True
            rows.append(row)
            used += size
            weight += row_weight
            droppable = droppable and may_drop
        if rows:
            yield rows, droppable

    def _weighed(self) -> Iterator[tuple[Row, int, float, bool]]:
        """Every row with its bytes at most, how much of a frame it fills, and if it may be lost."""
        most = max(1, min(BEATS_PER_FRAME, (self._room - MESSAGE_BYTES) // MESSAGE_BYTES))
        for (sent_ns, promise_ns), beats in self._beats.items():
            for part in _parts(beats, most):
                size = MESSAGE_BYTES * (1 + len(part))
                row = heartbeat_row(sent_ns, promise_ns, part)
                yield row, size, len(part) * _BEAT_WEIGHT, True
        for sent_ns, replies in self._replies.items():
            for answered in _parts(replies, most):
                size = MESSAGE_BYTES * (1 + len(answered))
                yield reply_row(sent_ns, answered), size, len(answered) * _BEAT_WEIGHT, True
        for row, size, may_drop in self._rows:
            yield row, size, 1.0, may_drop


def _parts(beats: list[_T], most: int) -> Iterator[list[_T]]:
    several = iter(beats)
    while part := list(islice(several, most)):
        yield part
