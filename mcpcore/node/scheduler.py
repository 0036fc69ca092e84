"""Who has a turn, and what leaves at its end: one frame for every peer, whatever groups had to say.

This module exists so that a node acts once per loop turn, however much came in meanwhile. It holds
no rule of any protocol and knows nothing of groups but that they can be given a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import msgpack

from mcpcore.node.outgoing import Outgoing
from mcpcore.node.timekeeping import Header
from mcpcore.raft.codec import Row
from mcpcore.raft.messages import Message

CLOCK_BEAT_S = 1.0


class Turning(Protocol):
    """Something that is given turns."""

    def turn(self) -> None:
        """Carry out what is due now."""
        ...


class Post(Protocol):
    """Sends one frame; it never waits."""

    def __call__(self, peer: str, payload: bytes, *, droppable: bool) -> object:
        """Send ``payload`` to ``peer``; one that is ``droppable`` may be left out."""
        ...


class Scheduler:
    """Gives turns to groups and packs what they say into frames.

    Args:
        peers: names the other nodes, as they are now.
        frame_bytes: the longest frame that can be sent.
        header: the readings of time that a frame to a peer begins with.
        post: sends a frame.
    """

    def __init__(
        self,
        peers: Callable[[], Iterable[str]],
        frame_bytes: int,
        *,
        header: Callable[[str], Header],
        post: Post,
    ) -> None:
        self._peers = peers
        self._frame_bytes = frame_bytes
        self._header = header
        self._post_frame = post
        self._due: dict[Turning, None] = {}
        self._turn_is_due = False
        self._outgoing: dict[str, Outgoing] = {}
        self._quiet: set[str] = set()
        self._beating: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to tell the time to peers that hear nothing else."""
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="clock-beat")

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()

    def wake(self, group: Turning) -> None:
        """Give ``group`` a turn in this loop turn."""
        self._due[group] = None
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def send(self, to: str, group: str, message: Message) -> None:
        """Have a message leave at the end of this turn."""
        messages = self._outgoing.get(to)
        if messages is None:
            messages = self._outgoing[to] = Outgoing(self._frame_bytes)
        messages.add(group, message)

    def _turn(self) -> None:
        """One turn of every group that wants one, then one frame to every peer."""
        self._turn_is_due = False
        due, self._due = self._due, {}
        for group in due:
            group.turn()
        outgoing, self._outgoing = self._outgoing, {}
        for peer, messages in outgoing.items():
            for rows, droppable in messages.frames():
                self._post(peer, rows, droppable)

    def _post(self, peer: str, rows: list[Row], droppable: bool) -> None:
        if self._closed:
            return
        self._quiet.discard(peer)
        frame = (self._header(peer), rows)
        self._post_frame(peer, msgpack.packb(frame), droppable=droppable)

    async def _beat(self) -> None:
        """Tell peers the time that heard nothing else lately, so that clocks stay known."""
        while True:
            self._quiet = set(self._peers())
            await asyncio.sleep(CLOCK_BEAT_S)
            for peer in sorted(self._quiet):
                self._post(peer, [], True)
