"""Real processes, real SIGKILLs, real files: nothing acknowledged may be missing afterwards."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.experiment.kill_campaign import campaign

logger = logging.getLogger(__name__)


@pytest.mark.processes
async def test_no_acknowledged_write_is_lost_or_reordered_when_nodes_are_killed_under_load(
    tmp_path: Path,
) -> None:
    report = await campaign(tmp_path, kills=5, seed=4, say=logger.info)
    assert report.holds, "\n".join(report.lines())
    assert report.verdict.writes_acknowledged > 100, "\n".join(report.lines())
    assert report.restarts >= 5


@pytest.mark.soak
@pytest.mark.processes
@pytest.mark.timeout(3600)
async def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    report = await campaign(tmp_path, kills=200, seed=1, say=logger.info)
    assert report.holds, "\n".join(report.lines())
