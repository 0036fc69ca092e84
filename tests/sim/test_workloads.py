"""Workloads are data: drawn in order of time, and shrunk to what still matters."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings

from mcpcore.errors import InvalidInput
from mcpcore.sim.strategies import Ask, workloads

ASKED = workloads(["one", "two"], ["put", "get", "cas"], ["x", "y"], duration_s=10.0, asks_max=10)
FEW = settings(max_examples=300, deadline=None)


@settings(deadline=None)
@given(ASKED)
def test_a_workload_stays_within_its_time_and_comes_in_order(asked: tuple[Ask, ...]) -> None:
    assert [ask.at_s for ask in asked] == sorted(ask.at_s for ask in asked)
    assert all(0 <= ask.at_s < 10 for ask in asked)
    assert all(ask.client in ("one", "two") and ask.key in ("x", "y") for ask in asked)


def test_a_workload_shrinks_to_the_one_request_that_matters() -> None:
    least = find(ASKED, lambda asked: any(ask.function == "cas" for ask in asked), settings=FEW)
    assert least == (Ask(0.0, "one", "cas", "x"),)


def test_functions_are_switched_off_as_a_whole_in_some_examples() -> None:
    without = find(
        ASKED,
        lambda asked: len(asked) >= 3 and len({ask.function for ask in asked}) == 1,
        settings=FEW,
    )
    assert len(without) == 3


@pytest.mark.parametrize("empty", range(3))
def test_a_workload_of_nobody_or_nothing_is_refused(empty: int) -> None:
    given_names = [["a"], ["put"], ["x"]]
    given_names[empty] = []
    with pytest.raises(InvalidInput, match="nothing to draw from"):
        find(workloads(*given_names, duration_s=1.0), lambda asked: True)
