"""The detector on the real node, against the truth of the world: a slice of the campaign."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mcpcore.node.judging import Judging
from mcpcore.sim import World
from tests.node.detector_campaign import CALM, Scene, judge


@pytest.mark.parametrize("first", range(0, 12, 4))
def test_every_true_split_is_recognised_in_time_and_none_is_seen_without_a_cut(first: int) -> None:
    for seed in range(first, first + 4):
        assert judge(seed).wrong == []


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 2000, 50))
def test_two_thousand_seeds_hold_no_wrong_verdict(first: int) -> None:
    for seed in range(first, first + 50):
        assert judge(seed).wrong == []


def test_the_slice_has_cuts_and_calm_and_true_splits() -> None:
    kinds, splits = set(), 0
    for seed in range(12):
        with suppress(BaseException), World(seed=seed) as world:
            kinds.add(Scene(world, seed).kind in CALM)
    for seed in (3, 4, 6):
        splits += judge(seed).splits
    assert kinds == {True, False}
    assert splits


def test_the_campaign_notices_a_node_that_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that reaches others but not the leader knows only from them that it trails."""
    monkeypatch.setattr(Judging, "heard", lambda *_: None)
    assert any("not recognised" in text for seed in (7,) for text in judge(seed).wrong)
