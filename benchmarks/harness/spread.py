"""A middle, and how far apart the rounds were.

This module exists so that no figure is ever shown without its spread, and that ratios are taken
within a round, where both sides met the same machine. Arithmetic only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
"""The quantiles that are kept of a latency distribution."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        """Of at least one round."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    def overlaps(self, other: Spread) -> bool:
        """Whether some value lies within both: then the difference may be chance."""
        return self.least <= other.greatest and other.least <= self.greatest

    def __str__(self) -> str:
        if self.least == self.greatest:
            return short(self.median)
        return f"{short(self.median)} ({short(self.least)}–{short(self.greatest)})"


def ahead(ours: Sequence[float], theirs: Sequence[float], better: str) -> Spread | None:
    """How many times better we are, round by round; above 1 we are ahead.

    Args:
        better: "more" or "less".

    Returns:
        None where a ratio means nothing: no common round, or a zero.
    """
    paired = list(zip(ours, theirs, strict=False))
    if better not in ("more", "less") or not paired or any(a <= 0 or b <= 0 for a, b in paired):
        return None
    return Spread.of([a / b if better == "more" else b / a for a, b in paired])


def quantiles(values: Sequence[float]) -> list[tuple[float, float]]:
    """The grid's quantiles of at least one value, by the nearest rank."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return [(q, ordered[round(q * last)]) for q in GRID]


def middle_quantiles(
    rounds: Sequence[Sequence[tuple[float, float]]],
) -> list[tuple[float, float]]:
    """One distribution out of those of the rounds: the median of each quantile."""
    by_quantile: dict[float, list[float]] = {}
    for each in rounds:
        for quantile, value in each:
            by_quantile.setdefault(quantile, []).append(value)
    return [(q, statistics.median(values)) for q, values in sorted(by_quantile.items())]


def short(value: float) -> str:
    """With three digits that matter, and thousands set apart."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"
