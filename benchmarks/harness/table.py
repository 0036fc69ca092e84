"""Answers as Markdown.

This module exists so that ``docs/performance.md`` and a terminal show the same table. It decides
what stands beside what, and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.bench import OURS
from benchmarks.harness.figures import Answer, Case, Figure, Report, case_text
from benchmarks.harness.spread import Spread, ahead


def markdown(report: Report) -> str:
    """The whole report."""
    lines: list[str] = []
    for answer in report.answers:
        lines += [f"## {answer.title}", "", *answer_lines(answer)]
    return "\n".join([*lines, *machine_lines(report)])


def machine_lines(report: Report) -> list[str]:
    """Where it was measured, as a quotation."""
    facts = "; ".join(f"{name} {value}" for name, value in report.machine.items())
    return [
        f"> {report.began}, commit `{report.commit}`; {facts}.",
        "> Median of the rounds, least–greatest in brackets; rounds of all subjects in turn."
        " We wrote the library *and* the benchmark: distrust us and run"
        f" `python -m benchmarks {' '.join(report.arguments)}`.",
    ]


def answer_lines(answer: Answer) -> Iterator[str]:
    """Method, tables, what is missing."""
    for text in (answer.method, answer.bias):
        if text:
            yield from (text, "")
    for table in answer.tables:
        if table:
            yield from (f"**{table}**", "")
        yield from table_lines(answer, table)
        yield ""
    for what, why in answer.skipped.items():
        yield f"- not measured: {what}: {why}"
    if answer.skipped:
        yield ""


def table_lines(answer: Answer, table: str) -> Iterator[str]:
    """One table: a line for each case and subject."""
    head, rows = lay_out(answer, table)
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row.cells)} |"


@dataclass(frozen=True, slots=True)
class Row:
    """One subject in one case.

    Args:
        subject: who.
        cells: as text.
        words: how many cells before the subject's own, which is followed by figures.
        first: whether it is the first of its case.
    """

    subject: str
    cells: list[str]
    words: int
    first: bool


def lay_out(answer: Answer, table: str) -> tuple[list[str], list[Row]]:
    """Headings and rows of one table; cases in order of appearance, subjects below each other."""
    figures = [figure for figure in answer.figures if figure.table == table]
    measures = {figure.measure: heading(figure) for figure in figures}
    parameters = list(dict.fromkeys(name for figure in figures for name in figure.case))
    held = [name for name in answer.references if any(figure.subject == name for figure in figures)]
    head = [*parameters, "who", *measures.values(), *(f"ahead of {name}" for name in held)]
    by_case: dict[str, dict[str, dict[str, Figure]]] = {}
    cases: dict[str, Case] = {}
    for figure in figures:
        case = case_text(figure.case)
        cases[case] = figure.case
        by_case.setdefault(case, {}).setdefault(figure.subject, {})[figure.measure] = figure
    rows = []
    for case, group in by_case.items():
        for number, (subject, cells) in enumerate(group.items()):
            words = [str(cases[case].get(name, "")) for name in parameters]
            figures_shown = [_cell(cells.get(measure)) for measure in measures]
            ratios = [
                _ratio(subject, cells, group.get(name, {}), next(iter(measures))) for name in held
            ]
            whole = [*words, subject, *figures_shown, *ratios]
            rows.append(Row(subject, whole, len(words), number == 0))
    return head, rows


def heading(figure: Figure) -> str:
    """A measure and its unit."""
    return f"{figure.measure}, {figure.unit}" if figure.unit else figure.measure


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else str(Spread.of(figure.rounds))


def _ratio(subject: str, cells: dict[str, Figure], theirs: dict[str, Figure], measure: str) -> str:
    if not subject.startswith(OURS) or measure not in cells or measure not in theirs:
        return ""
    ours = cells[measure]
    ratio = ahead(ours.rounds, theirs[measure].rounds, ours.better)
    return "" if ratio is None else f"{ratio} x"
