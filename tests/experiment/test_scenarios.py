"""Scenarios in the simulated world: the same twice, judged, recorded, and able to fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mcpcore.check import Verdict
from mcpcore.errors import InvalidInput
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.record import load_run, results, save_run
from mcpcore.experiment.run import NodeSample
from mcpcore.experiment.scenario import Expectations, Groups, Region, Scenario, WorkloadSpec
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.experiment.simulated import run_simulated
from mcpcore.experiment.workloads import KINDS
from mcpcore.node.kv.commands import CompareAndSet, Put, decode_command
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.kv.results import PutDone, Swapped, encode_result
from mcpcore.sim.schedule import Fault, Schedule

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


def test_a_scenario_runs_the_same_way_twice_and_keeps_its_promises() -> None:
    first, second = run_simulated(SMALL, seed=5), run_simulated(SMALL, seed=5)
    assert first.digest == second.digest
    assert run_simulated(SMALL, seed=6).digest != first.digest
    conclusion = conclude(first)
    assert conclusion.verdict is Verdict.OK, conclusion.promises
    assert conclusion.converged is not None
    assert conclusion.converged.total_s is not None
    assert all(record.effects for record in first.faults)
    assert sum(figures.acknowledged for figures in conclusion.figures.values()) > 100


class Forgetful(KeyValueNode):
    """A broken machine: now and then a write is acknowledged and forgotten."""

    __slots__ = ()

    def apply(self, index: int, command: bytes) -> bytes:
        asked = decode_command(command)
        if index % 7 == 0:
            if isinstance(asked, Put):
                return encode_result(PutDone(index, None))
            if isinstance(asked, CompareAndSet):
                return encode_result(Swapped(index))
        return super().apply(index, command)


class Repeating(KeyValueNode):
    """A broken machine: it hands out the same revision again."""

    __slots__ = ()

    def apply(self, index: int, command: bytes) -> bytes:
        result = super().apply(index, command)
        if isinstance(decode_command(command), Put):
            return encode_result(PutDone(index - index % 5, None))
        return result


@pytest.mark.parametrize(
    ("kind", "machine"),
    [
        ("register", Forgetful),
        ("append", Forgetful),
        ("set", Forgetful),
        ("counter", Forgetful),
        ("queue", Forgetful),
        ("ids", Repeating),
    ],
)
def test_every_workload_finds_out_a_machine_that_lies(
    kind: str, machine: type[KeyValueNode]
) -> None:
    scenario = replace(
        SMALL, workloads=(WorkloadSpec(kind, rate_per_s=20.0),), faults=Schedule(), duration_s=4.0
    )
    honest = conclude(run_simulated(scenario, seed=1))
    assert honest.judgements[kind].verdict is Verdict.OK, honest.judgements[kind]
    lying = conclude(run_simulated(scenario, seed=1, machine=machine))
    assert lying.judgements[kind].verdict is Verdict.VIOLATED


def test_the_bank_is_judged_too() -> None:
    scenario = replace(SMALL, workloads=(WorkloadSpec("bank", rate_per_s=20.0),))
    assert conclude(run_simulated(scenario, seed=1)).verdict is Verdict.OK
    assert set(KINDS) == {"register", "append", "set", "bank", "counter", "queue", "ids"}


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
    scenario = replace(
        SMALL,
        expect=Expectations(
            converged_within_s=0.001,
            silence_at_most_s=0.01,
            acknowledged_at_least=10**9,
            leaders_at_most=0,
        ),
    )
    conclusion = conclude(run_simulated(scenario, seed=5))
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
    run = run_simulated(SMALL, seed=5)
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
