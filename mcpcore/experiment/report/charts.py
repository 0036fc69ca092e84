"""The charts of a report, as plotly figures over one common axis of time.

This module exists so that whoever looks at a fault sees, straight below it, what it did to clients,
roles, logs and clocks. It sums up: a chart of a hundred thousand operations has as many points as
one of a thousand. It must never judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcpcore.check import Outcome
from mcpcore.experiment.run import NodeSample, Run
from mcpcore.experiment.workloads import KINDS

_BINS: Final = 240
_SILENT_S: Final = 1.0
"""A node that gave no account of itself for so long is drawn as silent."""

PALETTE: Final = ("#2a78b5", "#e07b39", "#3a9a6b", "#a05fb4", "#c2504f", "#7d8b2f", "#4aa3a3")
ROLES: Final = {
    "leader": "#2f8f5b",
    "follower": "#8fb3d9",
    "candidate": "#e0a030",
    "pre-candidate": "#f0cf7a",
    "silent": "#b8b8b8",
    "failed": "#c2504f",
}
_VERDICTS: Final = {
    "healthy": "#9ccfae",
    "suspect": "#f0cf7a",
    "read_only": "#e0a030",
    "split": "#c2504f",
    "intervention": "#8c2f6b",
    "rejoining": "#8fb3d9",
}
_ROWS: Final = (
    "faults",
    "acknowledged writes per second",
    "write latency, ms",
    "roles",
    "what each node holds of the group",
    "entries behind the furthest",
    "clock offset, ms",
)
_CHART_PX: Final = 140
_LANE_PX: Final = 17
_GAP_PX: Final = 34
_FRAME_PX: Final = 150
"""Above the first chart and below the last one: tools, axis, names."""


def timeline(run: Run) -> go.Figure:
    """Everything over time."""
    names = list(run.scenario.nodes)
    struck = len({r.name for r in run.faults} | {step.name for step in run.steps}) or 1
    heights_px = [_CHART_PX] * len(_ROWS)
    lanes_px = (_LANE_PX + 6) * len(names) + 8
    heights_px[0], heights_px[3], heights_px[4] = _LANE_PX * struck + 8, lanes_px, lanes_px
    inner_px = sum(heights_px) + _GAP_PX * (len(_ROWS) - 1)
    figure = make_subplots(
        rows=len(_ROWS),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=_GAP_PX / inner_px,
        row_heights=heights_px,
        subplot_titles=_ROWS,
    )
    end_s = max([run.clients_ended_s, *(sample.at_s for sample in run.samples[-1:])])
    for row, traces in enumerate(
        (
            _faults(run),
            _throughput(run, end_s),
            _latency(run, end_s),
            _lanes(run, end_s, lambda sample: sample.role, ROLES),
            _lanes(run, end_s, lambda sample: sample.verdict or "silent", _VERDICTS),
            _lag(run),
            _clocks(run),
        ),
        start=1,
    ):
        for trace in traces:
            figure.add_trace(trace, row=row, col=1)
    for record in run.faults:
        ended_s = record.ended_s if record.ended_s is not None else record.began_s + end_s / 300
        figure.add_vrect(
            x0=record.began_s,
            x1=ended_s,
            fillcolor="#c2504f",
            opacity=0.10,
            line_width=0,
            layer="below",
        )
    figure.update_yaxes(type="log", row=3, col=1)
    for row in (4, 5):
        figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], row=row, col=1)
        figure.update_yaxes(dtick=1, row=row, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_yaxes(autorange="reversed", dtick=1, row=1, col=1)
    figure.update_xaxes(range=[min(0.0, -end_s / 50), end_s])
    figure.update_xaxes(ticksuffix=" s", showticklabels=True, row=len(_ROWS), col=1)
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        height=inner_px + _FRAME_PX,
        barmode="overlay",
        bargap=0.25,
        margin={"l": 90, "r": 20, "t": 40, "b": 40},
        hovermode="closest",
        legend={"orientation": "h", "y": -50 / inner_px, "groupclick": "togglegroup"},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    for annotation in figure.layout.annotations:
        annotation.update(x=0, xanchor="left", font={"size": 12})
    return figure


def _faults(run: Run) -> Iterator[go.Bar]:
    for record in run.faults:
        ended_s = record.ended_s if record.ended_s is not None else record.began_s
        yield go.Bar(
            y=[record.name],
            x=[max(ended_s - record.began_s, 0.2)],
            base=[record.began_s],
            orientation="h",
            marker_color="#c2504f" if record.effects else "#b8b8b8",
            showlegend=False,
            hovertemplate=(
                f"{record.name}<br>{record.began_s:.2f} s to {ended_s:.2f} s"
                f"<br>{record.effects} effects {record.proof}<extra></extra>"
            ),
        )
    for step in run.steps:
        ended_s = step.ended_s if step.ended_s is not None else run.clients_ended_s
        yield go.Bar(
            y=[step.name],
            x=[max(ended_s - step.began_s, 0.2)],
            base=[step.began_s],
            orientation="h",
            marker_color="#2a78b5" if step.ended_s is not None else "#b8b8b8",
            showlegend=False,
            hovertemplate=(
                f"operator: {step.name}<br>{step.began_s:.2f} s to {ended_s:.2f} s<extra></extra>"
            ),
        )
    if not run.faults and not run.steps:
        yield go.Bar(y=["none"], x=[0], orientation="h", showlegend=False)


def _writes(run: Run) -> Iterator[tuple[str, float, float]]:
    """(region, returned at seconds, latency in ms) of every acknowledged write."""
    for kind, history in run.histories.items():
        functions, regions = KINDS[kind](1).writes, run.lanes[kind]
        for op in history:
            if op.outcome is Outcome.OK and op.function in functions and op.returned_ns is not None:
                region = regions.get(str(op.process).partition(",")[0], "?")
                yield region, op.returned_ns / 1e9, (op.returned_ns - op.called_ns) / 1e6


def _throughput(run: Run, end_s: float) -> Iterator[go.Scatter]:
    width_s = max(end_s / _BINS, 1.0)
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for region, at_s, _ in _writes(run):
        counts[region][int(at_s / width_s)] += 1
    places = range(int(end_s / width_s) + 1)
    for number, region in enumerate(region.name for region in run.scenario.regions):
        yield go.Scatter(
            x=[place * width_s for place in places],
            y=[counts[region][place] / width_s for place in places],
            name=f"clients in {region}",
            mode="lines",
            line={"width": 1.5, "color": PALETTE[number % len(PALETTE)]},
            hovertemplate="%{y:.1f}/s at %{x:.1f} s<extra>" + region + "</extra>",
        )


def _latency(run: Run, end_s: float) -> Iterator[go.Scatter]:
    width_s = max(end_s / (_BINS / 2), 0.5)
    bins: dict[int, list[float]] = defaultdict(list)
    for _, at_s, waited_ms in _writes(run):
        bins[int(at_s / width_s)].append(waited_ms)
    for name, share, dash, colour in (
        ("p50", 0.5, "solid", PALETTE[2]),
        ("p95", 0.95, "solid", PALETTE[3]),
        ("p99", 0.99, "dot", PALETTE[4]),
        ("max", 1.0, "dot", PALETTE[5]),
    ):
        places = sorted(bins)
        yield go.Scatter(
            x=[place * width_s for place in places],
            y=[_quantile(sorted(bins[place]), share) for place in places],
            name=f"latency {name}",
            mode="lines",
            line={"width": 1.3, "dash": dash, "color": colour},
            hovertemplate="%{y:.0f} ms at %{x:.1f} s<extra>" + name + "</extra>",
        )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _by_node(run: Run) -> dict[str, list[NodeSample]]:
    found: dict[str, list[NodeSample]] = {name: [] for name in run.scenario.nodes}
    for sample in run.samples:
        found.setdefault(sample.node, []).append(sample)
    return found


def spans(
    samples: Iterable[NodeSample],
    end_s: float,
    look: Callable[[NodeSample], str] = lambda sample: sample.role,
) -> Iterator[tuple[float, float, str, str]]:
    """(from, to, state or ``silent``, what to tell) of one node, joined where nothing changes."""
    open_: tuple[float, float, str, str] | None = None
    for sample in samples:
        role = look(sample)
        told = f"term {sample.term}, leader {sample.leader or 'unknown'}"
        if open_ is not None:
            began_s, last_s, known, words = open_
            if sample.at_s - last_s > _SILENT_S:
                yield began_s, last_s, known, words
                yield last_s, sample.at_s, "silent", "no account of itself"
            elif (known, words) == (role, told):
                open_ = (began_s, sample.at_s, known, words)
                continue
            else:
                yield began_s, sample.at_s, known, words
        open_ = (sample.at_s, sample.at_s, role, told)
    if open_ is None:
        yield 0.0, end_s, "silent", "no account of itself"
        return
    began_s, last_s, known, words = open_
    yield began_s, last_s, known, words
    if end_s - last_s > _SILENT_S:
        yield last_s, end_s, "silent", "no account of itself"


def _lanes(
    run: Run, end_s: float, look: Callable[[NodeSample], str], colours: Mapping[str, str]
) -> Iterator[go.Bar]:
    """A lane for each node, coloured by what ``look`` sees."""
    lanes: dict[str, list[tuple[str, float, float, str]]] = defaultdict(list)
    for name, samples in _by_node(run).items():
        for began_s, ended_s, state, told in spans(samples, end_s, look):
            lanes[state].append((name, began_s, ended_s, told))
    for state, colour in {**colours, "silent": ROLES["silent"]}.items():
        rows = lanes.get(state)
        if not rows:
            continue
        yield go.Bar(
            y=[name for name, *_ in rows],
            x=[ended_s - began_s for _, began_s, ended_s, _ in rows],
            base=[began_s for _, began_s, *_ in rows],
            orientation="h",
            name=state.replace("_", " "),
            legendgroup=state,
            showlegend=state != "silent" or colours is ROLES,
            marker={"color": colour, "line": {"width": 0}},
            customdata=[[ended_s, told] for *_, ended_s, told in rows],
            hovertemplate="%{y}: " + state + ", %{customdata[1]}<br>%{base:.1f} s to "
            "%{customdata[0]:.1f} s<extra></extra>",
        )


def _lag(run: Run) -> Iterator[go.Scatter]:
    """How far each node's applied index is behind the highest commit index known anywhere."""
    highest, furthest = 0, []
    for sample in run.samples:
        highest = max(highest, sample.commit)
        furthest.append(highest)
    lag: dict[str, tuple[list[float], list[int]]] = {n: ([], []) for n in run.scenario.nodes}
    for sample, top in zip(run.samples, furthest, strict=True):
        times, behind = lag.setdefault(sample.node, ([], []))
        times.append(sample.at_s)
        behind.append(top - sample.applied)
    for number, (name, (times, behind)) in enumerate(lag.items()):
        yield go.Scatter(
            x=times,
            y=behind,
            name=f"node {name}",
            mode="lines",
            line={"width": 1.3, "color": PALETTE[number % len(PALETTE)]},
            legendgroup=name,
            hovertemplate="%{y} behind at %{x:.1f} s<extra>" + name + "</extra>",
        )


def _clocks(run: Run) -> Iterator[go.Scatter]:
    for number, (name, samples) in enumerate(_by_node(run).items()):
        known = [s for s in samples if s.offset_ms is not None and s.uncertainty_ms is not None]
        thin = known[:: max(1, len(known) // 400)]
        colour = PALETTE[number % len(PALETTE)]
        times: list[Any] = [s.at_s for s in thin]
        upper = [(s.offset_ms or 0.0) + (s.uncertainty_ms or 0.0) for s in thin]
        lower = [(s.offset_ms or 0.0) - (s.uncertainty_ms or 0.0) for s in thin]
        common = {"legendgroup": name, "showlegend": False}
        yield go.Scatter(
            x=times + times[::-1],
            y=upper + lower[::-1],
            fill="toself",
            mode="none",
            fillcolor=_faint(colour),
            hoverinfo="skip",
            **common,
        )
        yield go.Scatter(
            x=times,
            y=[s.offset_ms for s in thin],
            mode="lines",
            line={"width": 1.3, "color": colour},
            hovertemplate="%{y:.2f} ms at %{x:.1f} s<extra>" + name + "</extra>",
            **common,
        )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
