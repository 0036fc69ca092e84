"""Two runs side by side: what became better, what worse, and what may be chance.

This module exists so that an optimisation is believed only where it exceeds the spread of the
rounds, and so that a busier machine is told from slower code: beside each change stands what became
of the reference in the same two runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.bench import OURS
from benchmarks.harness.figures import Answer, Figure, Report, case_text
from benchmarks.harness.spread import Spread, ahead, short


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs.

    Args:
        factor: how many times better the new run is; above 1 is better; None where neither is.
        verdict: better, worse, or within the spread.
        standing: against the first reference, before and after; empty if there is none.
    """

    question: str
    figure: Figure
    old: Spread
    new: Spread
    factor: float | None
    verdict: str
    standing: str


def changes(old: Report, new: Report) -> Iterator[Change]:
    """Every figure that both have, in the new one's order."""
    before = {answer.name: answer for answer in old.answers}
    for answer in new.answers:
        if answer.name not in before:
            continue
        known = {figure.key: figure for figure in before[answer.name].figures}
        for figure in answer.figures:
            if figure.key in known:
                yield _change(before[answer.name], answer, known[figure.key], figure)


def only_in(one: Report, other: Report) -> list[str]:
    """What one has and the other has not: questions, or figures of a common one."""
    there = {answer.name: answer for answer in other.answers}
    found = []
    for answer in one.answers:
        if answer.name not in there:
            found.append(answer.name)
            continue
        known = {figure.key for figure in there[answer.name].figures}
        count = sum(figure.key not in known for figure in answer.figures)
        if count:
            found.append(f"{answer.name} ({count} figures)")
    return found


def markdown(old: Report, new: Report) -> str:
    """The comparison as a page of Markdown."""
    lines = [
        f"old: {old.began}, commit `{old.commit}`; new: {new.began}, commit `{new.commit}`",
        "",
    ]
    differing = [
        f"{name}: {old.machine.get(name, '?')} / {value}"
        for name, value in new.machine.items()
        if old.machine.get(name) != value
    ]
    if differing:
        lines += [f"Not the same circumstances: {'; '.join(differing)}.", ""]
    lines += [
        "| question | who | case | measure | old | new | new is | ahead of the reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for change in changes(old, new):
        figure = change.figure
        factor = "" if change.factor is None else f"{short(change.factor)} x, "
        where = ", ".join(filter(None, (figure.table, case_text(figure.case))))
        measure = f"{figure.measure}, {figure.unit}" if figure.unit else figure.measure
        cells = [change.question, figure.subject, where, measure, str(change.old), str(change.new)]
        lines.append(f"| {' | '.join(cells)} | {factor}{change.verdict} | {change.standing} |")
    for what, missing in (("old", only_in(old, new)), ("new", only_in(new, old))):
        if missing:
            lines += ["", f"Only in the {what} run: {', '.join(missing)}."]
    return "\n".join([*lines, ""])


def _change(before: Answer, answer: Answer, was: Figure, now: Figure) -> Change:
    old, new = Spread.of(was.rounds), Spread.of(now.rounds)
    factor = ahead([new.median], [old.median], now.better)
    if old.overlaps(new):
        verdict = "within the spread"
    elif factor is None:
        verdict = "different"
    else:
        verdict = "better" if factor.median > 1 else "worse"
    standing = ""
    if now.subject.startswith(OURS):
        pair = [_standing(before, was), _standing(answer, now)]
        standing = f"{pair[0]} → {pair[1]}" if all(pair) else ""
    return Change(answer.name, now, old, new, factor and factor.median, verdict, standing)


def _standing(answer: Answer, figure: Figure) -> str:
    for name in answer.references:
        for other in answer.figures:
            if other.key == (figure.table, name, *figure.key[2:]):
                ratio = ahead(figure.rounds, other.rounds, figure.better)
                if ratio is not None:
                    return f"{short(ratio.median)} x {name}"
    return ""
