"""What one peer is to get at the end of a loop turn, cut into frames that fit.

This module exists so that the messages of all groups travel together, and yet no frame grows longer
than the other side accepts, however many groups have how much to say. Pure: it must never send.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpcore.raft.codec import Row, to_row
from mcpcore.raft.messages import Append, Heartbeat, HeartbeatReply, Message

MESSAGES_PER_FRAME = 512
"""So that no single frame holds up the other side's loop for long."""

BYTES_PER_FRAME = 4 << 20
"""For the same reason; one message may be longer."""

MESSAGE_BYTES = 256
"""What a message takes at most beside its entries: a group's name and ten numbers."""

FRAME_BYTES = 256
"""What a frame takes at most beside its messages: the readings of time."""


class Outgoing:
    """Messages for one peer, in order.

    Args:
        frame_bytes: the longest frame that can be sent. A message that exceeds what a frame should
            hold has one of its own.
    """

    __slots__ = ("_frames", "_room")

    def __init__(self, frame_bytes: int) -> None:
        self._room = min(frame_bytes, BYTES_PER_FRAME) - FRAME_BYTES
        self._frames: list[_Frame] = []

    def add(self, group: str, message: Message) -> None:
        """Append one message of a group."""
        row = (group, *to_row(message))
        size = MESSAGE_BYTES
        if type(message) is Append:
            size += len(message.block.encoded)
        beat = type(message) is Heartbeat or type(message) is HeartbeatReply
        frames = self._frames
        if (
            not frames
            or frames[-1].size_bytes + size > self._room
            or len(frames[-1].rows) >= MESSAGES_PER_FRAME
        ):
            frames.append(_Frame())
        frame = frames[-1]
        frame.rows.append(row)
        frame.size_bytes += size
        frame.droppable = frame.droppable and beat

    def frames(self) -> Iterator[tuple[list[Row], bool]]:
        """The rows of each frame, and whether it holds nothing but heartbeats."""
        for frame in self._frames:
            yield frame.rows, frame.droppable


class _Frame:
    __slots__ = ("droppable", "rows", "size_bytes")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.size_bytes = 0
        self.droppable = True
