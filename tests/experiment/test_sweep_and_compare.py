"""Sweeps go on where they were; two runs are laid side by side."""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.experiment.compare import compare
from mcpcore.experiment.report.sweep_page import heat_map, render_sweep
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.experiment.sweep import Row, combinations, sweep_scenario

TEXT = """\
name = "short"
duration_s = 3
settle_s = 20
[regions.a]
[regions.b]
[regions.c]
[links."a - b"]
delay_ms = 1
[links."b - c"]
delay_ms = 2
[groups]
election_timeout_s = 1
heartbeat_s = 0.2
[workloads.register]
[[fault]]
at_s = 1
kind = "partition"
on = ["leader"]
for_s = 1
[expect]
converged_within_s = 5
"""


class Here(Executor):
    """Runs everything at once, in this process."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(TEXT)
    return path


def test_a_star_stands_for_every_name(scenario: Path) -> None:
    changed = load_scenario(scenario, {"links.*.loss": 0.25, "groups.count": 3})
    assert {link.loss for link in changed.links.values()} == {0.25}
    assert changed.groups.count == 3


@pytest.mark.parametrize("place", ["nothing.loss", "links.*.", "*", "links.*"])
def test_a_place_that_leads_nowhere_is_refused(scenario: Path, place: str) -> None:
    with pytest.raises(InvalidInput, match="leads to no table"):
        load_scenario(scenario, {place: 1})


def test_a_value_put_in_place_is_checked_like_one_in_the_file(scenario: Path) -> None:
    with pytest.raises(InvalidInput, match=r"groups\.count"):
        load_scenario(scenario, {"groups.count": 0})


def test_every_combination_is_tried() -> None:
    assert len(combinations({"a": [1, 2], "b": [3, 4, 5]})) == 6
    assert combinations({}) == [{}]


def test_a_sweep_goes_on_where_it_was_and_repeats_itself(scenario: Path, tmp_path: Path) -> None:
    executor = Here()
    varied = {"groups.election_timeout_s": [1, 2]}
    first = sweep_scenario(
        scenario, range(1), varied, database=tmp_path / "a.db", executor=executor
    )
    assert (len(first), executor.calls) == (2, 2)
    more = sweep_scenario(scenario, range(2), varied, database=tmp_path / "a.db", executor=executor)
    assert (len(more), executor.calls) == (4, 4)
    anew = sweep_scenario(scenario, range(1), varied, database=tmp_path / "b.db", executor=executor)
    assert [row.digest for row in anew] == [row.digest for row in first]
    assert all(row.verdict == "ok" and row.converged_s is not None for row in more)


def test_a_database_that_is_none_is_refused(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, and long enough to be looked at")
    with pytest.raises(InvalidInput, match="no results file"):
        sweep_scenario(scenario, range(1), {}, database=tmp_path / "no.db", executor=Here())


RESULTS = {
    "scenario": "s",
    "world": "simulated",
    "seed": 1,
    "verdict": "ok",
    "converged": {"s": 2.0},
    "silence_s": 4.0,
    "leaders": 1,
    "figures": {"register": {"acknowledged": 100, "unknown": 0, "p50_ms": 10.0, "p99_ms": None}},
    "promises": [{"name": "writes go on", "verdict": "ok", "found": "4 s"}],
}


def test_what_changed_is_told_in_numbers_and_shares() -> None:
    later = json.loads(json.dumps(RESULTS))
    later["converged"]["s"] = 3.0
    later["promises"][0] = {"name": "writes go on", "verdict": "violated", "found": "9 s"}
    rows = {row.name: row for row in compare(RESULTS, later)}
    assert rows["converged, s"].change == "+1.00 (+50%)"
    assert rows["register: p99 ms"].change == ""
    assert rows["writes go on"].second == "violated: 9 s"
    assert {row.change for row in compare(RESULTS, RESULTS) if row.change} <= {
        "+0.00 (+0%)",
        "+0 (+0%)",
        "+0",
        "+0.0 (+0%)",
    }


def row(loss: float, timeout_s: int, seed: int, took_s: float | None, bound_s: float = 5) -> Row:
    settings = json.dumps({"links.*.loss": loss, "groups.election_timeout_s": timeout_s})
    verdict = "ok" if took_s is not None and took_s <= bound_s else "violated"
    broken = "" if verdict == "ok" else "converged after the last fault"
    return Row(settings, seed, verdict, took_s, bound_s, 1.0, 1, 100, broken, "")


def test_a_sweep_has_a_page_with_distributions_slack_and_a_map() -> None:
    rows = [
        row(loss, timeout_s, seed, timeout_s + loss * 10 + seed / 10)
        for loss in (0.0, 0.1)
        for timeout_s in (1, 3)
        for seed in range(5)
    ]
    rows.append(row(0.1, 3, 9, None))
    page = render_sweep("short", rows, "mcpctl experiment sweep short")
    assert "1 of 21 runs broke a promise" in page
    assert "seed 9, links.*.loss=0.1, groups.election_timeout_s=3" in page
    embedded = page.partition('<script id="figures" type="application/json">')[2]
    figures = json.loads(embedded.partition("</script>")[0])
    assert set(figures) == {"distribution", "slack", "map"}
    (heat,) = figures["map"]["data"]
    assert heat["x"] == ["0.0", "0.1"]
    assert heat["z"] == [[1.4, 2.4], [3.4, 4.4]]
    assert heat["text"][1][1] == "4.40 s, 1 of 6 broken"


def test_a_sweep_over_one_setting_has_no_map() -> None:
    one = Row('{"groups.count": 1}', 1, "ok", 2.0, None, 1.0, 1, 10, "", "")
    assert heat_map([one]) is None
    assert "0 of 1 runs broke" in render_sweep("short", [one], "")
