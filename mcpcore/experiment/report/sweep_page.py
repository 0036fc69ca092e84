"""The report of a sweep: how long convergence takes, how near the bound it comes, and what decides.

This module exists so that a bound is shown with the thousands of runs behind it: distributions, the
slack that is left, and a map over any two settings. It reads rows and makes one page. It must never
run anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mcpcore.experiment.report.charts import PALETTE
from mcpcore.experiment.sweep import Row

_SETTINGS_MAX: Final = 24
"""Boxes that a picture has at most; the table has all."""


def render_sweep(name: str, rows: Sequence[Row], command: str) -> str:
    """The page.

    Args:
        name: of the scenario. rows: all runs. command: what makes them again.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mcpcore.experiment.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.settings, []).append(row)
    figures = {"distribution": _distribution(groups), "slack": _slack(groups)}
    chart = heat_map(rows)
    if chart is not None:
        figures["map"] = chart
    encoded = json.dumps({key: json.loads(figure.to_json()) for key, figure in figures.items()})
    return environment.get_template("sweep.html.j2").render(
        name=name,
        runs=len(rows),
        broken=[row for row in rows if row.verdict != "ok"],
        table=[_summary(settings, found) for settings, found in groups.items()],
        figures=encoded.replace("</", "<\\/"),
        has_map=chart is not None,
        command=command,
        plotly=get_plotlyjs(),
        label=_label,
    )


def _label(settings: str) -> str:
    """Settings in a few words."""
    values: Mapping[str, Any] = json.loads(settings)
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "as written"


def _took_s(rows: Sequence[Row]) -> list[float]:
    return sorted(row.converged_s for row in rows if row.converged_s is not None)


def _at(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _summary(settings: str, rows: Sequence[Row]) -> dict[str, Any]:
    took_s, bound_s = _took_s(rows), rows[0].bound_s
    longest_s = _at(took_s, 1.0)
    slack = None if bound_s is None or longest_s is None else 1 - longest_s / bound_s
    return {
        "settings": _label(settings),
        "runs": len(rows),
        "broken": sum(row.verdict != "ok" for row in rows),
        "never": sum(row.converged_s is None for row in rows),
        "p50": _at(took_s, 0.5),
        "p99": _at(took_s, 0.99),
        "max": longest_s,
        "slack": slack,
    }


def _distribution(groups: Mapping[str, Sequence[Row]]) -> go.Figure:
    figure = go.Figure()
    for number, (settings, rows) in enumerate(list(groups.items())[:_SETTINGS_MAX]):
        figure.add_trace(
            go.Box(
                x=_took_s(rows),
                name=_label(settings),
                orientation="h",
                boxpoints="all",
                jitter=0.4,
                marker={"size": 4, "color": PALETTE[number % len(PALETTE)]},
                showlegend=False,
            )
        )
    bounds = {rows[0].bound_s for rows in groups.values()} - {None}
    for bound_s in sorted(bound for bound in bounds if bound is not None):
        figure.add_vline(x=bound_s, line_dash="dash", line_color="#c2504f", annotation_text="bound")
    figure.update_xaxes(title_text="seconds from the last fault", rangemode="tozero")
    return _framed(figure, 90 + 46 * min(len(groups), _SETTINGS_MAX))


def _slack(groups: Mapping[str, Sequence[Row]]) -> go.Figure:
    """How much of the bound was left, as a share, in every run that had one."""
    figure = go.Figure()
    for number, (settings, rows) in enumerate(list(groups.items())[:_SETTINGS_MAX]):
        left = [
            1 - row.converged_s / row.bound_s
            for row in rows
            if row.converged_s is not None and row.bound_s
        ]
        figure.add_trace(
            go.Histogram(
                x=left,
                name=_label(settings),
                opacity=0.75,
                marker={"color": PALETTE[number % len(PALETTE)]},
                xbins={"start": -1.0, "end": 1.0, "size": 0.05},
            )
        )
    figure.update_layout(barmode="stack", legend={"orientation": "h", "y": -0.25})
    figure.update_xaxes(title_text="share of the bound that was left; below 0 it was broken")
    figure.update_yaxes(title_text="runs")
    return _framed(figure, 340)


def heat_map(rows: Sequence[Row]) -> go.Figure | None:
    """Longest convergence over the first two settings that were varied; None if fewer were."""
    settings = [json.loads(row.settings) for row in rows]
    keys = list(settings[0]) if settings else []
    if len(keys) < 2:
        return None
    across, up = keys[:2]
    cells: dict[tuple[str, str], list[Row]] = {}
    for row, values in zip(rows, settings, strict=True):
        cells.setdefault((str(values[across]), str(values[up])), []).append(row)
    columns = list(dict.fromkeys(column for column, _ in cells))
    lines = list(dict.fromkeys(line for _, line in cells))
    worst = [[_at(_took_s(cells.get((x, y), [])), 1.0) for x in columns] for y in lines]
    told = [[_told(cells.get((x, y), [])) for x in columns] for y in lines]
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=lines,
            z=worst,
            text=told,
            texttemplate="%{text}",
            colorscale="YlOrRd",
            colorbar={"title": "s"},
            hovertemplate="%{x}, %{y}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=across, type="category")
    figure.update_yaxes(title_text=up, type="category")
    return _framed(figure, 160 + 60 * len(lines))


def _told(rows: Sequence[Row]) -> str:
    longest_s = _at(_took_s(rows), 1.0)
    broken = sum(row.verdict != "ok" for row in rows)
    told = "-" if longest_s is None else f"{longest_s:.2f} s"
    return f"{told}, {broken} of {len(rows)} broken" if broken else told


def _framed(figure: go.Figure, height_px: int) -> go.Figure:
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        height=height_px,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    return figure
