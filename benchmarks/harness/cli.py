"""The command: measure, list, compare, show.

This module exists so that every question is asked in the same words. Progress goes to stderr,
tables to stdout, everything else into the files that were named.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import compare, machine, questions, table
from benchmarks.harness.bench import Bench, Options
from benchmarks.harness.figures import Answer, Report
from benchmarks.harness.progress import Bars, Silent, watched
from benchmarks.peers import supply
from mcpcore.errors import CoordinationError, InvalidInput

SCRATCH_VARIABLE = "MCPCORE_BENCH_SCRATCH"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 if a question failed, 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["list"]:
            return _list(words[1:])
        if words[:1] == ["compare"]:
            return _compare(words[1:])
        if words[:1] == ["show"]:
            return _show(words[1:])
        return _measure(words)
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return 2


def _list(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks list", allow_abbrev=False)
    parser.parse_args(words)
    wide = max(map(len, questions.QUESTIONS))
    for name, question in questions.QUESTIONS.items():
        beside = f"  [{', '.join(question.peers)}]" if question.peers else ""
        print(f"{name:{wide}}  {question.asks}{beside}")
    return 0


def _compare(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", allow_abbrev=False)
    parser.add_argument("old", type=Path, help="a file that --json wrote")
    parser.add_argument("new", type=Path, help="another one")
    chosen = parser.parse_args(words)
    print(compare.markdown(Report.load(chosen.old), Report.load(chosen.new)), end="")
    return 0


def _show(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks show", allow_abbrev=False)
    parser.add_argument("report", type=Path, help="a file that --json wrote")
    _outputs(parser)
    chosen = parser.parse_args(words)
    _give(Report.load(chosen.report), chosen)
    return 0


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")


def _give(report: Report, chosen: argparse.Namespace) -> None:
    text = table.markdown(report)
    print(text)
    if chosen.markdown:
        _write(chosen.markdown, text + "\n")
    if chosen.html:
        _write(chosen.html, _page(report))


def _page(report: Report) -> str:
    try:
        from benchmarks.harness.page import page
    except ImportError as error:
        raise InvalidInput(
            f"a page needs {error.name}", where="--html", remedy="pip install 'mcpcore[bench]'"
        ) from error
    return page(report)


def _measure(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure. Also: list; compare OLD.json NEW.json; show REPORT.json.",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="+", metavar="NAME", help="a question, or all")
    parser.add_argument("--peers", default="all", help="names with commas, all, or none")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement, in turn")
    parser.add_argument("--full", action="store_true", help="the full sizes, which take long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    _outputs(parser)
    chosen = parser.parse_args(words)
    if not chosen.seconds > 0 or chosen.seconds > 3600:
        raise InvalidInput(
            f"must be above 0 and at most 3600, not {chosen.seconds}", where="--seconds"
        )
    if not 1 <= chosen.rounds <= 1000:
        raise InvalidInput(f"must be from 1 to 1000, not {chosen.rounds}", where="--rounds")
    names = questions.named(chosen.name)
    options = Options(chosen.seconds, chosen.rounds, chosen.full, supply.known(chosen.peers))
    report, failed = run(names, options, words, chosen.json)
    _give(report, chosen)
    for name, error in failed.items():
        print(f"{name} failed: {error}", file=sys.stderr)
    return 1 if failed else 0


def run(
    names: list[str], options: Options, words: list[str], kept: Path | None = None
) -> tuple[Report, dict[str, CoordinationError]]:
    """Ask questions one after the other; returns the report, and what went wrong, by question.

    Args:
        kept: where to save the report after each question, so that an interruption loses one.
    """
    failed: dict[str, CoordinationError] = {}
    with contextlib.ExitStack() as stack:
        scratch = os.environ.get(SCRATCH_VARIABLE)
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix="bench-")))
        report = Report(machine.now(), machine.commit(), machine.describe(root), words)
        bars = stack.enter_context(Bars(names)) if watched() else None
        for name in names:
            if bars is not None:
                bars.begin(name)
            answer = Answer(name, questions.QUESTIONS[name].asks)
            directory = root / name
            directory.mkdir()
            began = time.monotonic()
            try:
                questions.load(name)(Bench(answer, options, directory, bars or Silent()))
            except CoordinationError as error:
                failed[name] = error
                answer.skipped["the rest"] = str(error)
            answer.took_s = time.monotonic() - began
            report.answers.append(answer)
            if kept is not None:
                report.save(kept)
    return report, failed


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error}", where=str(path)) from error
