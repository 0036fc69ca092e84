"""What the demo says in the end, and what it keeps, from runs that were made up."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mcpcore.check import Verdict as Judged
from mcpcore.ctl.demo_page import write
from mcpcore.ctl.demo_report import holds, show
from mcpcore.experiment.conclusion import Conclusion, conclude
from mcpcore.experiment.demo_run import Measured, as_run, scenario_toml
from mcpcore.experiment.left_behind import LeftBehind, read
from mcpcore.experiment.links import THREE_CLOUDS
from mcpcore.experiment.operations import Kind, Operation, Outcome, Replica
from mcpcore.experiment.record import load_run
from mcpcore.experiment.run import Run
from mcpcore.experiment.three_clouds import SITES, FaultReport, Result
from mcpcore.experiment.verdict import judge
from tests.experiment.test_verdict import honest_run

MOVED_ON = "the client has moved on: it would be refused"


def measured(operations: list[Operation], replicas: list[Replica]) -> Measured:
    began_s = 1000.0
    late = [
        replace(op, called_s=op.called_s + began_s, returned_s=op.returned_s + began_s)
        for op in operations
    ]
    return Measured(
        began_s=began_s,
        seconds=20.0,
        seed=7,
        clients_per_site=2,
        rate_per_s=150.0,
        election_timeout_s=1.5,
        heartbeat_s=0.3,
        links=THREE_CLOUDS,
        sites=SITES,
        operations=late,
        kill=("edge", 5.0, 8.0, "ended by SIGKILL"),
        cut=("hangzhou", 12.0, 16.0, "no byte crossed"),
        samples=[],
        replicas=replicas,
        ended_s=20.0,
    )


def result(operations: list[Operation], replicas: list[Replica], *left: LeftBehind) -> Result:
    return Result(
        judge(operations, replicas),
        (FaultReport("hangzhou cut off 4.0 s", "hangzhou", 2.5, 5.2, "no byte crossed"),),
        tuple(replicas),
        0.1,
        left,
        measured(operations, replicas),
        28.0,
    )


def three_replicas(seed: int) -> tuple[list[Operation], list[Replica]]:
    operations, replicas = honest_run(seed)
    return operations, [replace(replicas[0], node=site) for site in SITES]


def judged(ended: Result, tmp_path: Path) -> tuple[Run, Conclusion]:
    run = as_run(ended.measured, tmp_path / "run")
    return run, conclude(run)


def shown(ended: Result, conclusion: Conclusion, width: int = 80) -> str:
    paper = io.StringIO()
    show(ended, conclusion, Console(file=paper, width=width))
    return paper.getvalue()


# --- the end of the demo --------------------------------------------------------------------------


def test_what_nobody_confirmed_is_told_with_its_node_its_place_and_its_prospects(
    tmp_path: Path,
) -> None:
    applied = "was applied: the first answer would come again"
    left = LeftBehind("us-east-1", 17, 1_655, 1_671, ((MOVED_ON, 12), (applied, 5)))
    ended = result(*three_replicas(1), left)
    text = shown(ended, judged(ended, tmp_path)[1])
    lines = [line.split("  ") for line in text.splitlines()]
    assert any({"us-east-1", "1,655-1,671", "12"} <= {p.strip() for p in line} for line in lines)
    assert f"12  {MOVED_ON}" in text
    assert f" 5  {applied}" in text, "on one line of its own, in 80 columns"
    assert "mcpctl quarantine list" in text
    assert "Every promise was kept" in text, "what is in quarantine breaks no promise"


def test_a_quarantine_in_trouble_is_told_even_without_entries(tmp_path: Path) -> None:
    ended = result(*three_replicas(1), LeftBehind("edge", 0, 0, 0, (), "the disk is full"))
    assert "the disk is full" in shown(ended, judged(ended, tmp_path)[1])


def test_that_nothing_was_given_up_is_told_as_well(tmp_path: Path) -> None:
    ended = result(*three_replicas(1))
    assert "no log had to give anything up" in shown(ended, judged(ended, tmp_path)[1])


def test_a_nodes_quarantine_is_counted_by_what_would_come_of_it() -> None:
    entries = [{"index": 9, "prospect": MOVED_ON}, {"index": 7, "prospect": "would apply"}]
    account = {"entries": [*entries, {"index": 8, "prospect": MOVED_ON}], "problem": ""}
    assert read("edge", account) == LeftBehind("edge", 3, 7, 9, ((MOVED_ON, 2), ("would apply", 1)))


# --- the judges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_judges_of_other_experiments_find_nothing_in_an_honest_run(
    seed: int, tmp_path: Path
) -> None:
    ended = result(*three_replicas(seed))
    run, conclusion = judged(ended, tmp_path)
    assert conclusion.verdict is Judged.OK, conclusion.promises
    assert all(op.called_ns < 20e9 for op in run.histories["register"]), "since clients began"
    assert holds(ended, conclusion)
    assert re.search(r"all of it linearizable +yes", shown(ended, conclusion))


def test_a_history_that_is_not_linearizable_fails_the_demo_whatever_its_own_verdict_says(
    tmp_path: Path,
) -> None:
    operations, replicas = three_replicas(1)
    honest = result(operations, replicas)
    number, op = next(
        (number, op)
        for number, op in enumerate(operations)
        if op.kind is Kind.READ and op.outcome is Outcome.OK
    )
    lie = [*operations[:number], replace(op, read="never written"), *operations[number + 1 :]]
    told = replace(honest, measured=measured(lie, replicas))
    _, conclusion = judged(told, tmp_path)
    assert told.holds
    assert not holds(told, conclusion)
    text = shown(told, conclusion)
    assert "A promise was broken" in text
    assert re.search(r"all of it linearizable +no\b", text)


def test_judges_that_ran_out_of_time_contradict_nobody(tmp_path: Path) -> None:
    ended = result(*three_replicas(1))
    _, conclusion = judged(ended, tmp_path)
    undecided = {
        kind: replace(judgement, verdict=Judged.UNKNOWN)
        for kind, judgement in conclusion.judgements.items()
    }
    conclusion = replace(conclusion, verdict=Judged.UNKNOWN, judgements=undecided)
    assert "not judged in time" in shown(ended, conclusion)
    assert holds(ended, conclusion)


# --- what is kept ---------------------------------------------------------------------------------


def test_the_run_is_kept_as_any_other_with_a_page_and_can_be_read_again(tmp_path: Path) -> None:
    ended = result(*three_replicas(1))
    run, conclusion = judged(ended, tmp_path)
    told = write(run, conclusion, scenario_toml(ended.measured), tmp_path / "home")
    folder = tmp_path / "home" / "demo-7"
    assert told == f"Report: {folder / 'report.html'}"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Every promise held" in page
    assert "kill edge" in page
    assert "isolate hangzhou" in page
    again = load_run(folder)
    assert (again.faults, again.replicas, again.lanes) == (run.faults, run.replicas, run.lanes)
    assert conclude(again).verdict is Judged.OK


def test_clients_that_were_not_back_when_the_time_was_up_break_no_promise(tmp_path: Path) -> None:
    run, conclusion = judged(result(*three_replicas(1)), tmp_path)
    assert run.healed_s is None, "nobody was asked after the cut, so nothing can be said"
    assert conclusion.converged is None


def test_a_second_demo_replaces_the_first_and_leaves_other_peoples_files_alone(
    tmp_path: Path,
) -> None:
    ended = result(*three_replicas(1))
    run, conclusion = judged(ended, tmp_path)
    source = scenario_toml(ended.measured)
    assert write(run, conclusion, source, tmp_path).startswith("Report: ")
    assert write(run, conclusion, source, tmp_path).startswith("Report: ")
    other = tmp_path / "other" / "demo-7"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("mine")
    assert "no run's folder" in write(run, conclusion, source, tmp_path / "other")
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_without_the_library_for_it_one_line_says_so_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = result(*three_replicas(1))
    run, conclusion = judged(ended, tmp_path)
    for name in [name for name in sys.modules if name.startswith("mcpcore.experiment.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    told = write(run, conclusion, scenario_toml(ended.measured), tmp_path / "home")
    assert told == "No report: jinja2 is missing; install mcpcore[report]"
    assert not (tmp_path / "home").exists()


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    ended = result(*three_replicas(1))
    run, conclusion = judged(ended, tmp_path)
    (tmp_path / "home").write_text("a file")
    told = write(run, conclusion, scenario_toml(ended.measured), tmp_path / "home")
    assert "cannot be written" in told
    assert "\n" not in told
