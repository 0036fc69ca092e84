"""What arrives from another node, taken apart and handed to whom it concerns.

This module exists so that everything a peer can say to us passes one place: a frame is readings of
time, rows of messages, and notes. What no correct member says is refused here or by its addressee,
and ends the session. It must never act on what a message says.
"""

from __future__ import annotations

import msgpack

from mcpcore.errors import InvalidInput, ProtocolViolation
from mcpcore.node import node_words
from mcpcore.node.comparing import Comparing
from mcpcore.node.freshness import Freshness
from mcpcore.node.hosting import Hosting
from mcpcore.node.judging import Judging
from mcpcore.node.liveness import Beat
from mcpcore.node.membership import Membership
from mcpcore.node.notes import (
    Confirmed,
    FoundingAnswered,
    FoundingAsked,
    Note,
    Said,
    Traced,
    ViewTold,
    from_rows,
)
from mcpcore.node.pulse import Pulse
from mcpcore.node.replicated_data import DataHub
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.node.trails import Trails
from mcpcore.raft.codec import from_row
from mcpcore.raft.messages import Message


class Arrivals:
    """The inward side of one node.

    Args:
        timekeeper: hears the readings of time.
        hosting: the groups.
        pulse: hears what concerns the node, or many of its groups at once.
        membership: hears of foundings, and withholds messages of groups that are not founded yet.
        comparing: hears of digests.
        judging: hears how groups look from other members.
        freshness: hears how far leaders had committed, and when.
        data: hears about replicated data.
        trails: hears which entries are traced; None: nobody traces here.
    """

    __slots__ = (
        "_comparing",
        "_data",
        "_freshness",
        "_hosting",
        "_judging",
        "_membership",
        "_pulse",
        "_timekeeper",
        "_trails",
    )

    def __init__(
        self,
        timekeeper: Timekeeper,
        hosting: Hosting,
        pulse: Pulse,
        membership: Membership,
        comparing: Comparing,
        judging: Judging,
        freshness: Freshness,
        data: DataHub,
        trails: Trails | None = None,
    ) -> None:
        self._trails = trails
        self._judging = judging
        self._freshness = freshness
        self._timekeeper = timekeeper
        self._hosting = hosting
        self._pulse = pulse
        self._membership = membership
        self._comparing = comparing
        self._data = data

    def frame(self, peer: str, payload: bytes) -> None:
        """One frame.

        Raises:
            InvalidInput: it is no list of messages, or one of them is what no correct member sends.
        """
        try:
            frame = msgpack.unpackb(payload, use_list=False)
        except Exception as error:  # msgpack raises several unrelated classes
            raise InvalidInput(f"not a frame of messages: {error}") from error
        if type(frame) is not tuple or not 2 <= len(frame) <= 3 or type(frame[1]) is not tuple:
            raise InvalidInput("a frame must be readings of time, an array of messages, and notes")
        self._timekeeper.heard(peer, frame[0])
        for row in frame[1]:
            if type(row) is not tuple or not row or type(row[0]) is not str:
                raise InvalidInput("a message must be an array that starts with its group")
            if row[0] == node_words.NODE:
                self._words(peer, node_words.from_row(row))
            else:
                self._deliver(peer, row[0], from_row(row[1:]))
        if len(frame) == 3:
            self._notes(peer, from_rows(frame[2]))

    def _words(self, peer: str, words: node_words.Words) -> None:
        if isinstance(words, Beat):
            self._pulse.heard(peer, words)
        elif isinstance(words, node_words.Rouse):
            self._pulse.roused(peer)
        else:
            for group, message in words:
                self._deliver(peer, group, message)

    def _notes(self, peer: str, notes: list[Note]) -> None:
        for note in notes:
            if isinstance(note, FoundingAsked | FoundingAnswered):
                self._membership.heard(peer, note)
            elif isinstance(note, ViewTold):
                self._judging.heard(peer, note)
            elif isinstance(note, Confirmed):
                self._freshness.heard(peer, note)
            elif isinstance(note, Said):
                self._data.heard(peer, note)
            elif isinstance(note, Traced):
                if self._trails is not None:
                    self._trails.heard(peer, note)
            else:
                self._comparing.heard(peer, note)

    def _deliver(self, peer: str, name: str, message: Message) -> None:
        group = self._hosting.find(name)
        if group is None:  # a group that this node does not, or not yet, or not any more have
            self._hosting.unknown_messages += 1
            return
        if self._membership.withholds(name):
            return  # it is founded, or opened, first
        try:
            group.receive(peer, message)
        except ProtocolViolation as violation:
            raise InvalidInput(str(violation)) from violation
