"""How old a stale read may be: a bound that is kept, or no read.

This module exists so that a side without a quorum can serve what it has and say exactly what that
is worth. It keeps a ledger of what the leader told and when, and does arithmetic; it must never
read a clock.

The argument. A leader that a quorum confirmed at *T*, and that has committed in its own term, says
"committed up to *c*". Then every command acknowledged before *T* has an index of at most *c*: no
later leader was elected before *T*, since the quorum that confirmed shares a member with every one
that elects; earlier leaders' commands lie below this leader's own first commit (section 8). So a
member that has applied up to *c* has everything that was acknowledged before *T*, and its state is
at most ``now - T`` old.

*T* is not when the message came, and not even when it was sent: a leader that has just been
deposed still speaks. It is when the messages left that a quorum answered last, which lies before
the sending by no more than the leader's own window (it steps down then). The caller hands in the
*earliest* possible T and the *latest* possible now, both on the cluster's clock; without agreement
between clocks there is no bound, and the read is refused.

Entries: ``at_most_entries`` counts what was known to exist at ``known_at_ns``. What was committed
elsewhere since then, nobody here can count; its age is bounded, its number is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.errors import InvalidInput, StalenessNotPromised

_WORDS_MAX = 1024


@dataclass(frozen=True, slots=True)
class StalenessBound:
    """At most this far behind, as known then.

    Args:
        at_most_ms: every command acknowledged longer ago than this is in the state. Rounded up.
        at_most_entries: entries known at ``known_at_ns`` that are not applied here.
        known_at_ns: the moment of which this speaks, on the cluster's clock.
    """

    at_most_ms: int
    at_most_entries: int
    known_at_ns: int

    def __str__(self) -> str:
        return f"at most {self.at_most_ms} ms and {self.at_most_entries} entries behind"


class StalenessLedger:
    """What one member of one group can promise about the age of its state.

    Args:
        group: for messages to people.
    """

    __slots__ = ("_applied", "_complete_ns", "_group", "_highest", "_words")

    def __init__(self, group: str) -> None:
        self._group = group
        self._words: list[tuple[int, int]] = []  # (commit, T), not applied yet; mostly empty
        self._applied = 0
        self._highest = 0
        self._complete_ns: int | None = None

    def told(self, commit: int, confirmed_ns: int, *, settled: bool) -> None:
        """The leader said that it had committed up to ``commit``.

        Args:
            settled: whether the entry at ``commit`` is of that leader's own term; before that it
                does not know what its predecessors committed, and its word bounds nothing.
            confirmed_ns: the earliest moment at which a quorum may have confirmed it last before
                it said so: the earliest sending time, less the leader's window, or less the age
                that it states itself.
        """
        self.saw(commit)
        if not settled:
            return
        if commit <= self._applied:
            self._complete(confirmed_ns)
            return
        words = self._words
        # A later word that asks for no more makes earlier ones worthless.
        while words and words[-1][0] >= commit and words[-1][1] <= confirmed_ns:
            words.pop()
        if not words or (words[-1][0] < commit and words[-1][1] < confirmed_ns):
            words.append((commit, confirmed_ns))
        if len(words) > _WORDS_MAX:
            self._words = words[::2]  # coarser, never forgotten

    def saw(self, index: int) -> None:
        """Somebody has an entry of this index."""
        self._highest = max(self._highest, index)

    def applied(self, index: int) -> None:
        """This member's state holds everything up to ``index``, and nothing beyond.

        A state that was lost and came back by a snapshot may be older than it was: what was
        promised before speaks of another state, and counts no more.
        """
        if index < self._applied:
            self._complete_ns = None
        self._applied = index
        while self._words and self._words[0][0] <= self._applied:
            self._complete(self._words.pop(0)[1])

    def bound(self, now_ns: int) -> StalenessBound | None:
        """What can be promised; None if nothing is known yet.

        Args:
            now_ns: the latest that the cluster's time may be.
        """
        if self._complete_ns is None:
            return None
        age_ms = -(-max(0, now_ns - self._complete_ns) // 1_000_000)
        behind = max(0, self._highest - self._applied)
        return StalenessBound(age_ms, behind, self._complete_ns)

    def promise(self, max_age_s: float, now_ns: int | None, why_not: str = "") -> StalenessBound:
        """The bound, if it is within what the reader allows.

        Args:
            max_age_s: the oldest state that the reader accepts, in seconds.
            now_ns: the latest that the cluster's time may be; None if no clock can be trusted.
            why_not: what is wrong with the clock, in words.

        Raises:
            StalenessNotPromised: no such bound can be kept; nothing was read.
            InvalidInput: ``max_age_s`` is no length of time.
        """
        if type(max_age_s) not in (int, float) or not 0 <= max_age_s < 1e9:
            raise InvalidInput(f"{max_age_s!r} is no number of seconds", where="max_age_s")
        asked_ms = int(max_age_s * 1000)
        if now_ns is None:
            why = f"this node's clock cannot be relied upon ({why_not or 'unsynchronised'})"
            raise StalenessNotPromised(self._group, asked_ms=asked_ms, at_most_ms=None, reason=why)
        bound = self.bound(now_ns)
        if bound is None:
            why = "no leader has told this node anything that it has applied"
            raise StalenessNotPromised(self._group, asked_ms=asked_ms, at_most_ms=None, reason=why)
        if bound.at_most_ms > asked_ms:
            why = "that long ago a leader with a quorum was last known to be followed here"
            raise StalenessNotPromised(
                self._group, asked_ms=asked_ms, at_most_ms=bound.at_most_ms, reason=why
            )
        return bound

    def _complete(self, confirmed_ns: int) -> None:
        if self._complete_ns is None or confirmed_ns > self._complete_ns:
            self._complete_ns = confirmed_ns
