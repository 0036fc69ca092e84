"""Which leases ran out: the leader's stopwatch, not part of the replicated state.

This module exists so that the one promise about leases has one home: *a lease may live longer than
its time, never shorter.* Whoever was told "alive for 10 s" can rely on 10 s from when it asked,
across crashes and changes of leadership. It decides; it reads no clock, every ``now_ns`` is handed
in and comes from a monotonic clock. It must never end a lease by itself: that is a command.

How the promise is kept:

- A new leader counts every lease in full from its own beginning (``lead``).
- A lease that was granted or renewed counts in full from then.
- Once a lease was reported as run out it cannot be renewed any more: the command that ends it may
  already be in the log. If that command was lost, the lease is reported again.

HAZARD: renewing is local to the leader and costs no log entry, so a leader that was deposed and
does not know it would renew in vain. The node therefore answers a keep-alive like a linearizable
read: renew first, then confirm leadership (read index), then answer. A leader confirmed *after* the
renewal is one whose successor starts counting later than that.

HAZARD: ``LeaseExpire`` must be proposed only in the term in which ``lead`` was called, and never be
forwarded: a leader that slept through its own deposition would else end leases that its successor
keeps alive (etcd #15247).
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

_MS: Final = 1_000_000


class LeaseTimer:
    """Counts the leases of one group while this node leads it; idle otherwise.

    Args:
        retry_ns: when a lease that ran out is still there this long after it was reported, it is
            reported again.
    """

    __slots__ = ("_deadlines", "_expiring", "_fresh", "_heap", "_leading", "_retry_ns", "_ttls_ns")

    def __init__(self, *, retry_ns: int = 1_000 * _MS) -> None:
        self._retry_ns = retry_ns
        self._leading = False
        self._ttls_ns: dict[int, int] = {}
        self._deadlines: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []  # (no later than the deadline, lease)
        self._fresh: dict[int, None] = {}  # granted by apply, which knows no time
        self._expiring: set[int] = set()

    # --- what the machine tells -----------------------------------------------------------------

    def granted(self, lease: int, ttl_ms: int) -> None:
        """A lease was applied. It is counted from the next call that brings the time."""
        self._ttls_ns[lease] = ttl_ms * _MS
        if self._leading:
            self._fresh[lease] = None

    def ended(self, lease: int) -> None:
        """A lease is gone."""
        self._ttls_ns.pop(lease, None)
        self._deadlines.pop(lease, None)
        self._fresh.pop(lease, None)
        self._expiring.discard(lease)
        if len(self._heap) > 2 * len(self._deadlines) + 64:
            self._rebuild_heap()  # long leases that ended early would else stay in it for long

    def replace(self, leases: Iterable[tuple[int, int]]) -> None:
        """The state was restored: these (lease, ttl_ms) are all there are, each in full."""
        self._forget()
        self._ttls_ns = {lease: ttl_ms * _MS for lease, ttl_ms in leases}
        if self._leading:
            self._fresh = dict.fromkeys(self._ttls_ns)

    # --- what the node tells and asks -----------------------------------------------------------

    def lead(self, now_ns: int) -> None:
        """This node leads from now on: every lease starts anew, in full."""
        self._leading = True
        self._forget()
        self._deadlines = {lease: now_ns + ttl_ns for lease, ttl_ns in self._ttls_ns.items()}
        self._rebuild_heap()

    def follow(self) -> None:
        """This node does not lead any more: nothing runs out here."""
        self._leading = False
        self._forget()

    def renew(self, lease: int, now_ns: int) -> int | None:
        """Let a lease run in full again.

        Returns:
            Its time to live in milliseconds, to be answered once leadership is confirmed; None if
            there is no such lease, it has run out, or this node does not lead.
        """
        self._start_fresh(now_ns)
        deadline = self._deadlines.get(lease)
        if deadline is None or lease in self._expiring:
            return None
        ttl_ns = self._ttls_ns[lease]
        self._deadlines[lease] = max(deadline, now_ns + ttl_ns)  # the heap follows when it is due
        return ttl_ns // _MS

    def due(self, now_ns: int, limit: int = 1000) -> tuple[int, ...]:
        """The leases that ran out, to be proposed in one ``LeaseExpire``; empty if none.

        From here on they cannot be renewed.
        """
        self._start_fresh(now_ns)
        heap = self._heap
        found: list[int] = []
        while heap and heap[0][0] <= now_ns and len(found) < limit:
            _, lease = heappop(heap)
            deadline = self._deadlines.get(lease)
            if deadline is None:
                continue
            if deadline > now_ns:  # renewed since
                heappush(heap, (deadline, lease))
                continue
            found.append(lease)
            self._expiring.add(lease)
        for lease in found:
            self._deadlines[lease] = now_ns + self._retry_ns
            heappush(heap, (now_ns + self._retry_ns, lease))
        return tuple(found)

    def next_ns(self) -> int | None:
        """When to call ``due`` next; a time in the past means now, None means no need.

        May be too early for a lease that was renewed; calling ``due`` then moves it on.
        """
        if self._fresh:
            return 0
        return self._heap[0][0] if self._heap else None

    def remaining_ms(self, lease: int, now_ns: int) -> int | None:
        """Time that a lease has at least, as this leader counts; None if it does not count it."""
        self._start_fresh(now_ns)
        deadline = self._deadlines.get(lease)
        if deadline is None:
            return None
        return 0 if lease in self._expiring else max(0, deadline - now_ns) // _MS

    def _start_fresh(self, now_ns: int) -> None:
        for lease in self._fresh:
            deadline = now_ns + self._ttls_ns[lease]
            self._deadlines[lease] = deadline
            heappush(self._heap, (deadline, lease))
        self._fresh = {}

    def _rebuild_heap(self) -> None:
        self._heap = [(deadline, lease) for lease, deadline in self._deadlines.items()]
        heapify(self._heap)

    def _forget(self) -> None:
        self._deadlines, self._heap, self._fresh, self._expiring = {}, [], {}, set()

    def check(self) -> None:
        """Every promise that the timer makes about itself."""
        counted = self._deadlines.keys() | self._fresh.keys()
        assert counted == (self._ttls_ns.keys() if self._leading else set()), "all or nothing"
        assert not self._deadlines.keys() & self._fresh.keys(), "a lease is counted once"
        assert self._expiring <= self._deadlines.keys(), "what is expiring is counted"
        assert len(self._heap) <= 2 * len(self._deadlines) + 66, "ended leases leave the heap"
        earliest = {lease: when for when, lease in sorted(self._heap, reverse=True)}
        for lease, deadline in self._deadlines.items():
            assert earliest[lease] <= deadline, "the heap never looks too late"
