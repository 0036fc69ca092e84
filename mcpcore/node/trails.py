"""Traced entries on their way through a group: appended, stored, committed, applied.

This module exists so that one trace tells of a command on all members. The leader, which knows what
asked for an entry, tells the others in a note; the entry itself and the log never know. A note may
get lost, and then a member's part of the trace is missing, nothing else. It must never decide
anything, and what a peer claims about traces is believed in nothing but the trace.

How many entries are followed at a time is bounded: beyond that the oldest is let go of. Notes leave
once per loop turn, at most one frame of them for each peer, and give way to everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from mcpcore.node.notes import NOTES_PER_FRAME, Note, Traced
from mcpcore.node.tracing import (
    GROUP,
    INDEX,
    NODE,
    PEER,
    TERM,
    Facts,
    Side,
    Span,
    Tracing,
    is_traceparent,
)
from mcpcore.raft.outcome import Write
from mcpcore.raft.types import Entry

if TYPE_CHECKING:
    from mcpcore.node.group import Group

FOLLOWED_PER_GROUP: Final = 256
"""Traced entries of a group that are followed at the same time on one node."""


class Tell(Protocol):
    """Sends notes."""

    def __call__(self, peer: str, notes: Sequence[Note], *, droppable: bool) -> None:
        """Send them to a peer; they never wait for room."""
        ...


@dataclass(slots=True)
class _Passage:
    """One traced entry that is not applied yet."""

    term: int
    span: Span
    stored: bool = False


class Trails:
    """Where the groups of a node keep their trails.

    Args:
        node: its name.
        tracing: takes the spans down.
        tell: sends notes to a peer.
        find: the group of that name here, or None.
    """

    def __init__(
        self,
        node: str,
        tracing: Tracing,
        tell: Tell,
        find: Callable[[str], Group | None],
    ) -> None:
        self.node = node
        self.tracing = tracing
        self._tell = tell
        self._find = find
        self._notes: dict[str, list[Note]] = {}

    def tell(self, members: Sequence[str], note: Traced) -> None:
        """Have a note leave for these members at the end of this loop turn."""
        if not self._notes:
            asyncio.get_running_loop().call_soon(self._post)
        for member in members:
            notes = self._notes.setdefault(member, [])
            if len(notes) < NOTES_PER_FRAME:
                notes.append(note)

    def _post(self) -> None:
        letters, self._notes = self._notes, {}
        for member, notes in letters.items():
            self._tell(member, notes, droppable=True)

    def heard(self, peer: str, note: Traced) -> None:
        """A member leads, and an entry of this trace follows. Whatever makes no sense is ignored:
        a trace that cannot be followed is no reason to end a session.
        """
        group = self._find(note.group)
        if group is not None and group.trail is not None:
            group.trail.heard(peer, note)


class Trail:
    """The traced entries of one group on this node."""

    __slots__ = ("_around", "_group", "_passages")

    def __init__(self, group: Group, around: Trails) -> None:
        self._group = group
        self._around = around
        self._passages: dict[int, _Passage] = {}

    def __len__(self) -> int:
        """How many entries are followed."""
        return len(self._passages)

    def proposed(self, entry: Entry) -> None:
        """We lead and have appended an entry; what is current here asked for it."""
        tracing = self._around.tracing
        if not tracing.recording():
            return
        facts = self._facts(entry.term, entry.index)
        span = tracing.span("raft commit", Side.INTERNAL, facts)
        self._follow(entry.index, _Passage(entry.term, span))
        note = Traced(self._group.name, entry.term, entry.index, span.traceparent)
        self._around.tell(self._members(), note)

    def heard(self, peer: str, note: Traced) -> None:
        """A member tells that an entry which it has appended is traced."""
        group = self._group
        if (
            note.index <= group.applied
            or peer not in group.raft.state.configuration.members
            or not is_traceparent(note.traceparent)
        ):
            return
        facts = {**self._facts(note.term, note.index), PEER: peer}
        span = self._around.tracing.span("raft follow", Side.INTERNAL, facts, note.traceparent)
        if span.recorded:
            self._follow(note.index, _Passage(note.term, span))

    def stored(self, write: Write) -> None:
        """A write is durable here."""
        if not self._passages or not write.blocks:
            return
        last = write.blocks[-1].entries[-1].index
        for index, passage in self._passages.items():
            if index <= last and not passage.stored:
                passage.stored = True
                passage.span.event("stored", {})

    def committed(self, entries: list[Entry]) -> None:
        """These are about to be applied."""
        for entry in entries:
            passage = self._passages.get(entry.index)
            if passage is not None and passage.term == entry.term:
                passage.span.event("committed", self._acknowledged(entry.index))

    def applied(self, entries: list[Entry]) -> None:
        """These are applied: whatever was followed up to here has found its end."""
        first, last = entries[0].index, entries[-1].index
        for index in [index for index in self._passages if index <= last]:
            passage = self._passages.pop(index)
            if index < first:
                passage.span.end({}, "a snapshot covers it")
            elif (term := entries[index - first].term) != passage.term:
                passage.span.end({}, f"an entry of term {term} stands in its place")
            else:
                passage.span.event("applied", {})
                passage.span.end({})

    def close(self, why: str) -> None:
        """The group takes no part any more."""
        passages, self._passages = self._passages, {}
        for passage in passages.values():
            passage.span.end({}, why)

    def _follow(self, index: int, passage: _Passage) -> None:
        older = self._passages.pop(index, None)
        if older is not None:
            older.span.end({}, f"an entry of term {passage.term} took its place")
        if len(self._passages) >= FOLLOWED_PER_GROUP:
            oldest = self._passages.pop(next(iter(self._passages)))
            oldest.span.end({}, "too many entries are followed; this one is not any more")
        self._passages[index] = passage

    def _facts(self, term: int, index: int) -> Facts:
        return {NODE: self._around.node, GROUP: self._group.name, TERM: term, INDEX: index}

    def _members(self) -> list[str]:
        return sorted(self._group.raft.state.configuration.members - {self._around.node})

    def _acknowledged(self, index: int) -> Facts:
        """On the leader: who is known to hold the entry durably, beside itself."""
        state = self._group.raft.state
        if not state.is_leader:
            return {}
        held = [name for name, each in sorted(state.progress.items()) if each.match >= index]
        return {"mcpcore.held_by": ",".join(held)}
