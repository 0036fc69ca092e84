"""What the core and its driver tell each other about snapshots (section 7).

This module exists so that the state, the rules and the driver share these few values without
importing each other. Plain data; it decides nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.raft.messages import SnapshotChunk, SnapshotOffer, SnapshotReply
from mcpcore.raft.types import Configuration, LogPosition


class BaseChange(NamedTuple):
    """The log is to begin at ``position``, in ``configuration``.

    ``suffix_kept``: what comes after stays (compaction). Otherwise the whole log goes, because an
    installed snapshot stands in its place.
    """

    position: LogPosition
    configuration: Configuration
    suffix_kept: bool


class SnapshotWanted(NamedTuple):
    """A member needs a snapshot that ends at ``at_least`` or later. Asked again if ``session``
    ends first; what was begun for an earlier session is to be taken up, not begun anew."""

    peer: str
    session: int
    at_least: int


class SnapshotOffered(NamedTuple):
    """The leader offers a snapshot that we can use. Answer it, and go on collecting chunks."""

    sender: str
    offer: SnapshotOffer


class ChunkArrived(NamedTuple):
    """A part of the offered snapshot. Answer it once it is taken in."""

    sender: str
    chunk: SnapshotChunk


class SnapshotAnswered(NamedTuple):
    """A member answered an offer or a chunk of ours."""

    peer: str
    reply: SnapshotReply


SnapshotEvent = SnapshotWanted | SnapshotOffered | ChunkArrived | SnapshotAnswered
"""What a driver hears of, in order."""
