"""A judgement as one HTML page that needs no network: lanes, bars, linearization points, faults.

This module exists so that somebody can look at a failed run on a train. It turns a history and a
judgement into data and puts them into a page with its style and its script. It must never decide
anything, and the page must never load anything.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from html import escape
from typing import Any

from mcpcore.check.history import History, Operation, clip, freeze, show
from mcpcore.check.model import ILLEGAL, Choice, Model
from mcpcore.check.page_script import SCRIPT
from mcpcore.check.page_style import STYLE
from mcpcore.check.report import plain
from mcpcore.check.verdict import Judgement, Part, Verdict

_MOST_LANES = 48
_MOST_FINDINGS = 200


def render_page(
    history: History, judgement: Judgement, model: Model | None = None, *, title: str = "History"
) -> str:
    """The page as text.

    Args:
        model: whose words describe operations and states; needed to show states.
        title: the heading and the name of the tab.
    """
    data = page_data(history, judgement, model)
    # "<" would let a value such as "</script>" end the script element.
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.format(
        title=escape(title),
        style=STYLE,
        verdict=judgement.verdict.value,
        verdict_word=_WORDS[judgement.verdict],
        judge=escape(judgement.judge),
        summary=escape(clip(judgement.summary, 400)),
        data=packed,
        script=SCRIPT,
    )


_WORDS = {Verdict.OK: "OK", Verdict.VIOLATED: "Violated", Verdict.UNKNOWN: "Unknown"}


def page_data(history: History, judgement: Judgement, model: Model | None) -> dict[str, Any]:
    """What the script draws. Times are nanoseconds since the first call."""
    words = model or Model()
    ops = history.operations
    starts = [op.called_ns for op in ops] + [fault.started_ns for fault in history.faults]
    origin = min(starts, default=0)
    ends = [_ended_ns(op) for op in ops] + [fault.ended_ns or 0 for fault in history.faults]
    end = max([*starts, *ends], default=0) - origin
    lanes, lane_of = _lanes(ops)
    orders = [
        order
        for part in judgement.parts
        for order in _orders(part, {op.id: op for op in ops}, model, origin)
    ]
    return {
        "end": end,
        "lanes": lanes,
        "ops": [
            {
                "id": op.id,
                "lane": lane_of[op.process],
                "process": str(op.process),
                "text": words.tell(op),
                "outcome": op.outcome.value,
                "from": op.called_ns - origin,
                "to": None if op.returned_ns is None else op.returned_ns - origin,
                "key": None if op.key is None else show(op.key),
                "place": list(op.position) if op.position is not None else None,
                "error": None if op.error is None else clip(show(op.error)),
            }
            for op in ops
        ],
        "faults": [
            {
                "name": fault.name,
                "text": fault.text,
                "from": fault.started_ns - origin,
                "to": None if fault.ended_ns is None else fault.ended_ns - origin,
            }
            for fault in history.faults
        ],
        "orders": orders,
        "findings": [
            {"kind": f.kind, "text": f.text, "ops": list(f.operations)[:50], "decided": f.decided}
            for f in judgement.findings[:_MOST_FINDINGS]
        ],
        "hidden": max(len(judgement.findings) - _MOST_FINDINGS, 0),
        "facts": {
            name.replace("_", " "): clip(
                value if isinstance(value, str) else show(plain(value)), 90
            )
            for name, value in judgement.facts.items()
        },
    }


def _ended_ns(op: Operation) -> int:
    return op.called_ns if op.returned_ns is None else op.returned_ns


def _lanes(ops: Sequence[Operation]) -> tuple[list[str], dict[int | str, int]]:
    """A lane per client; clients that came after one had gone share its lane if there are many."""
    spans: dict[int | str, list[int]] = {}
    for op in ops:
        span = spans.setdefault(op.process, [op.called_ns, _ended_ns(op)])
        span[0] = min(span[0], op.called_ns)
        span[1] = max(span[1], _ended_ns(op))
    if len(spans) <= _MOST_LANES:
        ordered = sorted(spans, key=lambda process: (isinstance(process, str), _natural(process)))
        return [str(process) for process in ordered], {p: at for at, p in enumerate(ordered)}
    free_ns: list[int] = []
    names: list[str] = []
    lane_of: dict[int | str, int] = {}
    for process, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        lane = next((at for at, free in enumerate(free_ns) if free < start), len(free_ns))
        if lane == len(free_ns):
            free_ns.append(end)
            names.append(str(process))
        else:
            free_ns[lane] = end
            if not names[lane].endswith("…"):
                names[lane] += "…"
        lane_of[process] = lane
    return names, lane_of


def _natural(process: int | str) -> tuple[int, str]:
    return (process, "") if isinstance(process, int) else (len(process), process)


def _orders(
    part: Part, by_id: Mapping[int, Operation], model: Model | None, origin: int
) -> list[dict[str, Any]]:
    """Orders to draw for one object: the one that explains it, or the longest that do not."""
    key = None if part.key is None else show(part.key)
    base = {
        "key": key,
        "verdict": part.verdict.value,
        "method": part.method,
        "blocked": part.blocked_at,
        "prefix": len(part.prefix),
        "shortest": part.prefix_is_shortest,
    }
    if part.dead_ends:
        return [
            {
                **base,
                "points": _points(end.linearization, by_id, model, origin),
                "state": end.state,
                "against": [{"op": c.operation, "text": c.against} for c in end.candidates],
            }
            for end in part.dead_ends
        ]
    return [{**base, "points": _points(part.linearization, by_id, model, origin)}]


def _points(
    order: Sequence[int], by_id: Mapping[int, Operation], model: Model | None, origin: int
) -> list[list[Any]]:
    """[operation, time, state before, state after] for each operation in order.

    The time is the earliest one that keeps the order: an operation takes effect no earlier than its
    call and than the one before it.
    """
    points: list[list[Any]] = []
    at_ns = 0
    states: Sequence[Hashable] | None = [model.initial()] if model is not None else None
    for id_ in order:
        op = by_id[id_]
        at_ns = max(at_ns, op.called_ns - origin)
        before = after = None
        if model is not None and states is not None:
            before = _told(model, states)
            states = _step(model, states, op)
            after = _told(model, states) if states is not None else None
        points.append([id_, at_ns, before, after])
    return points


def _step(model: Model, states: Sequence[Hashable], op: Operation) -> Sequence[Hashable] | None:
    reached: dict[Hashable, None] = {}
    for state in states:
        after = model.step(state, op)
        if after is not ILLEGAL:
            for choice in after if isinstance(after, Choice) else (after,):
                reached.setdefault(freeze(choice))
    return list(reached) or None


def _told(model: Model, states: Sequence[Hashable]) -> str:
    return " or ".join(model.tell_state(state) for state in states[:4])


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
  <span class="verdict {verdict}">{verdict_word}</span>
  <h1>{title}<small>{judge}</small></h1>
  <span class="grow"></span>
  <select id="order" aria-label="order shown" hidden></select>
  <input id="find" type="search" placeholder="find: 12, write, key…" aria-label="find operation">
  <button id="whole" title="show the whole history">Whole</button>
  <button id="theme" title="light or dark" aria-label="light or dark">◐</button>
</header>
<p class="summary">{summary}</p>
<main>
  <section id="stage" aria-label="timeline">
    <div id="view"><canvas id="lanes" tabindex="0"></canvas></div>
    <canvas id="map" aria-hidden="true"></canvas>
    <div id="tip" role="status" hidden></div>
  </section>
  <aside>
    <div id="chosen" hidden></div>
    <h2>What was found</h2>
    <div id="findings"></div>
    <div id="against"></div>
    <h2>Numbers</h2>
    <dl id="facts"></dl>
    <p class="legend">
      <span><i class="ok"></i>took effect</span> <span><i class="unknown"></i>nobody knows</span>
      <span><i class="fail"></i>failed</span> <span><i class="point"></i>takes effect here</span>
      <span><i class="bad"></i>contradiction</span> <span><i class="fault"></i>fault</span>
    </p>
    <p class="hint">Wheel zooms, drag moves, arrow keys walk along the order, click keeps.</p>
  </aside>
</main>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""
