"""Bars while a benchmark runs.

This module exists so that whoever waits a quarter of an hour sees what for. Without a terminal it
is silent, and it needs no rich then.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.harness.figures import Case, case_text


class Progress(Protocol):
    """What a question tells whoever watches."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def step(self, what: str, case: Case) -> None:
        """One more measurement begins."""


class Silent:
    """Nobody watches."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, what: str, case: Case) -> None:
        """Nothing."""


class Bars:
    """Two lines on stderr: the questions, and what is measured now. Use as a context manager."""

    def __init__(self, questions: list[str]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bars: Any = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._questions = self._bars.add_task("questions", total=len(questions))
        self._now = self._bars.add_task("", total=None)
        self._begun = 0

    def begin(self, name: str) -> None:
        """The next question."""
        self._bars.update(self._questions, description=name, completed=self._begun)
        self._bars.reset(self._now, total=None)
        self._begun += 1

    def say(self, text: str) -> None:
        """What is being done now."""
        self._bars.update(self._now, description=text)

    def step(self, what: str, case: Case) -> None:
        """One more measurement begins."""
        self._bars.update(self._now, description=f"{what} {case_text(case)}"[:72], advance=1)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


def watched() -> bool:
    """Whether somebody sees stderr."""
    return sys.stderr.isatty()
