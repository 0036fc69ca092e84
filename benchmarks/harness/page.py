"""A report as one self-contained page.

This module exists so that a run can be looked at by somebody who has a browser and nothing else. It
needs jinja2 and plotly; ``table`` needs neither. It measures nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from benchmarks.harness.bench import OURS
from benchmarks.harness.figures import Answer, Report
from benchmarks.harness.plots import plots
from benchmarks.harness.table import Row, lay_out


@dataclass(frozen=True, slots=True)
class View:
    """One table of a question, and its plots."""

    name: str
    head: list[str]
    rows: list[dict[str, Any]]
    plots: list[dict[str, str]]


def page(report: Report) -> str:
    """The page, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.harness", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment.get_template("page.html.j2").render(
        report=report,
        views=[views(answer) for answer in report.answers],
        plotly=get_plotlyjs(),
    )


def prose(text: str) -> Markup:
    """The little Markdown that methods use: code, strong, emphasis."""
    marked = str(escape(text))
    for mark, tag in (("`", "code"), (r"\*\*", "strong"), (r"\*", "em")):
        marked = re.sub(f"{mark}([^`*]+){mark}", rf"<{tag}>\1</{tag}>", marked)
    return Markup(marked)


def views(answer: Answer) -> list[View]:
    """All tables of a question."""
    found = []
    for table in answer.tables:
        figures = [figure for figure in answer.figures if figure.table == table]
        distributions = [each for each in answer.distributions if each.table == table]
        head, rows = lay_out(answer, table)
        drawn = [
            {"json": json.dumps({"data": p["data"], "layout": p["layout"]}), "alt": p["alt"]}
            for p in plots(figures, distributions)
        ]
        found.append(View(table, head, [shown(row, len(head)) for row in rows], drawn))
    return found


def shown(row: Row, width: int) -> dict[str, Any]:
    """A row, its spreads set apart from the medians."""
    cells = []
    for at, text in enumerate(row.cells):
        median, _, rest = text.partition(" (") if at > row.words else (text, "", "")
        spread, _, after = rest.partition(")")
        cells.append({"text": median + after, "spread": spread, "number": at > row.words})
    assert len(cells) == width, "as many cells as headings"
    return {"cells": cells, "ours": row.subject.startswith(OURS), "first": row.first}
