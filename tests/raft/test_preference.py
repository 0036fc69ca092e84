"""Leadership goes back to where it is cheapest: gently, and never to and fro."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft.membership import AddVoter, Update
from mcpcore.raft.messages import AppendReply, Heartbeat, TimeoutNow
from mcpcore.raft.preference import PATIENCE_DOUBLINGS, Preference, Standing, better_placed
from mcpcore.raft.types import Configuration
from mcpcore.raft.types import Member as About
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import Member, answered

PATIENCE_MS = 10_000
PREFERRING = replace(SETTINGS, prefer_after_ns=PATIENCE_MS * MS)


def standing(priority: int = 0, round_trip_ms: int = 0, *, fit: bool = True) -> Standing:
    return Standing(priority, round_trip_ms * MS, fit)


@pytest.mark.parametrize(
    ("own", "others", "heir"),
    [
        (standing(), {"b": standing(), "c": standing()}, ""),
        (standing(1), {"b": standing(2), "c": standing(3)}, "c"),
        (standing(3), {"b": standing(2, 1)}, ""),
        (standing(1), {"b": standing(2, fit=False), "c": standing(2)}, "c"),
        (standing(0, 80), {"b": standing(0, 20), "c": standing(0, 10)}, "c"),
        (standing(0, 80), {"b": standing(0, 61)}, ""),  # not by a quarter
        (standing(0, 80), {"b": standing(0, 60)}, "b"),
        (standing(0, 6), {"b": standing(0, 2)}, ""),  # by two thirds, but 4 ms
        (standing(0, 80), {"b": standing(0, 0)}, ""),  # nobody knows
        (standing(0, 0), {"b": standing(0, 1)}, ""),
        (standing(0, 10), {"b": standing(1, 200), "c": standing(1, 100)}, "c"),
        (standing(0, 10), {"b": standing(1, 0), "c": standing(1, 100)}, "c"),
        (standing(0), {"c": standing(1), "b": standing(1)}, "b"),
    ],
)
def test_the_better_placed_member_has_the_higher_priority_or_is_clearly_nearer(
    own, others, heir
) -> None:
    assert better_placed(own, others) == heir


standings = st.builds(standing, st.integers(0, 2), st.integers(0, 100), fit=st.just(True))


@settings(deadline=None)
@given(standings, standings)
def test_of_two_members_at_most_one_is_better_placed(one, other) -> None:
    """Or leadership would go to and fro."""
    assert not (better_placed(one, {"b": other}) and better_placed(other, {"a": one}))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "b", "c"]), st.integers(0, 9)), max_size=40))
def test_leadership_is_offered_only_after_unbroken_patience_which_grows(history) -> None:
    preference, now, since, offers, last = Preference(), 0, 0, 0, ""
    for heir, step in history:
        now += step
        if heir != last:
            since, last = now, heir
        offered = preference.consider(heir, now, 5)
        assert offered == (bool(heir) and now - since >= 5 << min(offers, PATIENCE_DOUBLINGS))
        if offered:
            offers, since = offers + 1, now


def preferring(**about: About) -> Member:
    configuration = Configuration(frozenset("abc"), about=about)
    return Member(configuration=configuration, settings=PREFERRING).leads().all_accept()


def everybody_answers(member: Member, ms: float, *, silent: str = "", delay_ms: float = 0) -> list:
    """Time passes in heartbeats, which all but ``silent`` answer after ``delay_ms``."""
    offers: list = []
    for _ in range(int(ms // 200)):
        said = member.waits(200 - delay_ms)
        member.now_ns += int(delay_ms * MS)
        for peer, message in said:
            if isinstance(message, TimeoutNow):
                offers.append(peer)
            if isinstance(message, Heartbeat) and peer not in silent:
                more = member.hears(peer, answered(message))
                offers += [to for to, m in more if isinstance(m, TimeoutNow)]
    return offers


def test_a_leader_hands_over_to_a_member_of_higher_priority_after_a_while() -> None:
    member = preferring(c=About(priority=5))
    assert everybody_answers(member, PATIENCE_MS - 400) == []
    assert everybody_answers(member, 1000) == ["c"]
    assert member.notices[-1] == ("c: it is better placed to lead, and leadership is offered to it")


def test_nothing_is_offered_to_a_member_that_does_not_answer() -> None:
    member = preferring(c=About(priority=5))
    assert everybody_answers(member, 5 * PATIENCE_MS, silent="c") == []


def test_nothing_is_offered_to_a_member_that_lags_behind() -> None:
    """Writes would wait until it has caught up."""
    hasty = replace(SETTINGS, prefer_after_ns=300 * MS)
    configuration = Configuration(frozenset("abc"), about={"c": About(priority=5)})
    member = Member(configuration=configuration, settings=hasty).leads().all_accept()
    member.proposes(b"x")
    session = member.state.progress["b"].session
    member.hears("b", AppendReply(1, session, True, 2, 0, 0, member.now_ns))
    assert member.state.progress["c"].match < member.state.commit
    everybody_answers(member, 900)
    assert not member.state.transfer_target
    assert not member.notices


def test_a_leader_that_is_far_from_its_quorum_hands_over_to_one_that_is_near() -> None:
    member = preferring()
    member.raft.place("b", 10 * MS)
    member.raft.place("c", 60 * MS)
    assert everybody_answers(member, PATIENCE_MS + 600, delay_ms=80) == ["b"]


def test_a_leader_that_is_near_enough_keeps_office() -> None:
    member = preferring()
    member.raft.place("b", 10 * MS)
    assert everybody_answers(member, 2 * PATIENCE_MS, delay_ms=12) == []
    assert 11 * MS < member.state.progress["b"].round_trip_ns < 13 * MS


def test_an_offer_in_vain_is_repeated_after_twice_the_time() -> None:
    member = preferring(c=About(priority=5))
    offers = [bool(everybody_answers(member, 1000)) for _ in range(80)]
    seconds = [second for second, offered in enumerate(offers) if offered]
    pauses = [later - earlier for earlier, later in pairwise(seconds)]
    assert pauses[0] >= 2 * PATIENCE_MS / 1000
    assert pauses[1] >= 2 * pauses[0] - 2


def test_leadership_moves_back_once_and_stays() -> None:
    group = Cluster("abc", settings=PREFERRING)
    group.elect("a")
    group.advance(300)
    group.change("a", Update("b", About(priority=9)))
    group.advance(PATIENCE_MS + 2000)
    assert group.leaders() == ["b"]
    term = group["b"].state.term
    group.crash("b")
    group.advance(5000)
    assert group.leader() in "ac"
    group.restart("b")
    group.advance(PATIENCE_MS + 3000)
    assert group.leaders() == ["b"]
    group.advance(10 * PATIENCE_MS)
    assert group.leaders() == ["b"]
    assert group["b"].state.term <= term + 3, "no election without need"


def test_a_change_under_way_is_finished_first() -> None:
    member = preferring(c=About(priority=5))
    member.changes(AddVoter("d"))  # nobody stores it
    assert everybody_answers(member, 3 * PATIENCE_MS) == []
    assert member.raft.is_leader
