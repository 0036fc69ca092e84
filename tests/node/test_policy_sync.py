"""The P99 of an edit's way to all sites stays within 5 % of the delays of the links (K7, K8)."""

from __future__ import annotations

from benchmarks.policy_sync import follow_edits, p


def test_the_p99_of_policy_sync_is_that_of_the_one_way_delay() -> None:
    """Deltas leave at once; one that waited for a tick, or for the disk, would show here."""
    found = follow_edits(200, seed=2)
    assert p(found.site, 0.99) <= 1.05 * p(found.delay, 0.99)
    assert p(found.everywhere, 0.99) <= 1.05 * p(found.furthest, 0.99)
    assert found.gift, "and gifts are in force soon after"
    assert p(found.gift, 0.99) < 4 * p(found.furthest, 0.99), "to the leader, a quorum, and back"
