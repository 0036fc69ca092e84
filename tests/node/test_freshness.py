"""What a leader says of its confirmation is never later than the truth."""

from __future__ import annotations

from types import SimpleNamespace

from mcpcore.clock.interval import Interval
from mcpcore.node.freshness import Freshness
from tests.raft.cluster import MS
from tests.raft.member import Member


def test_a_busy_loop_that_calls_late_makes_no_confirmation_younger() -> None:
    """The moment for which we are called is read once for all who wait for it, and may be old."""
    leader = Member().leads().all_accept()
    confirmed_ns = leader.now_ns
    real_ns = confirmed_ns + 40 * MS  # on both clocks: the cluster's time is true here
    told = []
    freshness = Freshness(
        SimpleNamespace(),
        SimpleNamespace(
            awake={"main": SimpleNamespace(raft=leader.raft, failure=None)},
            pace=SimpleNamespace(beat_ns=100 * MS),
        ),
        SimpleNamespace(alarm=lambda who, at_ns: None),
        lambda: real_ns,
        clock=SimpleNamespace(interval=lambda: Interval(real_ns, real_ns)),
        clock_health=lambda: SimpleNamespace(may_lease=True),
        tell=lambda peer, notes: told.extend(notes),
    )

    freshness.rang(confirmed_ns + 1)

    assert told
    assert all(at_ns <= confirmed_ns for note in told for at_ns in note.confirmed_ns)
