"""How many groups of a node may stand for election at the same time.

This module exists so that a node which dies does not make a thousand groups of each survivor ask
for votes at once. Pure: time is a number handed in. It must never know why a group wants to stand.

A place is held until the election is decided, or for one election timeout: groups that cannot win
(no quorum is there) must not keep those waiting that can. Whoever finds no place asks again.
"""

from __future__ import annotations


class ElectionGate:
    """Places for groups that stand for election.

    Args:
        places: how many at a time.
    """

    __slots__ = ("_places", "_until_ns")

    def __init__(self, places: int) -> None:
        self._places = places
        self._until_ns: dict[str, int] = {}

    def enter(self, group: str, now_ns: int, hold_ns: int) -> bool:
        """Whether ``group`` may stand now. Entering again takes a new place, not the old one."""
        self._until_ns.pop(group, None)
        if len(self._until_ns) >= self._places:
            over = [name for name, until_ns in self._until_ns.items() if until_ns <= now_ns]
            for name in over:
                del self._until_ns[name]
            if len(self._until_ns) >= self._places:
                return False
        self._until_ns[group] = now_ns + hold_ns
        return True

    def leave(self, group: str) -> None:
        """The election is decided; harmless if ``group`` did not stand."""
        self._until_ns.pop(group, None)

    def __len__(self) -> int:
        return len(self._until_ns)
