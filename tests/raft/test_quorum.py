"""Quorum arithmetic: tables, and laws against a definition that only counts."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft.quorum import (
    UNBOUNDED,
    VoteResult,
    majority,
    majority_value,
    majority_vote,
    quorum_value,
    vote_result,
    zone_quorum_value,
)
from mcpcore.raft.types import Configuration, Member

WON, LOST, PENDING = VoteResult.WON, VoteResult.LOST, VoteResult.PENDING


@pytest.mark.parametrize("members", range(1, 12))
def test_two_majorities_share_a_member_and_nothing_smaller_does(members: int) -> None:
    """Raft §5.2: why a term has one leader at most."""
    everybody, size = range(members), majority(members)
    for one in combinations(everybody, size):
        assert all(set(one) & set(other) for other in combinations(everybody, size))
    assert 2 * (size - 1) <= members, "one less leaves room for two of them"


@pytest.mark.parametrize(
    ("reached", "committed"),
    [
        ([], UNBOUNDED),
        ([12], 12),
        ([0], 0),
        ([12, 5], 5),
        ([12, 0], 0),
        ([12, 5, 0], 5),
        ([12, 5, 6], 6),
        ([10, 10, 10], 10),
        ([100, 100, 0], 100),
        ([1, 2, 3, 4], 2),
        ([101, 101, 103, 103], 101),
        ([0, 0, 101, 102, 103], 101),
        ([9, 9, 9, 1, 1], 9),
        ([9, 9, 1, 1, 1], 1),
        ([4, 4, 4, 5, 6, 7], 4),
        ([1, 2, 3, 4, 5, 6, 7], 4),
    ],
)
def test_an_index_is_reached_by_a_majority(reached: list[int], committed: int) -> None:
    """Raft §5.3: stored on a majority."""
    voters = "abcdefg"[: len(reached)]
    values = dict(zip(voters, reached, strict=True))
    assert majority_value(frozenset(voters), values.__getitem__) == committed
    assert quorum_value(Configuration.of(voters), values.__getitem__) == committed


@pytest.mark.parametrize(
    ("incoming", "outgoing", "values", "committed"),
    [
        ("a", "b", {"a": 3, "b": 9}, 3),
        ("a", "b", {"a": 9, "b": 3}, 3),
        ("abc", "abc", {"a": 100, "b": 101, "c": 99}, 100),
        ("abc", "def", {"a": 9, "b": 9, "c": 9}, 0),
        ("abc", "def", {"a": 9, "b": 9, "d": 4, "e": 5}, 4),
        ("abc", "abd", {"a": 7, "b": 7}, 7),
        ("abc", "abd", {"a": 7, "c": 7}, 0),
        ("abcd", "a", {"a": 5, "b": 5, "c": 5}, 5),
        ("abcd", "a", {"b": 5, "c": 5, "d": 5}, 0),
        ("abcde", "abc", {"a": 2, "b": 3, "d": 8, "e": 8}, 2),
    ],
)
def test_a_joint_change_commits_with_both_halves(incoming, outgoing, values, committed) -> None:
    """Raft §6: "separate majorities from both the old and new configurations"."""
    joint = Configuration(frozenset(incoming), frozenset(outgoing))
    assert quorum_value(joint, lambda voter: values.get(voter, 0)) == committed


def votes_of(text: str) -> dict[str, bool]:
    """``ab!c``: a and b grant, c refuses."""
    granted, _, refused = text.partition("!")
    return dict.fromkeys(granted, True) | dict.fromkeys(refused, False)


@pytest.mark.parametrize(
    ("voters", "votes", "result"),
    [
        ("a", "", PENDING),
        ("a", "a", WON),
        ("a", "!a", LOST),
        ("ab", "a", PENDING),
        ("ab", "!a", LOST),
        ("ab", "ab", WON),
        ("abc", "a", PENDING),
        ("abc", "a!b", PENDING),
        ("abc", "ab", WON),
        ("abc", "ab!c", WON),
        ("abc", "!ab", LOST),
        ("abcd", "ab!c", PENDING),
        ("abcd", "ab!cd", LOST),
        ("abcde", "ab!cd", PENDING),
        ("abcde", "abc!de", WON),
        ("abcde", "!abc", LOST),
        ("abc", "xyz", PENDING),
        ("abc", "!xyz", PENDING),
    ],
)
def test_votes_decide_when_a_majority_is_won_or_out_of_reach(voters, votes, result) -> None:
    """Raft §5.2."""
    assert vote_result(Configuration.of(voters), votes_of(votes)) is result


@pytest.mark.parametrize(
    ("incoming", "outgoing", "votes", "result"),
    [
        ("abc", "def", "ab", PENDING),
        ("abc", "def", "abde", WON),
        ("abc", "def", "abc!de", LOST),
        ("abc", "def", "def!ab", LOST),
        ("abc", "abd", "ab", WON),
        ("abc", "abd", "a!b", PENDING),
        ("abc", "abd", "a!bd", LOST),
        ("ab", "a", "a", PENDING),
        ("ab", "a", "!a", LOST),
    ],
)
def test_a_joint_election_needs_both_halves_and_either_can_lose_it(
    incoming, outgoing, votes, result
) -> None:
    """Raft §6."""
    joint = Configuration(frozenset(incoming), frozenset(outgoing))
    assert vote_result(joint, votes_of(votes)) is result


members = st.frozensets(st.sampled_from("abcdefg"), min_size=1)
joint = st.builds(Configuration, members, st.just(frozenset()) | members)


def agree(configuration: Configuration, yes: set[str]) -> bool:
    """The definition: more than half of each half that exists."""
    halves = [half for half in (configuration.voters, configuration.outgoing) if half]
    return all(2 * len(half & yes) > len(half) for half in halves)


@settings(deadline=None)
@given(joint, st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 5)))
def test_a_quorum_value_is_the_largest_that_a_quorum_has_reached(configuration, values) -> None:
    def reached(level: int) -> bool:
        return agree(configuration, {v for v in "abcdefg" if values.get(v, 0) >= level})

    found = quorum_value(configuration, lambda voter: values.get(voter, 0))

    assert found == max(level for level in range(6) if reached(level))


@settings(deadline=None)
@given(joint, st.dictionaries(st.sampled_from("abcdefgz"), st.booleans()))
def test_a_vote_is_won_when_they_agree_and_lost_when_they_no_longer_can(
    configuration, votes
) -> None:
    yes = {voter for voter, granted in votes.items() if granted}
    possible = {voter for voter in "abcdefg" if votes.get(voter, True)}
    expected = WON if agree(configuration, yes) else PENDING
    if not agree(configuration, possible):
        expected = LOST

    assert vote_result(configuration, votes) is expected


@settings(deadline=None)
@given(members, st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 9)), max_size=20))
def test_answers_out_of_order_give_the_same_quorum_value(voters, answers) -> None:
    """openraft #1802: nothing is cached, so nothing can go stale."""
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    for reached, order in ((forward, answers), (backward, answers[::-1])):
        for voter, value in order:
            reached[voter] = max(reached.get(voter, 0), value)

    def value_in(reached: dict[str, int]) -> int:
        return majority_value(voters, lambda voter: reached.get(voter, 0))

    assert value_in(forward) == value_in(backward)


def test_a_half_without_voters_stands_in_nobodys_way() -> None:
    """The field's convention: a joint configuration with one empty half decides as the other."""
    nobody = Configuration.of("")
    assert quorum_value(nobody, lambda _: 9) == UNBOUNDED
    assert zone_quorum_value(nobody, lambda _: 9) == UNBOUNDED
    assert vote_result(nobody, {}) is WON
    half = Configuration(frozenset(), frozenset("abc"))
    values = {"a": 100, "b": 101, "c": 99}
    assert quorum_value(half, values.__getitem__) == 100
    assert vote_result(half, votes_of("ab")) is WON
    assert vote_result(half, votes_of("a!bc")) is LOST


# --- zones ----------------------------------------------------------------------------------------


def zoned(zones: str, outgoing: str = "", required: int = 2) -> Configuration:
    """``nns<nn``: voters a, b in zone n, c in s; outgoing A, B in n. ``-``: no zone is stated."""
    about = {
        name: Member(zone=zone.strip("-"))
        for names, half in (("abcdefg", zones), ("ABCDEFG", outgoing))
        for name, zone in zip(names, half, strict=False)
    }
    return Configuration(
        frozenset("abcdefg"[: len(zones)]),
        frozenset("ABCDEFG"[: len(outgoing)]),
        about=about,
        zones_required=required,
    )


@pytest.mark.parametrize(
    ("zones", "reached", "committed"),
    [
        ("nns", [9, 9, 0], 0),
        ("nns", [9, 9, 5], 5),
        ("nns", [9, 5, 7], 7),
        ("nns", [3, 9, 9], 9),
        ("nnnss", [9, 9, 9, 0, 0], 0),
        ("nnnss", [9, 9, 9, 0, 4], 4),
        ("nnnss", [9, 0, 0, 8, 8], 8),
        ("nnnss", [9, 9, 2, 8, 8], 8),
        ("nnnss", [0, 0, 7, 7, 0], 0),  # two zones, but no majority
        ("new", [9, 8, 1], 8),
        ("nnn", [9, 9, 9], 0),  # there is no second zone
        ("---", [9, 8, 1], 8),  # everybody is a zone
        ("nn-", [9, 9, 0], 0),
        ("nn-", [9, 0, 9], 9),
    ],
)
def test_an_entry_counts_once_a_majority_and_two_zones_hold_it(zones, reached, committed) -> None:
    configuration = zoned(zones)
    values = dict(zip("abcdefg", reached, strict=False))
    assert zone_quorum_value(configuration, values.__getitem__) == committed
    assert zone_quorum_value(zoned(zones, required=1), values.__getitem__) == quorum_value(
        configuration, values.__getitem__
    )


@pytest.mark.parametrize(
    ("reached", "committed"),
    [
        ({"a": 9, "b": 9, "c": 9, "A": 9, "B": 9}, 0),
        ({"a": 9, "b": 9, "c": 9, "A": 9, "C": 9}, 9),
        ({"a": 9, "b": 9, "A": 9, "C": 9}, 0),
    ],
)
def test_in_a_joint_change_each_half_needs_its_zones(reached, committed) -> None:
    """Or leaving it would leave an entry in one zone."""
    joint = zoned("nns", "nns")
    assert zone_quorum_value(joint, lambda voter: reached.get(voter, 0)) == committed


def test_three_zones_can_be_asked_for() -> None:
    values = {"a": 9, "b": 9, "c": 9, "d": 4, "e": 3}
    assert zone_quorum_value(zoned("nnsse", required=3), values.__getitem__) == 3
    assert zone_quorum_value(zoned("nsens", required=3), values.__getitem__) == 9


@settings(deadline=None)
@given(
    st.text("nsew-", min_size=1, max_size=6),
    st.integers(1, 3),
    st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_what_counts_is_the_largest_value_that_a_majority_and_enough_zones_have_reached(
    zones, required, reached
) -> None:
    configuration = zoned(zones, required=required)
    values = dict(zip("abcdef", reached, strict=True))

    def held(level: int) -> bool:
        holders = {voter for voter in configuration.voters if values[voter] >= level}
        spanned = {configuration.zone_of(voter) for voter in holders}
        return agree(configuration, holders) and len(spanned) >= required

    found = zone_quorum_value(configuration, values.__getitem__)
    assert found == max((level for level in range(5) if held(level)), default=0)


@settings(deadline=None)
@given(st.text("nsew-", min_size=2, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_whoever_wins_an_election_has_met_every_entry_that_zones_hold(zones, stored) -> None:
    """Elections need no zones: each majority meets the majority that holds the entry."""
    configuration = zoned(zones)
    holders = {voter for voter, holds in zip("abcdef", stored, strict=True) if holds}
    if zone_quorum_value(configuration, lambda voter: int(voter in holders)):
        for size in range(1, len(configuration.voters) + 1):
            for electors in combinations(sorted(configuration.voters), size):
                assert not agree(configuration, set(electors)) or set(electors) & holders


def test_an_observer_does_not_vote() -> None:
    configuration = Configuration.of("abc", learners="d")
    assert majority_vote(configuration.voters, votes_of("ad")) is PENDING
    assert not configuration.votes("d")
    assert "d" in configuration.members
