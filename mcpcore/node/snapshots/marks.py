"""Digests of our own state at indexes that other members remember too.

This module exists so that two members can find out that they hold the same state, or once did,
without sending it: each keeps its digest at the same few indexes. Marks get rarer with age, so that
a member that was away long still finds a common one. Pure; it never computes a digest.
"""

from __future__ import annotations

from typing import Final

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.raft.types import MAX_UINT

STEP: Final = 1024
"""Marks stand at multiples of this."""
_LEVELS: Final = (STEP, 8 * STEP, 64 * STEP, 512 * STEP)
_KEPT_PER_LEVEL: Final = 16
_NEWEST_KEPT: Final = 8
"""Wherever they stand: the positions of snapshots are marks too."""
_TOLD_MAX: Final = 128


class DigestMarks:
    """What we know of our own past: index and digest.

    Args:
        applied: up to where the state is applied.
    """

    __slots__ = ("_marks", "next_mark")

    def __init__(self, applied: int) -> None:
        self._marks: dict[int, bytes] = {}
        self.next_mark = applied - applied % STEP + STEP
        """The index after which the next digest is to be noted."""

    def note(self, index: int, digest: bytes) -> None:
        """The state that ``index`` led to has this digest."""
        self._marks[index] = digest
        self.next_mark = index - index % STEP + STEP
        kept: set[int] = set(sorted(self._marks)[-_NEWEST_KEPT:])
        for level in _LEVELS:
            kept.update(sorted(at for at in self._marks if at % level == 0)[-_KEPT_PER_LEVEL:])
        self._marks = {at: mark for at, mark in self._marks.items() if at in kept}

    def forget(self) -> None:
        """The past is another one: a snapshot took its place."""
        self._marks = {}

    def tell(self, applied: int, digest: bytes) -> bytes:
        """What another member needs in order to compare."""
        told: bytes = msgpack.packb([applied, digest, sorted(self._marks.items())])
        return told

    def common(self, told: bytes) -> int:
        """The other member's applied index, if its state there is known to be of our own past.

        It is, if our marks and its own are equal wherever both have one, and there is one: from
        there on, it applied the same log. 0 if that is not known.

        Raises:
            InvalidInput: these are no marks.
        """
        try:
            applied, digest, rows = msgpack.unpackb(told, strict_map_key=False)
            theirs = dict(rows[:_TOLD_MAX])
            theirs[applied] = digest
            well = all(
                type(at) is int and 0 <= at <= MAX_UINT and type(mark) is bytes
                for at, mark in theirs.items()
            )
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise InvalidInput(f"not marks of a state: {error}") from error
        if not well:
            raise InvalidInput("marks must be indexes and digests")
        shared = [at for at in theirs if at in self._marks]
        if not shared or any(theirs[at] != self._marks[at] for at in shared):
            return 0
        return int(applied)
