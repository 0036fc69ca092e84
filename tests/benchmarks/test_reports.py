"""One format: what is written is read again, what is damaged is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness import compare, table
from benchmarks.harness.figures import Answer, Distribution, Figure, Report
from mcpcore.errors import InvalidInput

text = st.text(max_size=8)
cases = st.dictionaries(text, text | st.integers(0, 10_000), max_size=3)
figures = st.builds(
    Figure, text, text, cases, text, text, st.sampled_from(["more", "less", ""]),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4).map(tuple),
)  # fmt: skip
distributions = st.builds(
    Distribution, text, text, cases, text, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9)),
    max_size=3).map(tuple),
)  # fmt: skip
answers = st.builds(
    Answer, text, text, text, text, st.lists(text, max_size=2).map(tuple),
    st.dictionaries(text, text, max_size=2), st.dictionaries(text, text, max_size=2),
    st.lists(figures, max_size=3), st.lists(distributions, max_size=2), st.floats(0, 1e6),
)  # fmt: skip
reports = st.builds(
    Report, text, text, st.dictionaries(text, text, max_size=3), st.lists(text, max_size=3),
    st.lists(answers, max_size=2),
)  # fmt: skip


def a_report(ours: tuple[float, ...], theirs: tuple[float, ...], commit: str = "abc") -> Report:
    """Rates of us and of a rival, in two rounds or so."""
    case = {"in flight": 64}
    answer = Answer("commit", "How fast?", references=("rival",))
    answer.figures = [
        Figure("", "mcpcore, embedded", case, "rate", "per s", "more", ours),
        Figure("", "rival", case, "rate", "per s", "more", theirs),
    ]
    return Report("2026-01-01T00:00:00+00:00", commit, {"cores": "2"}, ["commit"], [answer])


@settings(deadline=None, max_examples=60)
@given(reports)
def test_what_is_saved_is_what_is_loaded(report: Report) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a" / "report.json"
        report.save(path)
        assert Report.load(path) == report


def damaged() -> list[tuple[str, str]]:
    good = {"format": 1, "began": "", "commit": "", "machine": {}, "arguments": [], "answers": []}
    hollow = {"table": "", "subject": "", "case": {}, "measure": "", "unit": "", "better": ""}
    answer = {
        "name": "", "title": "", "method": "", "bias": "", "references": [], "versions": {},
        "skipped": {}, "figures": [{**hollow, "rounds": []}], "distributions": [], "took_s": 0,
    }  # fmt: skip
    return [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[1]", "is no report of format 1"),
        (json.dumps({**good, "format": 99}), "is no report of format 1"),
        (json.dumps({"format": 1}), "is damaged: KeyError"),
        (json.dumps({**good, "answers": [3]}), "is damaged: TypeError"),
        (json.dumps({**good, "machine": []}), "is damaged: AttributeError"),
        (json.dumps({**good, "answers": [answer]}), "a figure without rounds"),
    ]


@pytest.mark.parametrize(("content", "why"), damaged())
def test_a_file_that_is_no_report_is_refused_with_its_name_and_the_reason(
    content: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "old.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=f"old.json: .*{why}"):
        Report.load(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none.json: cannot be read: No such file"):
        Report.load(tmp_path / "none.json")


def test_a_table_holds_us_against_the_reference_round_by_round() -> None:
    lines = list(table.answer_lines(a_report((100.0, 50.0), (50.0, 25.0)).answers[0]))
    assert "| in flight | who | rate, per s | ahead of rival |" in lines
    assert "| 64 | mcpcore, embedded | 75 (50–100) | 2 x |" in lines
    assert "| 64 | rival | 37.5 (25–50) |  |" in lines


def test_what_was_not_measured_stands_below_the_table_with_its_reason() -> None:
    report = a_report((1.0,), (1.0,))
    report.answers[0].skipped["etcd"] = "this is no Debian"
    assert "- not measured: etcd: this is no Debian" in table.markdown(report)


def test_a_change_within_the_spread_is_called_so() -> None:
    (ours, _) = compare.changes(a_report((90.0, 110.0), (1.0,)), a_report((100.0, 120.0), (1.0,)))
    assert ours.verdict == "within the spread"


@pytest.mark.parametrize(("then", "now", "verdict"), [(10, 30, "better"), (30, 10, "worse")])
def test_a_change_beyond_the_spread_is_better_or_worse(then: int, now: int, verdict: str) -> None:
    (ours, _) = compare.changes(a_report((then,), (1.0,)), a_report((now,), (1.0,)))
    assert ours.verdict == verdict
    assert ours.factor == pytest.approx(now / then)


def test_a_slower_machine_is_told_from_slower_code_by_the_reference() -> None:
    """Both halve: we are slower, and stand to the reference as before."""
    (ours, _) = compare.changes(a_report((100.0,), (50.0,)), a_report((50.0,), (25.0,)))
    assert ours.verdict == "worse"
    assert ours.standing == "2 x rival → 2 x rival"


def test_a_comparison_names_what_only_one_of_the_runs_has() -> None:
    old, new = a_report((1.0,), (1.0,)), a_report((1.0,), (1.0,))
    new.answers[0].figures.pop()
    new.answers.append(Answer("reads", "And reads?"))
    page = compare.markdown(old, new)
    assert "Only in the old run: commit (1 figures)." in page
    assert "Only in the new run: reads." in page
