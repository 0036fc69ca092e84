"""Nodes that only learn from the same voters need not beat to each other as often as to voters."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.nearness import FAR_BEATS, far_peers
from mcpcore.node.pulse import BEAT_MAX_NS
from mcpcore.node.timekeeping import ECHO_WITHIN_NS
from mcpcore.raft.types import Configuration

NAMES = "abcdefg"
names = st.frozensets(st.sampled_from(NAMES))
configurations = st.builds(
    lambda voters, learners: Configuration.of(voters, learners - voters), names, names
)
law = settings(deadline=None)

FLEET = Configuration.of("abc", "defg")


def test_edge_sites_are_far_from_each_other_and_near_to_every_voter() -> None:
    assert far_peers("d", set("abcefg"), [FLEET]) == set("efg")
    assert far_peers("a", set("bcdefg"), [FLEET]) == frozenset()


def test_one_group_in_which_either_votes_makes_two_nodes_near() -> None:
    other = Configuration.of("de", "fg")
    assert far_peers("d", set("abcefg"), [FLEET, other]) == frozenset()
    assert far_peers("f", set("abcdeg"), [FLEET, other]) == {"g"}


def test_a_learner_that_is_promoted_is_near_at_once_also_in_a_joint_change() -> None:
    joint = Configuration(frozenset("bcd"), outgoing=frozenset("abc"), learners=frozenset("efg"))
    assert far_peers("d", set("abcefg"), [joint]) == frozenset()
    assert far_peers("e", set("abcdfg"), [joint]) == set("fg")


def test_a_node_with_which_we_share_no_group_yet_is_near() -> None:
    assert far_peers("g", set("abcdef"), []) == frozenset()
    assert "z" not in far_peers("d", {*"abcefg", "z"}, [FLEET])


@law
@given(st.lists(configurations, max_size=4))
def test_two_nodes_are_far_from_each_other_or_neither_is(held: list[Configuration]) -> None:
    def far(one: str) -> frozenset[str]:
        own_groups = [each for each in held if one in each.members]
        return far_peers(one, set(NAMES) - {one}, own_groups)

    for one in NAMES:
        for other in far(one):
            assert one in far(other)
            assert not any(
                {one, other} <= each.members and (each.votes(one) or each.votes(other))
                for each in held
            )


def test_what_a_far_peer_says_of_time_is_young_enough_to_be_echoed() -> None:
    assert FAR_BEATS * BEAT_MAX_NS < ECHO_WITHIN_NS
