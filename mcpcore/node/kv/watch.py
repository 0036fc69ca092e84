"""Watching keys: exactly the changes after a revision, in order, none twice, none left out.

This module exists so that a watcher can trust what it hears. If that cannot be kept up, because it
asks for changes too old or fetches them too slowly, the watch ends and says from where to go on; it
never skips. All of it is local to one member and not replicated. It decides; waking somebody is a
function that the node hands in. It must never hold a lock, a task or a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, islice

from mcpcore.node.kv.records import Event
from mcpcore.node.kv.results import Changes, Compacted, TooSlow


def _size(events: Iterable[Event]) -> int:
    """Bytes that some events hold on to, roughly."""
    return sum(128 + len(record[0]) + len(record[1]) for _, record, _ in events)


def _by_revision(events: Iterable[Event]) -> list[Changes]:
    grouped = groupby(events, key=lambda event: event.record.mod_revision)
    return [Changes(revision, tuple(group)) for revision, group in grouped]


class Watcher:
    """One subscription. Made by ``WatchHub.subscribe``; fetch with ``take``, end with ``cancel``.

    ``key``, ``prefix``: what it watches. ``ended``: None while it lives, else why it ended.
    """

    __slots__ = (
        "_allowance_bytes",
        "_bytes",
        "_hub",
        "_passed",
        "_queue",
        "_taken",
        "_wake",
        "ended",
        "key",
        "prefix",
    )

    def __init__(
        self, hub: WatchHub, key: bytes, prefix: bool, after_revision: int, wake: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._wake = wake
        self._queue: deque[Changes] = deque()
        self._bytes = 0
        self._allowance_bytes = 0
        self._taken = after_revision  # everything up to here was fetched
        self._passed = after_revision  # everything up to here was seen by the hub
        self.key = key
        self.prefix = prefix
        self.ended: Compacted | TooSlow | None = None

    @property
    def resume_after(self) -> int:
        """Watching again after this revision neither repeats nor misses a change."""
        if self._queue or self.ended is not None:
            return self._taken
        return max(self._taken, self._hub.revision)

    def take(self, limit: int = 100) -> list[Changes]:
        """The next changes, at most ``limit`` revisions of them; empty if there are none now."""
        queue = self._queue
        taken = [queue.popleft() for _ in range(min(limit, len(queue)))]
        for changes in taken:
            self._bytes -= _size(changes.events)
        if taken:
            self._taken = taken[-1].revision
        return taken

    def cancel(self) -> None:
        """Hear no more. Cancelling twice is harmless."""
        self._hub._drop(self)
        self._queue.clear()
        self._bytes = 0

    def _offer(self, changes: Changes) -> None:
        if changes.revision <= self._passed:
            return  # the client is ahead of this member, and knows this already
        self._passed = changes.revision
        size = _size(changes.events)
        # Changes larger than the whole queue must still pass, so an empty queue takes anything.
        if self._queue and self._bytes + size > self._allowance_bytes:
            self._end(TooSlow(self._taken))
            return
        self._queue.append(changes)
        self._bytes += size
        self._wake()

    def _end(self, reason: Compacted | TooSlow) -> None:
        self.cancel()
        self.ended = reason
        self._wake()

    def __repr__(self) -> str:
        what = f"{self.key!r}*" if self.prefix else repr(self.key)
        state = repr(self.ended) if self.ended else f"{len(self._queue)} revisions waiting"
        return f"Watcher({what}, {state})"


class WatchHub:
    """Keeps the latest changes and hands them to watchers.

    Args:
        revision: changes up to here are not known to this hub.
        history_bytes: changes kept for watchers that come (back) later, in bytes of keys and values
            and 128 per change.
        queue_bytes: changes that may wait for one watcher, counted alike, beyond those that were
            waiting for it in the history when it came. When more come, the watch ends.
    """

    __slots__ = (
        "_by_key",
        "_by_prefix",
        "_history",
        "_history_bytes",
        "_history_bytes_max",
        "_prefix_lengths",
        "_queue_bytes",
        "oldest_revision",
        "revision",
    )

    def __init__(
        self, revision: int = 0, *, history_bytes: int = 16 << 20, queue_bytes: int = 4 << 20
    ) -> None:
        self._history_bytes_max = history_bytes
        self._queue_bytes = queue_bytes
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._by_prefix: dict[bytes, dict[Watcher, None]] = {}
        self._prefix_lengths: dict[int, int] = {}  # length -> watched prefixes of that length
        self._history: deque[Event] = deque()
        self._history_bytes = 0
        self.revision = revision
        self.oldest_revision = revision
        """Every change after this revision is still kept here."""

    def subscribe(
        self,
        key: bytes,
        *,
        prefix: bool = False,
        after_revision: int | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> Watcher | Compacted:
        """Hear of the changes of ``key``, or of all keys that start with it.

        Args:
            after_revision: the first change wanted is the one after this revision; None: after
                now. It may lie ahead of this member, which then keeps silent until it gets there.
            wake: called when there is something to ``take`` or the watch has ended, while a command
                is being applied: it must be quick and not call back.

        Returns:
            The watcher, or, if changes after that revision are no longer kept, word of that.
        """
        after = self.revision if after_revision is None else after_revision
        if after < self.oldest_revision:
            return Compacted(self.oldest_revision)
        watcher = Watcher(self, key, prefix, after, wake)
        wanted = [event for event in self._since(after) if _matches(watcher, event)]
        watcher._queue.extend(_by_revision(wanted))
        watcher._bytes = _size(wanted)
        watcher._passed = max(after, self.revision)
        watcher._allowance_bytes = self._queue_bytes + watcher._bytes
        table = self._by_prefix if prefix else self._by_key
        if prefix and key not in table:
            self._prefix_lengths[len(key)] = self._prefix_lengths.get(len(key), 0) + 1
        table.setdefault(key, {})[watcher] = None
        if watcher._queue:
            wake()
        return watcher

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        """The machine changed: all events of one revision, which rises from call to call."""
        assert revision > self.revision, "revisions rise"
        self.revision = revision
        self._history.extend(events)
        self._history_bytes += _size(events)
        if self._history_bytes > self._history_bytes_max:
            self._forget()
        if self._by_key or self._by_prefix:
            self._deliver(revision, events)

    def publish_one(self, revision: int, event: Event) -> None:
        """What ``publish(revision, (event,))`` does, and on the way of every put."""
        assert revision > self.revision, "revisions rise"
        self.revision = revision
        self._history.append(event)
        record = event[1]
        self._history_bytes += 128 + len(record[0]) + len(record[1])
        if self._history_bytes > self._history_bytes_max:
            self._forget()
        if self._by_key or self._by_prefix:
            self._deliver(revision, (event,))

    def _forget(self) -> None:
        """Keep the newest changes, as many as may be kept."""
        while self._history_bytes > self._history_bytes_max:
            _, record, _ = self._history.popleft()
            self._history_bytes -= 128 + len(record[0]) + len(record[1])
            self.oldest_revision = record.mod_revision

    def restart(self, revision: int) -> None:
        """The machine became a snapshot at ``revision``: what happened before is unknown here.

        Watchers that had not heard everything up to there end.
        """
        known = self.revision
        self._history.clear()
        self._history_bytes = 0
        self.revision = self.oldest_revision = revision
        for watcher in self._watchers():
            if max(watcher._passed, known) < revision:
                watcher._end(Compacted(revision))

    def _deliver(self, revision: int, events: Sequence[Event]) -> None:
        wanted: dict[Watcher, list[Event]] = {}
        for event in events:
            key = event.record.key
            for watcher in self._by_key.get(key, ()):
                wanted.setdefault(watcher, []).append(event)
            for length in self._prefix_lengths:
                for watcher in self._by_prefix.get(key[:length], ()):
                    if len(watcher.key) == length:  # a key shorter than the prefix is no match
                        wanted.setdefault(watcher, []).append(event)
        for watcher, matching in wanted.items():
            watcher._offer(Changes(revision, tuple(matching)))

    def _since(self, after: int) -> Iterable[Event]:
        """The kept events after a revision, in order."""
        newer = 0
        for event in reversed(self._history):
            if event.record.mod_revision <= after:
                break
            newer += 1
        return islice(self._history, len(self._history) - newer, None)

    def _drop(self, watcher: Watcher) -> None:
        table = self._by_prefix if watcher.prefix else self._by_key
        same = table.get(watcher.key)
        if same is None or watcher not in same:
            return
        del same[watcher]
        if not same:
            del table[watcher.key]
            if watcher.prefix:
                length = len(watcher.key)
                self._prefix_lengths[length] -= 1
                if not self._prefix_lengths[length]:
                    del self._prefix_lengths[length]

    def _watchers(self) -> list[Watcher]:
        tables = (*self._by_key.values(), *self._by_prefix.values())
        return [watcher for same in tables for watcher in same]

    def __len__(self) -> int:
        return len(self._watchers())

    def check(self) -> None:
        """Every promise that the hub and its watchers make about themselves."""
        revisions = [event.record.mod_revision for event in self._history]
        assert revisions == sorted(revisions), "the history rises"
        assert not revisions or self.oldest_revision <= revisions[0], "the oldest is told"
        assert not revisions or revisions[-1] == self.revision, "the newest is told"
        assert _size(self._history) == self._history_bytes, "the history is counted"
        assert self._history_bytes <= self._history_bytes_max, "the history is bounded"
        lengths: dict[int, int] = {}
        for prefix in self._by_prefix:
            lengths[len(prefix)] = lengths.get(len(prefix), 0) + 1
        assert lengths == self._prefix_lengths, "the lengths of prefixes are counted"
        for watcher in self._watchers():
            assert watcher.ended is None, "an ended watcher is gone"
            waiting = sum(_size(changes.events) for changes in watcher._queue)
            assert waiting == watcher._bytes, "what waits is counted"
            assert len(watcher._queue) <= 1 or waiting <= watcher._allowance_bytes, "and bounded"


def _matches(watcher: Watcher, event: Event) -> bool:
    key = event.record.key
    return key.startswith(watcher.key) if watcher.prefix else key == watcher.key
