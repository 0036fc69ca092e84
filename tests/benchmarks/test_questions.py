"""Tiny runs of real questions: every figure is there, whatever it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.harness import cli, questions
from benchmarks.harness.bench import Options
from benchmarks.harness.figures import Answer
from benchmarks.harness.programs import ROOT

BRIEF = Options(seconds=0.1, rounds=1, peers=frozenset())


def asked(name: str) -> Answer:
    report, failed = cli.run([name], BRIEF, [name])
    assert not failed
    return report.answers[0]


@pytest.mark.processes
def test_three_real_nodes_commit_embedded_and_through_a_client() -> None:
    answer = asked("commit")
    subjects = {figure.subject for figure in answer.figures}
    assert {"mcpcore, embedded", "mcpcore, client", "limit: fdatasync"} <= subjects
    assert {figure.case["in flight"] for figure in answer.figures} == {1, 64, 1024}
    assert answer.skipped["etcd"] == "not asked for"
    assert all(value > 0 for figure in answer.figures for value in figure.rounds)
    assert answer.distributions


@pytest.mark.parametrize("name", ["clock", "raft_core"])
def test_a_question_of_one_process_answers_with_figures_and_a_method(name: str) -> None:
    answer = asked(name)
    assert answer.method
    assert any(figure.subject.startswith("mcpcore") for figure in answer.figures)


def test_every_command_that_a_page_names_is_a_question() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {
        word
        for path in pages
        for word in re.findall(r"`python -m benchmarks(?:[. ]+)([a-z_]+)", path.read_text())
    }
    apart = {"windows_real"}  # a program of its own: an hour and more of virtual time
    known = {*questions.QUESTIONS, *apart, "all", "list", "compare", "show"}
    assert named <= known, f"no question: {sorted(named - known)}"


def test_every_question_is_named_on_the_page_of_figures() -> None:
    page = Path(ROOT / "docs" / "performance.md").read_text()
    missing = [name for name in questions.QUESTIONS if f"`{name}`" not in page]
    assert not missing
