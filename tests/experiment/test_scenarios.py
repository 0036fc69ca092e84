"""Scenarios in the simulated world: the same twice, judged, recorded, and able to fail."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path
from runpy import run_path

import pytest

from mcpcore.check import Judgement, Verdict
from mcpcore.errors import InvalidInput
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.record import load_run, results, save_run
from mcpcore.experiment.run import NodeSample, Run
from mcpcore.experiment.scenario import (
    Expectations,
    Groups,
    Nemesis,
    Region,
    Scenario,
    WorkloadSpec,
)
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.experiment.simulated import run_simulated
from mcpcore.experiment.workloads import KINDS
from mcpcore.sim.schedule import Fault, Schedule
from tests.experiment.lying import LIARS, optimistic

QUIET = Schedule()
JEPSEN_NEMESES = run_path(str(Path(__file__).parents[2] / "jepsen-style" / "run.py"))["NEMESES"]
RATES = {"saga": 5.0}
"""Where the usual rate would only cost time."""

SMALL = Scenario(
    name="small",
    duration_s=10.0,
    settle_s=30.0,
    regions=(Region("a"), Region("b"), Region("c")),
    groups=Groups(election_timeout_s=1.0, heartbeat_s=0.2),
    workloads=(WorkloadSpec("register", rate_per_s=20.0), WorkloadSpec("append", rate_per_s=10.0)),
    faults=Schedule(
        (
            Fault(2.0, "partition", ("leader",), (), 4.0),
            Fault(7.0, "kill", ("b",), (), 2.0),
        )
    ),
)


@cache
def small() -> Run:
    """The scenario above, run once for all who only look at it."""
    return run_simulated(SMALL, seed=5)


def test_a_scenario_runs_the_same_way_twice_and_keeps_its_promises() -> None:
    first, second = small(), run_simulated(SMALL, seed=5)
    assert first.digest == second.digest
    brief = replace(SMALL, duration_s=1.0, faults=QUIET)
    assert run_simulated(brief, seed=6).digest != run_simulated(brief, seed=5).digest
    conclusion = conclude(first)
    assert conclusion.verdict is Verdict.OK, conclusion.promises
    assert conclusion.converged is not None
    assert conclusion.converged.total_s is not None
    assert all(record.effects for record in first.faults)
    assert sum(figures.acknowledged for figures in conclusion.figures.values()) > 100


def test_every_workload_is_content_with_an_honest_machine() -> None:
    """All at once, over two groups, with a cut in the middle."""
    scenario = replace(
        SMALL,
        duration_s=5.0,
        groups=Groups(2, election_timeout_s=1.0, heartbeat_s=0.2),
        workloads=tuple(WorkloadSpec(kind, rate_per_s=5.0) for kind in KINDS),
        faults=Schedule((Fault(2.0, "partition", ("leader",), (), 2.0),)),
    )
    conclusion = conclude(run_simulated(scenario, seed=3))
    assert conclusion.verdict is Verdict.OK, conclusion.promises
    assert conclusion.judgements.keys() == LIARS.keys() == KINDS.keys()
    idle = [kind for kind, figures in conclusion.figures.items() if not figures.acknowledged]
    assert not idle


def lying(kind: str, nemesis: Schedule = QUIET, seed: int = 1) -> Judgement:
    """What the judge says of a machine that lies."""
    scenario = replace(
        SMALL,
        duration_s=3.0,
        workloads=(WorkloadSpec(kind, rate_per_s=RATES.get(kind, 20.0)),),
        faults=nemesis,
    )
    return conclude(run_simulated(scenario, seed, machine=LIARS[kind])).judgements[kind]


NOT_FOUND = pytest.mark.xfail(reason="the lie about watches is not met in these short runs")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=NOT_FOUND) if k == "watch" else k for k in LIARS]
)
def test_every_workload_finds_out_a_machine_that_lies(kind: str) -> None:
    # Whether a lie falls on something that is watched or read depends on the seed.
    assert any(lying(kind, seed=seed).verdict is Verdict.VIOLATED for seed in range(1, 6))


NEMESES = {
    "partition": Fault(0.5, "isolate", ("leader",), (), 1.5),
    "kill": Fault(0.5, "kill", ("b",), (), 1.5),
    "clock": Fault(0.5, "clock_step", ("a",), (), 1.5, 30.0),
}


@pytest.mark.parametrize(("kind", "nemesis"), list(zip(LIARS, cycle(NEMESES), strict=False))[::3])
def test_a_lie_is_found_out_while_something_breaks_the_cluster(kind: str, nemesis: str) -> None:
    """Each workload with one nemesis; every pair is a soak test."""
    assert lying(kind, Schedule((NEMESES[nemesis],))).verdict is Verdict.VIOLATED


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("nemesis", JEPSEN_NEMESES)
@pytest.mark.parametrize("kind", LIARS)
def test_every_pair_of_workload_and_nemesis_can_fail(kind: str, nemesis: str) -> None:
    """The cells of jepsen-style/run.py, on machines that lie."""
    kinds = JEPSEN_NEMESES[nemesis]
    scenario = replace(
        SMALL,
        duration_s=10.0,
        workloads=(WorkloadSpec(kind, rate_per_s=RATES.get(kind, 10.0)),),
        faults=QUIET,
        nemesis=Nemesis(kinds, 2) if kinds else None,
    )
    run = run_simulated(scenario, seed=1, machine=LIARS[kind])
    assert conclude(run).judgements[kind].verdict is Verdict.VIOLATED


def test_clouds_that_give_without_the_log_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "policy", optimistic)  # type: ignore[arg-type]
    scenario = replace(
        SMALL, duration_s=10.0, workloads=(WorkloadSpec("policy", rate_per_s=20.0),), faults=QUIET
    )
    found = conclude(run_simulated(scenario, seed=1)).judgements["policy"]
    assert "allowed-by-nobody" in found.kinds


def test_a_cut_between_nodes_leaves_their_clients_alone() -> None:
    """As at a peer port: what clients say to a node beside them still arrives."""
    faults = Schedule((Fault(1.0, "isolate", ("a",), (), 8.0),))
    scenario = replace(SMALL, workloads=(WorkloadSpec("register", rate_per_s=20.0),), faults=faults)
    run = run_simulated(scenario, seed=2)
    of_a = [
        op
        for op in run.histories["register"]
        if str(op.process).startswith("register/a/") and 4e9 < op.called_ns < 8e9
    ]
    assert any(op.outcome == "ok" for op in of_a)


def test_what_was_demanded_and_not_met_is_told() -> None:
    expect = Expectations(
        converged_within_s=0.001,
        silence_at_most_s=0.01,
        acknowledged_at_least=10**9,
        leaders_at_most=0,
    )
    conclusion = conclude(replace(small(), scenario=replace(SMALL, expect=expect)))
    broken = {p.name for p in conclusion.promises if p.verdict is Verdict.VIOLATED}
    assert broken == {
        "something happened",
        "converged after the last fault",
        "writes go on",
        "leadership is calm",
    }


def test_replicas_that_differ_are_told() -> None:
    run = run_simulated(replace(SMALL, faults=Schedule(), duration_s=3.0), seed=1)
    first, *rest = run.replicas
    odd = replace(run, replicas=(first._replace(digest="0"), *rest))
    names = {p.name for p in conclude(odd).promises if p.verdict is Verdict.VIOLATED}
    assert names == {"all replicas are equal"}
    fewer = replace(run, replicas=tuple(rest))
    names = {p.name for p in conclude(fewer).promises if p.verdict is Verdict.VIOLATED}
    assert names == {"all replicas are equal"}


def test_a_fault_without_effect_is_told() -> None:
    run = small()
    idle = replace(run, faults=tuple(replace(record, effects=0) for record in run.faults))
    names = {p.name for p in conclude(idle).promises if p.verdict is Verdict.VIOLATED}
    assert names == {"every fault took effect"}


TEXT = """\
name = "short"
duration_s = 5
[regions.a]
[regions.b]
[regions.c]
[groups]
election_timeout_s = 1
heartbeat_s = 0.2
[workloads.register]
[[fault]]
at_s = 2
kind = "kill"
on = ["followers"]
to = []
for_s = 1
"""


def test_a_run_can_be_kept_read_again_and_judged_the_same(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(TEXT)
    run = run_simulated(load_scenario(path), seed=1)
    conclusion = conclude(run)
    save_run(run, conclusion, TEXT, tmp_path / "run")
    again = load_run(tmp_path / "run")
    assert again.samples == run.samples
    assert isinstance(again.samples[0], NodeSample)
    assert again.faults == run.faults
    assert results(again, conclude(again)) == results(run, conclusion)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["verdict"] == conclusion.verdict.value


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[1]"])
def test_a_folder_that_holds_no_run_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"run\.json"):
        load_run(tmp_path)
