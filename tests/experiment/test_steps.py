"""Steps of an operator: members come and go, nodes are upgraded, and every promise holds."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from mcpcore.check import Verdict
from mcpcore.errors import InvalidInput
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.record import load_run, save_run
from mcpcore.experiment.scenario import (
    SPARE,
    Expectations,
    Groups,
    Region,
    Scenario,
    Step,
    WorkloadSpec,
)
from mcpcore.experiment.scenario_file import find_scenario, load_scenario
from mcpcore.experiment.simulated import run_simulated
from mcpcore.sim.schedule import Fault, Schedule

CHURN = Scenario(
    name="churn",
    duration_s=14.0,
    settle_s=30.0,
    regions=(Region("a"), Region("b"), Region("c"), Region("d", role=SPARE)),
    groups=Groups(election_timeout_s=1.0, heartbeat_s=0.2),
    workloads=(WorkloadSpec("register", rate_per_s=10.0),),
)


def test_members_come_and_go_under_load_the_leader_among_them() -> None:
    scenario = replace(
        CHURN,
        steps=(Step(1.0, "add", "d"), Step(5.0, "remove", "leader"), Step(8.0, "demote", "d")),
        faults=Schedule((Fault(10.0, "kill", ("leader",), (), 1.0),)),
        expect=Expectations(converged_within_s=10.0),
    )
    run = run_simulated(scenario, seed=2)
    conclusion = conclude(run)
    assert conclusion.verdict is Verdict.OK, conclusion.promises
    assert len(run.members) == 3
    assert "d" in run.members
    removed = run.steps[1].name.removeprefix("remove ")
    assert removed not in run.members
    assert {end.node for end in run.replicas} == set(run.members), "who is gone need not agree"


def test_a_node_is_replaced_and_a_fresh_one_votes_in_its_place() -> None:
    run = run_simulated(replace(CHURN, steps=(Step(1.0, "replace", "a", "d"),)), seed=1)
    assert conclude(run).verdict is Verdict.OK
    assert run.members == ("b", "c", "d")


def test_nodes_of_two_versions_serve_together_and_what_needs_the_new_one_waits_for_all() -> None:
    """The addition is asked for first, and stands only once the last node is upgraded."""
    scenario = replace(
        CHURN,
        groups=replace(CHURN.groups, protocol=1),
        steps=(
            *(Step(1.0 + 3 * n, "upgrade", name) for n, name in enumerate("abc")),
            Step(10.0, "add-learner", "d"),
        ),
    )
    run = run_simulated(scenario, seed=1)
    assert conclude(run).verdict is Verdict.OK
    assert set(run.members) == set("abcd")
    early = replace(scenario, duration_s=3.0, settle_s=3.0, steps=(Step(1.0, "add-learner", "d"),))
    (step,) = run_simulated(early, seed=1).steps
    assert step.ended_s is None
    assert "Upgrade every member first" in step.told


def test_a_step_that_cannot_be_taken_breaks_a_promise_and_says_why(tmp_path: Path) -> None:
    scenario = replace(CHURN, duration_s=3.0, settle_s=3.0, steps=(Step(1.0, "promote", "d"),))
    run = run_simulated(scenario, seed=1)
    broken = [p for p in conclude(run).promises if p.verdict is Verdict.VIOLATED]
    assert [p.name for p in broken] == ["every step was carried out"]
    text = 'name = "churn"\n[regions.a]\n[regions.b]\n[regions.c]\n[regions.d]\nrole = "spare"\n'
    save_run(run, conclude(run), text, tmp_path)
    again = load_run(tmp_path)
    assert (again.steps, again.members) == (run.steps, run.members)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\n[regions.a]\n' + textwrap.dedent(text))
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[step]]\nat_s = 1\ndo = "ad"\nnode = "a"', "no step is called 'ad'"),
        ('[[step]]\nat_s = 1\ndo = "add"\nnode = "x"', "no node is called 'x'"),
        ('[[step]]\nat_s = 1\ndo = "add"', "node is needed"),
        ('[[step]]\nat_s = "1"\ndo = "add"\nnode = "a"', "at_s is '1'"),
        ('[[step]]\nat_s = 1\ndo = "add"\nnode = "a"\nby = "a"', "`by` names the new node"),
        ('[[step]]\nat_s = 99\ndo = "add"\nnode = "a"', "clients end at 60 s"),
        ('[[step]]\nat_s = 1\ndo = "add"\nnode = "a"\nwhen = 5', "unknown: when"),
        ('[regions.b]\nrole = "boss"', "is 'boss'"),
        ("[groups]\nprotocol = 9", "is 9"),
    ],
)
def test_a_step_or_role_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        load_scenario(written(tmp_path, text))


def test_somebody_has_to_vote(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\n[regions.a]\nrole = "learner"\n')
    with pytest.raises(InvalidInput, match="no node votes"):
        load_scenario(path)


def test_a_fleet_with_learners_holds_its_bound() -> None:
    """A small form of `edge-fleet`; the whole fleet is a soak test."""
    changes = {f"regions.shops-{where}.nodes": 1 for where in ("us", "cn", "eu")}
    scenario = load_scenario(find_scenario("edge-fleet"), changes)
    scenario = replace(scenario, duration_s=25.0, faults=Schedule(scenario.faults.faults[:1]))
    conclusion = conclude(run_simulated(scenario, seed=1))
    assert conclusion.verdict is Verdict.OK, conclusion.promises


def test_several_groups_hold_their_bound() -> None:
    """A small form of `many-groups`; five hundred groups on each node are a soak test."""
    scenario = load_scenario(find_scenario("many-groups"), {"groups.count": 5})
    scenario = replace(scenario, duration_s=12.0)
    faults = tuple(replace(fault, at_s=2.0, for_s=5.0) for fault in scenario.faults.faults)
    conclusion = conclude(run_simulated(replace(scenario, faults=Schedule(faults)), seed=1))
    assert conclusion.verdict is Verdict.OK, conclusion.promises


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "name",
    [
        "membership-churn",
        "rolling-upgrade",
        "region-loss",
        "edge-fleet",
        "many-groups",
        "everything",
    ],
)
def test_a_shipped_scenario_keeps_its_promises(name: str) -> None:
    conclusion = conclude(run_simulated(load_scenario(find_scenario(name)), seed=1))
    assert conclusion.verdict is Verdict.OK, conclusion.promises
