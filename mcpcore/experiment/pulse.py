"""What clients feel right now: writes per second, waiting times, silence.

This module exists so that a live screen costs a few additions per operation, however long the
experiment runs. Times are handed in; it must never read a clock.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Final

from mcpcore.experiment.operations import Kind, Operation, Outcome

_WINDOW_S: Final = 2.0
"""Figures are of the last two seconds: short enough to show a fault, long enough to be calm."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the clients of one site feel.

    Args:
        writes_per_s: acknowledged writes.
        reads_per_s: answered reads.
        p50_ms: half of the writes were acknowledged within; None without writes.
        p99_ms: 99 of 100; None without writes.
        silent_s: how long ago the last acknowledgement of a write came.
        waiting: operations that wait for an answer.
        unknown: operations whose outcome was never learnt, since the beginning.
    """

    writes_per_s: float
    reads_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    silent_s: float
    waiting: int
    unknown: int


class Pulse:
    """The clients' figures, by site.

    Args:
        sites: where clients are.
        now_s: the beginning, on the clock that all later times are of.
        slot_s: width of one bar of ``bars``.
    """

    def __init__(self, sites: tuple[str, ...], now_s: float, slot_s: float = 0.25) -> None:
        self.sites = sites
        self.slot_s = slot_s
        self._began_s = now_s
        self._writes: dict[str, deque[tuple[float, float]]] = {site: deque() for site in sites}
        self._reads: dict[str, deque[float]] = {site: deque() for site in sites}
        self._last_write_s = dict.fromkeys(sites, now_s)
        self._waiting: dict[str, int] = defaultdict(int)
        self._unknown: dict[str, int] = defaultdict(int)
        self._slots: list[int] = []
        self.acknowledged = 0
        """Writes that were acknowledged since the beginning."""

    def called(self, site: str) -> None:
        """An operation begins."""
        self._waiting[site] += 1

    def returned(self, op: Operation) -> None:
        """An operation is over."""
        self._waiting[op.site] -= 1
        if op.outcome is Outcome.UNKNOWN:
            self._unknown[op.site] += 1
        elif op.is_write:
            self.acknowledged += 1
            self._writes[op.site].append((op.returned_s, op.latency_s))
            self._last_write_s[op.site] = op.returned_s
            slot = int((op.returned_s - self._began_s) / self.slot_s)
            self._slots.extend([0] * (slot + 1 - len(self._slots)))
            self._slots[slot] += 1
        elif op.kind is Kind.READ and op.outcome is Outcome.OK:
            self._reads[op.site].append(op.returned_s)

    def beat(self, site: str, now_s: float) -> Beat:
        """What the clients at a site feel now."""
        writes, reads = self._writes[site], self._reads[site]
        horizon_s = now_s - _WINDOW_S
        while writes and writes[0][0] < horizon_s:
            writes.popleft()
        while reads and reads[0] < horizon_s:
            reads.popleft()
        span_s = min(_WINDOW_S, max(now_s - self._began_s, 0.25))
        latencies = sorted(latency_s for _, latency_s in writes)
        return Beat(
            writes_per_s=len(writes) / span_s,
            reads_per_s=len(reads) / span_s,
            p50_ms=_quantile_ms(latencies, 0.50),
            p99_ms=_quantile_ms(latencies, 0.99),
            silent_s=now_s - self._last_write_s[site],
            waiting=self._waiting[site],
            unknown=self._unknown[site],
        )

    def silent_s(self, now_s: float) -> float:
        """How long ago any client's write was acknowledged."""
        return now_s - max(self._last_write_s.values())

    def bars(self, now_s: float) -> list[float]:
        """Acknowledged writes per second, for each slot that is over."""
        over = int((now_s - self._began_s) / self.slot_s)
        counts = self._slots[:over] + [0] * (over - len(self._slots))
        return [count / self.slot_s for count in counts]


def _quantile_ms(sorted_s: list[float], share: float) -> float | None:
    if not sorted_s:
        return None
    return sorted_s[min(len(sorted_s) - 1, int(share * len(sorted_s)))] * 1e3
