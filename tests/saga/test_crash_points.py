"""An engine that dies anywhere leaves a saga that ends as it must, with every effect once."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from mcpcore.saga import Status
from tests.saga.crashes import (
    Trouble,
    chain,
    diamond,
    everywhere,
    explore,
    judge,
    pivoted,
    troubles,
)

SHAPES: dict[str, tuple[Any, str]] = {
    "one step": (chain(1), "a"),
    "two steps": (chain(2), "ab"),
    "parallel, with a sub-saga": (diamond, "abe"),
    "with a pivot": (pivoted, "abcd"),
}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.getLogger("mcpcore.saga").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("mcpcore.saga").setLevel(logging.NOTSET)


@pytest.mark.parametrize("shape", SHAPES)
def test_wherever_the_engine_dies_the_saga_ends_and_every_effect_happens_once(shape: str) -> None:
    make, names = SHAPES[shape]
    points = 0
    ends: Counter[Status] = Counter()
    for trouble in troubles(names, undo_kinds=("", "dead") if len(names) < 2 else ("",)):
        more, found = everywhere(make, trouble)
        points += more
        ends += found
    assert points > 80, "few points prove little"
    assert ends[Status.COMPLETED], "nothing got done"
    assert ends[Status.COMPENSATED], "nothing was undone"


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_sagas_of_up_to_six_steps_are_undone_from_every_place_after_every_crash(count: int) -> None:
    names = "abcdef"[:count]
    points = 0
    for place in (count // 2, count - 1):
        more, ends = everywhere(chain(count), Trouble(names[place], "after"))
        points += more
        assert set(ends) == {Status.COMPENSATED}
    assert points > 100


def test_a_step_that_is_refused_after_a_crash_had_cut_it_short_leaves_nothing_behind() -> None:
    points, ends = everywhere(chain(2), Trouble("b", "fickle"))
    assert points >= 20
    assert ends[Status.COMPENSATED] >= 2, "some crash fell between the effect and its record"


def test_with_claims_no_crash_point_repeats_or_loses_an_effect() -> None:
    points = 0
    for trouble in (Trouble(), Trouble("b", "after"), Trouble("b", "after", "a", "flaky")):
        points += everywhere(chain(2), trouble, claim=True)[0]
    assert points > 100


def test_two_crashes_in_a_row_change_nothing() -> None:
    trouble = Trouble("b", "after")
    first = explore(chain(2), trouble, [])
    explored = 0
    for one in range(1, first.points, 6):
        for two in range(1, first.points, 7):
            judge(explore(chain(2), trouble, [one, two]), chain(2), trouble)
            explored += 1
    assert explored > 20


def test_an_engine_that_dies_again_and_again_still_brings_the_saga_to_an_end() -> None:
    for point in range(20, 60, 7):
        found = explore(chain(2), Trouble(), [point] * 6)
        assert found.status in (Status.COMPLETED, Status.COMPENSATED)
        judge(found, chain(2), Trouble())


@pytest.mark.soak
@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("claim", [False, True])
def test_every_trouble_at_every_place_with_a_crash_at_every_point(count: int, claim: bool) -> None:
    names = "abcdef"[:count]
    points = 0
    for trouble in troubles(names):
        points += everywhere(chain(count), trouble, claim=claim)[0]
    assert points > 200 * count
