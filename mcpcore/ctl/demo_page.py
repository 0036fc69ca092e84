"""The demo's page: the run kept in a folder as any other experiment is, with its report.

This module exists so that the demo needs nothing for the page until it is over, and ends in a
sentence whatever is missing then: a library, room on the disk, the right to write here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mcpcore.experiment.conclusion import Conclusion
from mcpcore.experiment.record import RUN, save_run
from mcpcore.experiment.run import Run

HOME: Final = Path("experiments")
"""Beside what `mcpctl experiment run` keeps."""


def write(run: Run, conclusion: Conclusion, source: str, home: Path = HOME) -> str:
    """Keep the run and write its page; returns where it is, or why there is none, in a line.

    An earlier demo with the same seed is replaced; a folder of anything else is left alone.

    Args:
        source: the scenario's file, as text.
    """
    folder = home / f"demo-{run.seed}"
    try:
        from mcpcore.experiment.report.page import REPORT, render_report
    except ModuleNotFoundError as missing:
        return f"No report: {missing.name} is missing; install mcpcore[report]"
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / RUN).exists():
            return f"No report: {folder} is not empty, and no run's folder"
        save_run(run, conclusion, source, folder)
        page = folder / REPORT
        page.write_text(render_report(run, conclusion, source), encoding="utf-8")
    except OSError as error:
        return f"No report: {folder} cannot be written: {error.strerror}"
    return f"Report: {page.absolute()}"
