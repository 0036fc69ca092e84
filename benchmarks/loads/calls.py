"""What one call costs: the fastest of many short rounds.

This module exists so that calls of ours and of others are timed alike. Rounds are short, so that
on a busy machine some of them run undisturbed. It imports nothing of ours.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from time import perf_counter

ROUND_S = 0.001


def fastest_ns(call: Callable[[], object], seconds: float) -> float:
    """Nanoseconds a call in the fastest round, of as many as fit."""
    timer = timeit.Timer(call)
    number = max(5, round(ROUND_S / (timer.timeit(50) / 50)))
    best_s, end_s = float("inf"), perf_counter() + seconds
    while perf_counter() < end_s:
        best_s = min(best_s, timer.timeit(number) / number)
    if best_s == float("inf"):
        best_s = timer.timeit(number) / number
    return best_s * 1e9
