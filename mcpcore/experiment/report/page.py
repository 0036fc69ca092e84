"""The report as one self-contained page.

This module exists so that a run can be sent to somebody who has a browser and nothing else: verdict
first, then why, then everything over time, then how to do it again. It reads a run's folder and
writes one file into it. It must never run anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jinja2
from plotly.offline import get_plotlyjs

from mcpcore.check import Verdict, render_page
from mcpcore.check.judges import Options, model_named
from mcpcore.check.models import MODELS
from mcpcore.experiment.conclusion import Conclusion, conclude
from mcpcore.experiment.record import SCENARIO, load_run
from mcpcore.experiment.report.charts import timeline
from mcpcore.experiment.report.details import operations, spacetime
from mcpcore.experiment.run import Run

REPORT: Final = "report.html"

_WORDS: Final = {
    Verdict.OK: "Every promise held",
    Verdict.VIOLATED: "A promise was broken",
    Verdict.UNKNOWN: "Not everything could be judged",
}

_EXPLAINED_MAX: Final = 3000
"""Operations of a history whose explanation by the checker is put into the page as well."""
_WORLDS: Final = {
    "simulated": "of virtual time in the simulator",
    "processes": "on real processes",
}


def write_report(folder: Path) -> Path:
    """Judge a kept run and write ``report.html`` beside its files.

    Raises:
        InvalidInput: the folder holds no run.
    """
    run = load_run(folder)
    source = (folder / SCENARIO).read_text(encoding="utf-8")
    page = folder / REPORT
    page.write_text(render_report(run, conclude(run), source), encoding="utf-8")
    return page


def render_report(run: Run, conclusion: Conclusion, source: str) -> str:
    """The page.

    Args:
        source: the scenario's file, shown at the end.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mcpcore.experiment.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figure = json.loads(timeline(run).to_json())
    return environment.get_template("report.html.j2").render(
        run=run,
        scenario=run.scenario,
        conclusion=conclusion,
        headline=_WORDS[conclusion.verdict],
        source=source,
        explanations=_explanations(run, conclusion),
        command=_command(run),
        plotly=get_plotlyjs(),
        figure=_embedded(figure),
        spacetime=_embedded(spacetime(run)),
        operations=_embedded(
            [operations(run, kind, found) for kind, found in conclusion.judgements.items()]
        ),
        worlds=_WORLDS,
    )


def _embedded(data: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(data).replace("</", "<\\/")


def _explanations(run: Run, conclusion: Conclusion) -> list[tuple[str, str]]:
    """The checker's own page for every workload whose promise did not hold, unless it is huge."""
    pages = []
    for kind, judgement in conclusion.judgements.items():
        if not judgement.ok and len(run.histories[kind]) <= _EXPLAINED_MAX:
            model = model_named(judgement.judge, Options()) if judgement.judge in MODELS else None
            page: Any = render_page(run.histories[kind], judgement, model, title=kind)
            pages.append((kind, page))
    return pages


def _command(run: Run) -> str:
    return f"mcpctl experiment run scenario.toml --world {run.world} --seed {run.seed}"
