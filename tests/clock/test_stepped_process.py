"""The system clock of a real process steps by an hour, both ways."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.processes
@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_real_process_keeps_order_and_timers_and_says_that_its_clock_stepped(step_s):
    done = subprocess.run(
        [sys.executable, str(HERE / "stepped_process.py"), str(step_s)],
        cwd=HERE.parents[1],
        env={"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seen = json.loads(done.stdout)

    assert seen["issued"] > 20
    assert seen["ordered"]
    assert not seen["beating_failed"], "no peer refused a timestamp"
    assert 0 < seen["span_s"] < 30, "an hour entered no timestamp"
    assert 0.3 <= seen["timer_s"] < 20, "a timer neither fired early nor waited an hour"
    assert 0.2 <= seen["commit_s"] < 20, "and a commit wait neither"
    assert seen["before"] == "synchronised"
    state, may_lease, reason, *_ = seen["at_step"]
    assert (state, may_lease) == ("holdover", False)
    assert f"the system clock jumped by {step_s:+.3f} s" in reason
    state, may_lease, *reasons = seen["settled"]
    assert (state, may_lease) == ("synchronised", True)
    assert any("jumped" in reason for reason in reasons)
