"""What is committed becomes state: in order, once, and who waited for it learns so.

This module exists so that the one loop through which every committed entry passes stands alone.
It knows nothing of how an entry came to be committed, and it must never send or store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mcpcore.node.divergence import StateWatch
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.snapshots.keeper import SnapshotKeeper
from mcpcore.node.waiting import Proposals
from mcpcore.raft.types import Entry, LogPosition


class Applying:
    """The applied state of one group on this node.

    Args:
        own: this member's name.
        state: the state machine and its sessions, as they are after index ``applied``.
        proposals: who waits for the result of an entry.
        marked: called after a digest of the state was taken at an index.
        reached: called when the state has reached an index.
    """

    __slots__ = ("_marked", "_proposals", "_reached", "applied", "snapshots", "state", "watch")

    def __init__(
        self,
        own: str,
        state: ReplicatedState,
        applied: int,
        proposals: Proposals,
        *,
        marked: Callable[[int], None],
        reached: Callable[[int], None],
    ) -> None:
        self.state = state
        self.applied = applied
        """The highest index that the state holds."""
        self.watch = StateWatch(own)
        """Whether our state equals the others'."""
        self.watch.reached(applied)
        self.snapshots: SnapshotKeeper | None = None
        """Takes, sends and receives snapshots; None: the log is kept for ever."""
        self._proposals = proposals
        self._marked = marked
        self._reached = reached

    def apply(self, entries: list[Entry]) -> None:
        """Apply what was committed next."""
        keeper = self.snapshots
        if keeper is None:
            self._apply_all(entries)
            return
        rest = entries
        while rest and rest[-1].index >= (mark := keeper.next_mark):
            count = mark - rest[0].index + 1
            self._apply_all(rest[:count])
            keeper.mark(mark)
            rest = rest[count:]
        if rest:
            self._apply_all(rest)
        keeper.applied(entries)

    def mark(self) -> None:
        """Take a digest of the state as it is now."""
        self.watch.mark(self.applied, self.state.digest())
        self._marked(self.applied)

    def adopt(self, position: LogPosition, fresh: ReplicatedState) -> None:
        """A snapshot takes the place of our state."""
        self.state.adopt(fresh)
        self.applied = position.index
        self.watch.forget()
        self.watch.reached(position.index)
        self._proposals.skipped_to(position.index)
        if self.snapshots is not None:
            self.snapshots.installed(position)
        self._reached(position.index)

    def _apply_all(self, entries: list[Entry]) -> None:
        rest = entries
        while rest and rest[0].index <= (marked := self.watch.next) <= rest[-1].index:
            count = marked - rest[0].index + 1
            self._apply_some(rest[:count])
            self.mark()
            rest = rest[count:]
        if rest:
            self._apply_some(rest)
        self._reached(self.applied)

    def _apply_some(self, entries: list[Entry]) -> None:
        results = self.state.apply_each(entries)
        if self._proposals:
            self._proposals.applied(entries, results)
        else:
            deque(results, maxlen=0)
        self.applied = entries[-1].index
