"""A scenario's file says what is wrong with it, and where, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.experiment.scenario import LOCAL, Scenario
from mcpcore.experiment.scenario_file import find_scenario, load_scenario, shipped

GOOD = """\
name = "mine"
duration_s = 30

[regions.a]
nodes = 2
[regions.b]
[regions.clients]
nodes = 0

[links."a - b"]
delay_ms = 20

[groups]
election_timeout_s = 2
heartbeat_s = 0.4

[workloads.register]
clients = 2

[[fault]]
at_s = 5
kind = "partition"
on = ["leader"]
for_s = 10

[[fault]]
at_s = 20
kind = "kill"
on = ["a"]
"""


def load(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_scenario(path)


def test_what_stands_in_the_file_is_what_runs(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD)
    assert scenario.nodes == ("a-1", "a-2", "b")
    assert scenario.link("b", "a").delay.least_ms == 20
    assert [fault.kind for fault in scenario.faults.faults] == ["partition", "kill"]
    assert scenario.link("a", "clients") == LOCAL, "neighbours, where nothing is said"


def test_names_in_faults_become_nodes_when_the_fault_begins(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD)
    cut, kill = scenario.schedule(seed=0).faults
    assert scenario.resolve(cut, "b").on == ("b",)
    assert scenario.resolve(cut, "b").to == ("a-1", "a-2")
    assert scenario.resolve(kill, "b").on == ("a-1", "a-2")


def test_every_fault_ends_by_the_end_of_the_clients_time(tmp_path: Path) -> None:
    kill = load(tmp_path, GOOD).schedule(seed=0).faults[1]
    assert kill.at_s + kill.for_s == 30


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "mine"', "", "'name' is missing"),
        ("duration_s = 30", "duration_s = -1", "line 2: duration_s: is -1"),
        ("duration_s = 30", "durations_s = 30", "line 2: durations_s: is no key known here"),
        ("nodes = 2", "nodes = 200", "201 nodes in all"),
        ('"a - b"', '"a - c"', "no region is called c"),
        ('"a - b"', '"a"', "is no pair of regions"),
        ("delay_ms = 20", "delay_ms = -20", "a negative delay"),
        ("delay_ms = 20", "latency = 20", "is no key known here"),
        ("heartbeat_s = 0.4", "heartbeat_s = 1.4", "leaves no room for a lost one"),
        ("[workloads.register]", "[workloads.registr]", "Did you mean 'register'?"),
        ("clients = 2", "clients = 0", "clients: is 0"),
        ('kind = "kill"', 'kind = "kil"', "line 26"),
        ('kind = "kill"', 'kind = "kil"', "no fault is called 'kil'"),
        ('on = ["a"]', 'on = ["c"]', "nothing is called 'c'"),
        ("at_s = 20", "at_s = 40", "begins at 40 s"),
        ("[[fault]]\nat_s = 5", "[fault]\nat_s = 5", "is no TOML"),
        ("[groups]", "[group]", "Did you mean 'groups'?"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidInput) as refusal:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert told in str(refusal.value)
    assert "mine.toml" in str(refusal.value)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_scenario_can_be_loaded_and_tells_what_it_shows(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    assert scenario.name == name
    assert len(scenario.about) > 20
    assert scenario.workloads


def test_a_name_that_is_nearly_right_is_guessed() -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'flapping'"):
        find_scenario("flaping")
