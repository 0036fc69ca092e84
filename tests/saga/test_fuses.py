"""The article's experiment, short: no saga is lost, and the shorter fuse recovers sooner."""

from __future__ import annotations

import logging
import statistics

import pytest

from benchmarks.saga_fuses import Figures, experiment
from mcpcore.saga import FUSE_3S, FUSE_8S, Fuse, Status
from mcpcore.sim import run


def figures(fuse: Fuse, *, brown_outs: bool) -> Figures:
    logging.getLogger("mcpcore.saga").setLevel(logging.CRITICAL)
    found: Figures = run(
        experiment(fuse, seed=3, for_s=15, brown_outs=brown_outs), seed=3, within_s=1e6
    )
    logging.getLogger("mcpcore.saga").setLevel(logging.NOTSET)
    return found


@pytest.mark.parametrize("fuse", [FUSE_3S, FUSE_8S], ids=["3 s", "8 s"])
@pytest.mark.parametrize("brown_outs", [False, True])
def test_no_saga_is_lost_and_none_holds_what_its_end_denies(fuse: Fuse, brown_outs: bool) -> None:
    found = figures(fuse, brown_outs=brown_outs)

    assert found.lost == 0
    assert found.sagas > 100
    assert found.ends[Status.COMPLETED] > 100
    assert sum(found.ends.values()) == found.sagas
    if not brown_outs:
        assert found.failed == 0
        assert statistics.median(found.recovery_ms) < 217
