"""The drift experiment as a table and a plot: what each strategy does to the order of events.

Run ``python -m benchmarks.clock_model [plot.svg]``; it takes a minute or two. The dice are fixed,
so the figures are the same everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

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


def table(rows: list[DriftRow]) -> str:
    """The rows as Markdown, one line a strategy."""
    head = " | ".join(f"misordered at {rate:g}/s" for rate in RATES)
    lines = [
        f"| strategy | {head} | spread of clocks | ahead of own clock, at most | counter, at most "
        "| true offset outside its interval |",
        "|---|" + "---|" * (len(RATES) + 4),
    ]
    for name in STRATEGIES:
        mine = [row for row in rows if row.strategy == name]
        shares = " | ".join(f"{row.misordered_share:.2%}" for row in mine)
        lines.append(
            f"| {name} | {shares} | {max(row.spread_ns for row in mine) / MS:.1f} ms "
            f"| {max(row.ahead_max_ns for row in mine) / MS:.1f} ms "
            f"| {max(row.counter_max for row in mine)} "
            f"| {sum(row.missed for row in mine)} of {sum(row.intervals for row in mine):,} |"
        )
    return "\n".join(lines)


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


def main(arguments: list[str]) -> None:
    """Run every strategy at every rate; print the table, write the plot if a path is given."""
    rows = [
        run_drift_model(
            DriftModel(rate_per_s=rate, measured_ns=seconds * S), strategy, Random(7), name=name
        )
        for name, (strategy, seconds) in STRATEGIES.items()
        for rate in RATES
    ]
    print(table(rows))
    if arguments:
        Path(arguments[0]).write_text(plot(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
