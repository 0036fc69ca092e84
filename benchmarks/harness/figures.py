"""What a run found, as plain values and as one JSON document.

This module exists so that every question answers in the same form, and that a file written by one
version is either read by another or refused with a reason. It measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mcpcore.errors import InvalidInput

FORMAT = 1

Case = Mapping[str, str | int | float]
"""What was varied, by name: ``{"value": "64 B", "in flight": 64}``."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, measured once a round.

    Args:
        table: which table of the question it belongs to.
        subject: who was measured.
        case: under which circumstances.
        measure: what was measured.
        unit: of the rounds' values.
        better: "more", "less", or "" where neither is.
        rounds: a value for each round.
    """

    table: str
    subject: str
    case: Case
    measure: str
    unit: str
    better: str
    rounds: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it comparable with a figure of another run."""
        return self.table, self.subject, case_text(self.case), self.measure


@dataclass(frozen=True, slots=True)
class Distribution:
    """Latencies of one subject in one case: (quantile, value) in rising order."""

    table: str
    subject: str
    case: Case
    unit: str
    quantiles: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class Answer:
    """All that one question found.

    Args:
        name: of the question.
        title: the question.
        method: how it was measured: settings, durability, what is left out.
        bias: who wrote what, and what favours whom.
        references: subjects that the others are held against.
        versions: of the subjects, where they have some.
        skipped: what could not be measured, and why.
        took_s: how long it all took.
    """

    name: str
    title: str
    method: str = ""
    bias: str = ""
    references: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def tables(self) -> list[str]:
        """Names of its tables, in order of appearance."""
        return list(dict.fromkeys(figure.table for figure in self.figures))


@dataclass(slots=True)
class Report:
    """A run: where, when, of what, and its answers."""

    began: str
    commit: str
    machine: dict[str, str]
    arguments: list[str]
    answers: list[Answer] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InvalidInput: the file cannot be written.
        """
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text + "\n")
            part.replace(path)
        except OSError as error:
            raise InvalidInput(f"cannot be written: {error}", where=str(path)) from error

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what ``save`` wrote.

        Raises:
            InvalidInput: there is no such file, or it is no report; it says what is wrong in it.
        """
        try:
            told = json.loads(path.read_text())
        except OSError as error:
            raise InvalidInput(f"cannot be read: {error.strerror}", where=str(path)) from error
        except ValueError as error:
            raise InvalidInput(
                f"is no JSON: {error}", where=str(path), remedy="Give a file that --json wrote"
            ) from error
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise InvalidInput(
                f"is no report of format {FORMAT}",
                where=str(path),
                remedy="Give a file that --json wrote, by this version",
            )
        try:
            return _report(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"is damaged: {type(error).__name__}: {error}", where=str(path)
            ) from error


def case_text(case: Case) -> str:
    """In one line."""
    return ", ".join(f"{name} {value}" for name, value in case.items())


def _report(told: dict[str, Any]) -> Report:
    return Report(
        str(told["began"]),
        str(told["commit"]),
        {str(name): str(value) for name, value in told["machine"].items()},
        [str(each) for each in told["arguments"]],
        [_answer(each) for each in told["answers"]],
    )


def _answer(told: dict[str, Any]) -> Answer:
    return Answer(
        str(told["name"]),
        str(told["title"]),
        str(told["method"]),
        str(told["bias"]),
        tuple(map(str, told["references"])),
        dict(told["versions"]),
        dict(told["skipped"]),
        [_figure(each) for each in told["figures"]],
        [_distribution(each) for each in told["distributions"]],
        float(told["took_s"]),
    )


def _figure(told: dict[str, Any]) -> Figure:
    rounds = tuple(map(float, told["rounds"]))
    if not rounds:
        raise ValueError("a figure without rounds")
    words = (str(told[name]) for name in ("measure", "unit", "better"))
    return Figure(told["table"], told["subject"], dict(told["case"]), *words, rounds)


def _distribution(told: dict[str, Any]) -> Distribution:
    pairs = tuple((float(q), float(value)) for q, value in told["quantiles"])
    return Distribution(
        told["table"], told["subject"], dict(told["case"]), str(told["unit"]), pairs
    )
