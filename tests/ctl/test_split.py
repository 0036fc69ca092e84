"""`mcpctl split` and stale reads with a bound, against real nodes."""

from __future__ import annotations

import json
import time

import pytest

from mcpcore.ctl.ages import max_age_s
from mcpcore.ctl.split import ADVICE
from mcpcore.errors import InvalidInput
from mcpcore.raft.split import SplitState
from tests.ctl.town import Town, mcpctl, run


def test_there_is_advice_for_every_verdict() -> None:
    assert set(ADVICE) == {state.value for state in SplitState}


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), ("2s", 2.0), ("500ms", 0.5), ("1.5m", 90.0), ("3", 3.0)]
)
def test_an_age_is_read_as_people_write_it(text: str, seconds: float | None) -> None:
    assert max_age_s(text) == seconds


@pytest.mark.parametrize("text", ["-1s", "soon", "2 weeks", "1e3s", "s"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no length of time"):
        max_age_s(text)


@pytest.mark.processes
def test_each_node_explains_its_verdict_with_evidence_and_what_to_do(town: Town) -> None:
    town.wait_until_well()
    done = run("split", "explain", "main", "--config", str(town.admin))
    assert done.exit_code == 0, done.output
    assert done.output.count(": healthy for ") == 3
    assert "evidence  contact_age_s" in done.output
    assert "to do     nothing" in done.output
    told = json.loads(run("split", "explain", "-o", "json", "--config", str(town.admin)).output)
    assert set(told["nodes"]) == {"us-east-1", "hangzhou", "edge"}
    assert told["views"] == []


@pytest.mark.processes
def test_a_stale_read_says_how_old_it_may_be_and_a_bound_out_of_reach_is_refused(
    town: Town,
) -> None:
    town.wait_until_well()
    admin = ("--config", str(town.client))
    assert run("put", "policy/edge", "deny-all", *admin).exit_code == 0
    for _ in range(50):
        done = run("get", "policy/edge", "--stale", "--max-age", "10s", "-o", "json", *admin)
        if done.exit_code == 0 and '"value"' in done.output:
            break
        time.sleep(0.2)
    told = json.loads(done.output)
    assert told["value"] == "deny-all"
    assert 0 <= told["staleness"]["at_most_ms"] <= 10_000
    done = run("get", "policy/edge", "--stale", "--max-age", "0ms", "--timeout", "2", *admin)
    assert done.exit_code != 0
    assert "cannot be promised" in done.output
    done = run("get", "policy/edge", "--max-age", "2s", *admin)
    assert "Add --stale" in done.output


@pytest.mark.processes
def test_changes_are_told_as_they_come(town: Town) -> None:
    town.wait_until_well()
    watching = mcpctl("split", "watch", "--config", str(town.client))
    try:
        time.sleep(3)
        town.end("edge")
        assert watching.stdout is not None
        assert any(line.startswith("edge\tlost\t") for line in watching.stdout)
    finally:
        watching.kill()
        watching.communicate(timeout=10)
        town.start("edge")
        town.wait_until_well()
