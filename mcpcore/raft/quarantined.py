"""One entry in quarantine: what is known of it, and what became of it.

This module exists so that whoever shows, exports or decides about quarantined entries knows these
words without knowing the file that they come from. Plain values; it must never decide anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from mcpcore.raft.sessions import command_of
from mcpcore.raft.types import EntryKind

PROPOSABLE = (EntryKind.COMMAND, EntryKind.SESSION)
"""Kinds that may be proposed again. A leader's first entry of a term and configurations are noted,
and mean nothing outside their place."""


class Fate(StrEnum):
    """What became of a quarantined entry."""

    KEPT = "kept"
    """Nothing yet."""
    REPROPOSED = "reproposed"
    """It was proposed again; what the group answered stands beside it."""
    DISCARDED = "discarded"
    """An operator threw it away. The bytes stay until the file is rewritten."""
    NOTED = "noted"
    """The protocol's own: on record, and nothing to decide."""


class Quarantined(NamedTuple):
    """One truncated entry.

    Args:
        number: its number in this file, from 1 on.
        origin: the leader of the entry's term, which accepted it; empty if unknown.
        replaced_by: the leader whose log replaced it.
        wall_ns: when it was truncated, nanoseconds since 1970 on this node's clock.
        covered: a snapshot took its place, and may contain it: it may have been committed.
        fate: what became of it, by whom, and what was noted.
    """

    number: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    kind: EntryKind
    data: bytes
    origin: str
    replaced_by: str
    wall_ns: int
    covered: bool = False
    fate: Fate = Fate.KEPT
    by: str = ""
    note: str = ""

    @property
    def session(self) -> tuple[int, int] | None:
        """The client's (session, sequence), if the entry carries a client's command."""
        if self.kind is not EntryKind.SESSION:
            return None
        command = command_of(self.data)
        return None if command is None else (command.session, command.sequence)

    def as_dict(self) -> dict[str, object]:
        """For JSON. ``data`` is in hexadecimal."""
        session = self.session
        return {
            "number": self.number,
            "term": self.term,
            "index": self.index,
            "kind": self.kind.name.lower(),
            "session": session[0] if session else None,
            "sequence": session[1] if session else None,
            "origin": self.origin,
            "replaced_by": self.replaced_by,
            "wall_ns": self.wall_ns,
            "covered": self.covered,
            "fate": self.fate.value,
            "by": self.by,
            "note": self.note,
            "data": self.data.hex(),
        }


class Overflow(NamedTuple):
    """Entries that were truncated while the quarantine was full, so that only this is known."""

    entries: int
    first_index: int
    last_index: int
    wall_ns: int


class Reproposal(NamedTuple):
    """What to propose: these bytes, as an entry of this kind."""

    number: int
    kind: EntryKind
    data: bytes
