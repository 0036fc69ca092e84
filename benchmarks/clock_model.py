"""The drift experiment: what each compensation does to the order of events.

The dice are fixed, so the figures are the same everywhere; it takes a minute or two. The plot of
``docs/clock.md`` is drawn by ``python -m benchmarks.clock_model plot.svg``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.harness.bench import Bench
from benchmarks.harness.progress import Progress, Silent
from mcpcore.clock import (
    Auto,
    CalibrationWindow,
    Compensation,
    DriftModel,
    DriftRow,
    LiteralIncrement,
    Uncompensated,
    WeightedIncrement,
    run_drift_model,
)

S = 1_000_000_000
MS = 1_000_000
RATES = (6.0, 20.0, 100.0)
PEERS = [f"n{i}" for i in range(5)]
STRATEGIES: dict[str, tuple[Compensation, int]] = {
    "none": (Uncompensated(), 300),
    "literal increment": (LiteralIncrement(), 300),
    "weighted increment, 100 ms": (WeightedIncrement(merge_every_ns=100 * MS), 120),
    "weighted increment, 20 ms": (WeightedIncrement(), 60),
    "the same, 6 ms proved": (WeightedIncrement(dict.fromkeys(PEERS, 6 * MS)), 60),
    "calibration window": (CalibrationWindow(), 300),
    "auto": (Auto(), 300),
}
COLOURS = ("#4c78a8", "#f58518", "#54a24b")


def plot(rows: list[DriftRow]) -> str:
    """The shares as a bar chart in SVG."""
    left, top, width, bar, group = 220, 54, 420, 13, 52
    height = top + group * len(STRATEGIES) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" '
        f'viewBox="0 0 720 {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="720" height="{height}" fill="white"/>',
        '<text x="16" y="24" font-size="15">Neighbouring events of two nodes stamped in the '
        "wrong order</text>",
    ]
    for percent in range(0, 51, 10):
        x = left + width * percent / 50
        parts.append(
            f'<line x1="{x}" y1="{top}" x2="{x}" y2="{height - 36}" stroke="#ddd"/>'
            f'<text x="{x}" y="{height - 20}" text-anchor="middle" fill="#555">{percent} %</text>'
        )
    for i, rate in enumerate(RATES):
        parts.append(
            f'<rect x="{left + 120 * i}" y="34" width="12" height="12" fill="{COLOURS[i]}"/>'
            f'<text x="{left + 17 + 120 * i}" y="45">{rate:g} events/s</text>'
        )
    for k, name in enumerate(STRATEGIES):
        y = top + group * k + 6
        parts.append(f'<text x="{left - 10}" y="{y + 25}" text-anchor="end">{name}</text>')
        for i, row in enumerate(row for row in rows if row.strategy == name):
            length = max(1.0, width * row.misordered_share / 0.5)
            parts.append(
                f'<rect x="{left}" y="{y + bar * i}" width="{length:.1f}" height="{bar - 1}" '
                f'fill="{COLOURS[i]}"/>'
                f'<text x="{left + length + 5:.1f}" y="{y + bar * i + 10}" font-size="10">'
                f"{row.misordered_share:.2%}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def rows(progress: Progress) -> Iterator[tuple[float, DriftRow]]:
    """Every strategy at every rate: events per second, and what came of it."""
    for name, (strategy, seconds) in STRATEGIES.items():
        for rate in RATES:
            progress.step(name, {"events per s": rate})
            model = DriftModel(rate_per_s=rate, measured_ns=seconds * S)
            yield rate, run_drift_model(model, strategy, Random(7), name=name)


def measure(bench: Bench) -> None:
    """In virtual time."""
    bench.answer.method = (
        "Five nodes whose oscillators drift, in virtual time, with fixed dice: no machine is "
        "measured, and every run gives the same. Misordered: neighbouring events of two nodes "
        "whose timestamps say the reverse."
    )
    for rate, row in rows(bench.progress):
        figures = {
            "misordered": (100 * row.misordered_share, "%"),
            "spread of clocks": (row.spread_ns / MS, "ms"),
            "ahead of own clock, at most": (row.ahead_max_ns / MS, "ms"),
            "counter, at most": (row.counter_max, ""),
            "true offset outside its interval": (100 * row.missed / max(1, row.intervals), "%"),
        }
        for name, (value, unit) in figures.items():
            case = {"events per s": rate}
            bench.figure("", row.strategy, case, name, [value], unit=unit, better="less")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(plot([row for _, row in rows(Silent())]))
