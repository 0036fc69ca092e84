"""Messages that wait for their group's next turn, because this turn has had enough.

This module exists so that a group that is flooded costs the others of its node a bounded part of
each turn. Pure. It must never look at what a message means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mcpcore.raft.messages import Message

MESSAGES_PER_TURN = 256
"""What one group handles in one turn of the loop: about two milliseconds of work."""

WAITING_MAX = 16_384
"""From when on what arrives is dropped, as a network may; Raft asks again for what it misses."""


class Inbox:
    """One group's messages that found the turn's share used up."""

    __slots__ = ("_handled", "_waiting", "dropped")

    def __init__(self) -> None:
        self._handled = 0
        self._waiting: deque[tuple[str, Message]] | None = None
        self.dropped = 0
        """Messages that found no room."""

    def admits(self, sender: str, message: Message) -> bool:
        """Whether to handle a message at once; otherwise it waits here, or is dropped."""
        if self._waiting is None and self._handled < MESSAGES_PER_TURN:
            self._handled += 1
            return True
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((sender, message))
        else:
            self.dropped += 1
        return False

    def next_turn(self) -> Iterator[tuple[str, Message]]:
        """Begin a turn: the messages that are handled in it, in order of arrival."""
        self._handled = 0
        while self._waiting and self._handled < MESSAGES_PER_TURN:
            self._handled += 1
            yield self._waiting.popleft()
        if not self._waiting:
            self._waiting = None

    def forget(self, sender: str) -> None:
        """What ``sender`` said in a session that is over counts no more."""
        if self._waiting:
            self._waiting = deque(letter for letter in self._waiting if letter[0] != sender) or None

    def __len__(self) -> int:
        return len(self._waiting or ())
