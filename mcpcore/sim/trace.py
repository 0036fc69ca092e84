"""What happened, in order, and one number that stands for all of it.

This module exists so that "the same seed gives the same run" is a fact one can test and, when it
fails, a line one can read. Every step of every host and every event of the simulated world goes
through here, is folded into a rolling digest, and is kept (up to a limit) so that two runs can be
compared. Nothing may be recorded that differs between two equal runs: no ``id()``, no address, no
ciphertext, no real time, no ``repr`` of a foreign object.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Detail = tuple["str | int | bool | None", ...]
_Entry = tuple[int, str] | tuple[int, str, str, Detail, int, int]

# Version 0 of marshal's format has neither references nor interning: bytes depend on values only.
_FORMAT = 0
CHUNK = 4096
"""Entries between two checkpoints of the digest."""
KEEP = 400_000
"""Entries that a trace keeps by default; later ones are digested only."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        number: position in the trace, 1-based; 0 is "the beginning" when used as a cause.
        at_ns: true virtual time, nanoseconds since the world began.
        host: where it happened.
        kind: ``step`` for code that ran, else a word such as ``send``, ``deliver``, ``crash``.
        detail: facts, in the order that ``kind`` defines.
        cause: number of the event that led to it, 0 if none is known.
    """

    number: int
    at_ns: int
    host: str
    kind: str
    detail: Detail = ()
    cause: int = 0

    def __str__(self) -> str:
        facts = " ".join(str(fact) for fact in self.detail)
        because = f" (because of #{self.cause})" if self.cause else ""
        return f"#{self.number} {self.at_ns / 1e9:.9f}s {self.host} {self.kind} {facts}{because}"


class Trace:
    """An append-only record with a digest.

    Args:
        keep: how many entries stay readable. The digest always covers all of them.
    """

    def __init__(self, *, keep: int = KEEP) -> None:
        self.keep = keep
        self.cause = 0
        """Number of the event whose consequences run now; handles inherit it."""
        self.now_ns = 0
        self.listener: Callable[[Event], None] | None = None
        """Hears of every event as it happens, for whoever needs some of those beyond ``keep``."""
        self.chunk: list[_Entry] = []
        """The open chunk. The scheduler appends to it directly; see :meth:`close_chunk`."""
        self._closed: list[_Entry] = []
        self._closed_count = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._checkpoints: list[str] = []

    def note(self, host: str, kind: str, *detail: str | int | bool | None) -> int:
        """Record an event caused by whatever runs now, and return its number."""
        chunk = self.chunk
        number = self._closed_count + len(chunk) + 1
        chunk.append((self.now_ns, host, kind, detail, number, self.cause))
        if self.listener is not None:
            self.listener(Event(number, self.now_ns, host, kind, detail, self.cause))
        if len(chunk) >= CHUNK:
            self.close_chunk()
        return number

    def close_chunk(self) -> None:
        """Fold the open chunk into the digest and begin another."""
        chunk = self.chunk
        self._hash.update(marshal.dumps(chunk, _FORMAT))
        self._checkpoints.append(self._hash.hexdigest())
        room = self.keep - len(self._closed)
        if room > 0:
            self._closed.extend(chunk if len(chunk) <= room else chunk[:room])
        self._closed_count += len(chunk)
        chunk.clear()

    def digest(self) -> str:
        """Hexadecimal digest of everything recorded so far."""
        whole = self._hash.copy()
        whole.update(marshal.dumps(self.chunk, _FORMAT))
        return whole.hexdigest()

    def __len__(self) -> int:
        return self._closed_count + len(self.chunk)

    def events(self, *kinds: str, steps: bool = False) -> Iterator[Event]:
        """Iterate over the kept events, oldest first.

        Args:
            kinds: only these; all when none is named.
            steps: also yield the plain steps of code.
        """
        for number, entry in enumerate(self._kept(), 1):
            if len(entry) == 2:
                if steps or "step" in kinds:
                    yield _event(number, entry)
            elif not kinds or entry[2] in kinds:
                yield _event(number, entry)

    def _kept(self) -> Iterator[_Entry]:
        yield from self._closed
        if len(self._closed) == self._closed_count:
            yield from self.chunk

    def explain(self, number: int) -> list[Event]:
        """Return the chain of causes that ends with event ``number``, first cause first.

        Raises:
            KeyError: no such event, or it was not kept.
        """
        by_number = {event.number: event for event in self.events()}
        chain = [by_number[number]]
        while (cause := chain[-1].cause) in by_number:
            chain.append(by_number[cause])
        return chain[::-1]

    def checkpoint(self, index: int) -> str | None:
        """Digest after the ``index``-th full chunk, or ``None`` if there is no such chunk."""
        return self._checkpoints[index] if index < len(self._checkpoints) else None


def _event(number: int, entry: _Entry) -> Event:
    if len(entry) == 2:
        host, _, what = entry[1].partition("/")
        return Event(number, entry[0], host, "step", (what,))
    at_ns, host, kind, detail, numbered, cause = entry
    return Event(numbered, at_ns, host, kind, detail, cause)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two traces part. ``None`` stands for "this run had already ended".

    ``exact`` is false when the entries were no longer kept; then ``first`` and ``second`` are
    ``None`` and ``number`` is the last event before the chunk in which the runs part.
    """

    number: int
    first: Event | None
    second: Event | None
    exact: bool = True

    def __str__(self) -> str:
        if not self.exact:
            return (
                f"they part within the {CHUNK} events after #{self.number}, which were not kept; "
                "run both again with a larger World(trace_keep=...)"
            )
        return (
            f"the first difference is event #{self.number}:\n"
            f"  first run:  {self.first or 'had ended'}\n"
            f"  second run: {self.second or 'had ended'}"
        )


def first_difference(first: Trace, second: Trace) -> Difference | None:
    """Find the first event in which two runs differ, or ``None`` if they are equal."""
    if len(first) == len(second) and first.digest() == second.digest():
        return None
    ours, theirs = first.events(steps=True), second.events(steps=True)
    number = 0
    while True:
        a, b = next(ours, None), next(theirs, None)
        if a is None and b is None:
            break
        number += 1
        if a != b:
            kept_all = len(first) <= first.keep and len(second) <= second.keep
            if kept_all or (a is not None and b is not None):
                return Difference(number, a, b)
            break
    chunk = 0
    while (at := first.checkpoint(chunk)) is not None and at == second.checkpoint(chunk):
        chunk += 1
    return Difference(chunk * CHUNK, None, None, exact=False)
