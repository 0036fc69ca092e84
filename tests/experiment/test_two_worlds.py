"""What the simulator says of a schedule is what real nodes do under real cuts."""

from __future__ import annotations

import pytest

from mcpcore.experiment.network import Isolation
from tests.experiment.three_namespaces import skip_unless
from tests.experiment.two_worlds import both, scenario

pytestmark = pytest.mark.processes


@pytest.mark.soak
async def test_a_cut_leader_and_then_a_cut_leader_again_alike_in_both_worlds() -> None:
    await skip_unless(Isolation.TUN)
    kinds = [(fault.kind, fault.on) for fault in scenario(0).faults.faults]
    assert kinds == [("one_way", ("leader",)), ("partition", ("leader",))]
    simulated, real, level = await both(0, None)
    assert simulated == real
    assert level == "tun"
    assert simulated.leaders == ("other", "same", "other", "same")
    assert all("read_only" in verdicts[0] for verdicts in simulated.struck)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(20))
async def test_twenty_schedules_tell_the_same_story(number: int) -> None:
    await skip_unless(Isolation.NETNS)
    simulated, real, _ = await both(number, None)
    assert simulated == real
