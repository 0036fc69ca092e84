"""The demo's last page: it fits a small terminal, and it does not hide bad news."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from mcpcore.ctl.demo_report import show
from mcpcore.experiment.operations import Kind, Operation, Outcome, Replica, Stored
from mcpcore.experiment.three_clouds import FaultReport, Result
from mcpcore.experiment.verdict import judge

PUT = Operation(
    site="edge",
    lane="edge/0.0",
    kind=Kind.PUT,
    key="put/edge/0.0/000001",
    value="edge/0.0:1",
    called_s=1.0,
    returned_s=1.2,
    outcome=Outcome.OK,
    revision=7,
    term=1,
    index=7,
)
DIGEST = "0bb4ef45730eb230820d821ba468078e"
REPLICAS = tuple(
    Replica(node, 3, 1_234_567, DIGEST, {PUT.key: Stored(PUT.value, 7, 7, 1)})
    for node in ("us-east-1", "hangzhou", "edge")
)
GOOD = Result(
    judge([PUT], REPLICAS),
    (
        FaultReport("us-east-1 killed", "us-east-1", 2.39, 2.51, "ended by SIGKILL"),
        FaultReport("us-east-1 cut off 14.0 s", "us-east-1", 13.32, 14.61, "no byte crossed"),
    ),
    REPLICAS,
    0.08,
    24.4,
)


def printed(result: Result, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_good_result_fits_eighty_columns_line_by_line() -> None:
    assert GOOD.holds
    text = printed(GOOD)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "us-east-1 cut off 14.0 s 13.32 s 14.61 s no byte crossed" in lines
    assert f"us-east-1 3 1,234,567 1 {DIGEST}" in lines
    assert "Every promise was kept.  (24 s in all)" in text
    assert "\x1b" not in text


def test_a_lost_write_is_named_and_the_verdict_is_bad() -> None:
    replicas = (*REPLICAS[:2], replace(REPLICAS[2], records={}))
    bad = replace(GOOD, verdict=judge([PUT], replicas), replicas=replicas)
    assert not bad.holds
    text = " ".join(printed(bad).split())
    assert "edge has no put/edge/0.0/000001, acknowledged at revision 7" in text
    assert "A promise was broken" in text
    assert "Every promise was kept" not in text


@pytest.mark.parametrize("what", ["fault", "writes"])
def test_a_demo_that_proves_nothing_does_not_pass(what: str) -> None:
    """A fault without effect, or no write at all, is no proof of anything."""
    if what == "fault":
        idle = replace(GOOD, faults=(GOOD.faults[0], replace(GOOD.faults[1], proof="")))
        assert "had no effect that we could see" in printed(idle)
    else:
        empty = tuple(replace(replica, records={}) for replica in REPLICAS)
        idle = replace(GOOD, verdict=judge([], empty), replicas=empty)
    assert not idle.holds
    assert "proved nothing" in printed(idle)
