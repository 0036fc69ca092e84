"""What a plot of some figures holds, as plain data in plotly's vocabulary.

This module exists so that every question gets its plots without saying how: a number that was
varied becomes an axis, latencies become curves over their quantiles. It draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness.bench import OURS
from benchmarks.harness.figures import Distribution, Figure, case_text
from benchmarks.harness.spread import Spread

Palette = Mapping[str, str]
"""Colours by subject, the same in all plots of a table."""

OUR_COLOURS = ("#2a78b5", "#4aa3a3", "#5b6fd6")
THEIR_COLOURS = ("#e07b39", "#c2504f", "#a05fb4", "#7d8b2f", "#b8860b", "#8a8f94")
LINES_MAX = 10
SPAN_FOR_LOG = 30
"""Values that differ by more than this are drawn over a logarithmic axis."""
HEIGHT_PX = 380


def plots(figures: Sequence[Figure], distributions: Sequence[Distribution]) -> list[dict[str, Any]]:
    """All plots of one table, each with ``data``, ``layout`` and words for who cannot see it."""
    subjects = [each.subject for each in (*figures, *distributions)]
    palette = colours(subjects)
    return [*curves(figures, palette), *latencies(distributions, palette)]


def curves(figures: Sequence[Figure], palette: Palette) -> Iterator[dict[str, Any]]:
    """The first measure over every number that took three values or more."""
    if not figures:
        return
    first = figures[0].measure
    chosen = [figure for figure in figures if figure.measure == first]
    for axis in dict.fromkeys(name for figure in chosen for name in figure.case):
        values = {figure.case.get(axis) for figure in chosen}
        if len(values) < 3 or not all(isinstance(value, int | float) for value in values):
            continue
        for rest, group in grouped(chosen, axis).items():
            yield curve(group, axis, rest, palette)


def grouped(figures: Sequence[Figure], axis: str) -> dict[str, list[Figure]]:
    """By what else was varied."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        rest = {name: value for name, value in figure.case.items() if name != axis}
        found.setdefault(case_text(rest), []).append(figure)
    return found


def curve(figures: Sequence[Figure], axis: str, rest: str, palette: Palette) -> dict[str, Any]:
    """One line a subject, with the least and the greatest round as bars."""
    by_subject: dict[str, list[Figure]] = {}
    for figure in figures:
        by_subject.setdefault(figure.subject, []).append(figure)
    traces = []
    for subject, found in by_subject.items():
        if subject not in palette:
            continue
        points = sorted(found, key=lambda figure: float(figure.case[axis]))
        spreads = [Spread.of(figure.rounds) for figure in points]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": subject,
                "x": [figure.case[axis] for figure in points],
                "y": [spread.median for spread in spreads],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [spread.greatest - spread.median for spread in spreads],
                    "arrayminus": [spread.median - spread.least for spread in spreads],
                    "thickness": 1,
                },
                "line": {
                    "color": palette[subject],
                    "width": 2.5 if subject.startswith(OURS) else 1.5,
                },
            }
        )
    sample = figures[0]
    title = f"{sample.measure}, {sample.unit}" if sample.unit else sample.measure
    shown = f"{title}{f' ({rest})' if rest else ''}"
    return plot(
        traces,
        shown,
        axis_of(axis, [float(figure.case[axis]) for figure in figures]),
        axis_of(title, [value for figure in figures for value in figure.rounds]),
    )


def latencies(distributions: Sequence[Distribution], palette: Palette) -> Iterator[dict[str, Any]]:
    """One plot for each case: which share of the operations took longer than what."""
    by_case: dict[str, list[Distribution]] = {}
    for each in distributions:
        by_case.setdefault(case_text(each.case), []).append(each)
    for case, group in by_case.items():
        traces = [
            {
                "type": "scatter",
                "mode": "lines",
                "name": each.subject,
                "x": [value for quantile, value in each.quantiles if quantile < 1],
                "y": [100 * (1 - quantile) for quantile, _ in each.quantiles if quantile < 1],
                "line": {"color": palette[each.subject], "shape": "hv"},
            }
            for each in group
            if each.subject in palette
        ]
        unit = group[0].unit
        yield plot(
            traces,
            f"latency ({case})" if case else "latency",
            {"title": {"text": unit}, "type": "log"},
            {"title": {"text": "% that took longer"}, "type": "log"},
        )


def plot(
    traces: list[dict[str, Any]], title: str, xaxis: dict[str, Any], yaxis: dict[str, Any]
) -> dict[str, Any]:
    """A figure as plotly takes it."""
    layout = {
        "title": {"text": title, "font": {"size": 13}, "x": 0.02},
        "height": HEIGHT_PX,
        "margin": {"l": 60, "r": 10, "t": 40, "b": 110},
        "legend": {"orientation": "h", "y": -0.28, "yanchor": "top"},
        "xaxis": xaxis,
        "yaxis": yaxis,
    }
    names = ", ".join(trace["name"] for trace in traces)
    return {"data": traces, "layout": layout, "alt": f"{title}: {names}"}


def axis_of(title: str, values: Sequence[float]) -> dict[str, Any]:
    """Logarithmic where values differ much and allow it."""
    least = min(values)
    log = least > 0 and max(values) / least > SPAN_FOR_LOG
    scale = {"type": "log"} if log else {"rangemode": "tozero"}
    return {"title": {"text": title}, **scale}


def colours(subjects: Sequence[str]) -> dict[str, str]:
    """Ours in cool colours, others in warm ones; no more than can be told apart."""
    names = list(dict.fromkeys(subjects))
    ours = [name for name in names if name.startswith(OURS)]
    theirs = [name for name in names if not name.startswith(OURS)]
    chosen = [(name, OUR_COLOURS[i % len(OUR_COLOURS)]) for i, name in enumerate(ours)]
    chosen += [(name, THEIR_COLOURS[i % len(THEIR_COLOURS)]) for i, name in enumerate(theirs)]
    return dict(chosen[:LINES_MAX])
