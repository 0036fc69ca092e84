"""The verdict: both conditions of a split, plain sentences, and no flapping."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.evidence import Evidence, PeerEvidence
from mcpcore.raft.settings import SECOND
from mcpcore.raft.split import SplitDetector, SplitSettings, SplitState, Verdict
from mcpcore.raft.views import compare_views
from tests.raft.split_model import KINDS, Group, judge

HEALTHY, SUSPECT, REJOINING, READ_ONLY, SPLIT, INTERVENTION = SplitState


def peer(name: str, heard_s: float | None = 0.1, answered_s: float | None = 0.1, **more):
    def age(s: float | None) -> int | None:
        return None if s is None else int(s * SECOND)

    return PeerEvidence(name, heard_age_ns=age(heard_s), answered_age_ns=age(answered_s), **more)


WELL = Evidence(
    node="a",
    group="main",
    leads=False,
    leader="b",
    term=3,
    contact_age_ns=SECOND // 10,
    election_timeout_ns=5 * SECOND,
    commit=1000,
    last_index=1000,
    peers=(
        peer("b", commit=1000, last_index=1000, term=3, leader="b"),
        peer("c", commit=1000, last_index=1000, term=3, leader="b"),
    ),
)


def away(seconds: float, trails: int = 0) -> Evidence:
    """Nobody was heard for that long, and b had that many entries more."""
    return replace(
        WELL,
        contact_age_ns=int(seconds * SECOND),
        leader="" if seconds > 5 else "b",
        peers=(
            peer("b", seconds, seconds, commit=1000 + trails, term=3, leader="b"),
            peer("c", seconds, seconds, commit=1000, term=3, leader="b"),
        ),
    )


def verdict_of(evidence: Evidence) -> Verdict:
    """A detector that was well before it saw this."""
    detector = SplitDetector()
    detector.observe(WELL, 0)
    assert detector.verdict is not None
    assert detector.verdict.state is HEALTHY
    detector.observe(evidence, SECOND)
    return detector.verdict


# --- the article's two conditions ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent_s", "trails", "state"),
    [
        (15.1, 101, SPLIT),
        (15.0, 101, READ_ONLY),
        (15.1, 100, READ_ONLY),
        (600, 0, READ_ONLY),
        (10.1, 5000, READ_ONLY),
        (10.0, 5000, SUSPECT),
        (5.1, 5000, SUSPECT),
        (5.0, 0, HEALTHY),
        (0.1, 5000, HEALTHY),
    ],
)
def test_a_split_needs_an_old_heartbeat_and_missed_entries(silent_s, trails, state) -> None:
    """More than 3 election timeouts, and more than 100 entries; neither alone."""
    assert verdict_of(away(silent_s, trails)).state is state


def test_the_limits_are_settings() -> None:
    detector = SplitDetector(SplitSettings(stale_timeouts=2, commit_index_gap=10))
    detector.observe(away(10.1, 11), 0)
    assert detector.verdict.state is SPLIT


def test_a_cut_off_leader_with_entries_that_nobody_confirms_is_split() -> None:
    old = replace(
        away(16), node="b", leads=True, leader="b", last_index=1101, peers=(peer("a", 16, 16),)
    )
    verdict = verdict_of(old)
    assert verdict.state is SPLIT
    assert verdict.sentence == (
        "no quorum has answered for 16.0 s, 1 of 2 voters in reach, and our committed index 1000 "
        "trails the highest seen, 1101, by 101 entries"
    )


def test_jitter_alone_never_makes_a_split() -> None:
    detector = SplitDetector()
    for tick in range(2000):
        silent_s = 14.9 if tick % 7 == 0 else 0.2
        detector.observe(away(silent_s, 100_000), tick * SECOND)
        assert detector.verdict.state is not SPLIT


# --- the other words ----------------------------------------------------------------------------


def test_a_member_whose_operator_is_asked_waits_for_the_answer() -> None:
    asked = replace(WELL, awaiting_operator="5000 entries lie between the two sides")
    verdict = verdict_of(asked)
    assert verdict.state is INTERVENTION
    assert verdict.refusal() is not None


def test_a_leader_that_lost_a_minority_stays_healthy_and_names_the_lost() -> None:
    leading = replace(WELL, leads=True, leader="a", peers=(peer("b"), peer("c", 20, 20)))
    verdict = verdict_of(leading)
    assert verdict.state is HEALTHY
    assert "not heard lately: c" in verdict.sentence


def test_a_stalled_disk_of_our_own_is_suspect() -> None:
    assert "our own disk" in verdict_of(replace(WELL, disk_stalled_ns=6 * SECOND)).sentence


def test_an_unusual_silence_of_the_leader_is_suspect_before_the_timeout() -> None:
    silent = replace(WELL, peers=(peer("b", 2.0, phi=12.0), peer("c")))
    assert verdict_of(silent).state is SUSPECT


def test_a_claim_of_a_later_term_is_suspect() -> None:
    told = replace(WELL, peers=(peer("b"), peer("c", term=9, leader="c")))
    assert verdict_of(told).sentence == "c says that c leads term 9, we know b in term 3"


def test_who_might_lead_is_the_claim_of_the_latest_term() -> None:
    told = replace(away(20), peers=(peer("b", term=3, leader="b"), peer("c", term=9, leader="c")))
    refusal = verdict_of(told).refusal()
    assert refusal.might_lead == "c"
    assert "Try c" in str(refusal)


def test_members_that_we_hear_and_that_do_not_hear_us_are_named() -> None:
    deaf = replace(away(12), peers=(peer("b", 0.1, 12.0), peer("c", 12, 12)))
    assert "(b do not seem to hear us)" in verdict_of(deaf).sentence


def test_a_slow_judge_suspects_later() -> None:
    silent = replace(away(6), leader="b")
    assert verdict_of(silent).state is SUSPECT
    assert verdict_of(replace(silent, multiplier=2.0)).state is HEALTHY


def test_every_verdict_carries_its_numbers_beside_their_limits() -> None:
    verdict = verdict_of(away(20, 500))
    told = json.loads(json.dumps(verdict.as_dict()))
    assert told["evidence"]["contact_age_s"] == {"value": 20.0, "limit": 15.0}
    assert told["evidence"]["trails_by_entries"] == {"value": 500, "limit": 100}
    assert str(verdict).startswith("main on a: split: no leader was heard for 20.0 s")


# --- coming back --------------------------------------------------------------------------------


def rejoined(*story: tuple[float, int, int]) -> list[SplitState]:
    """States after each (seconds since contact, our commit, leader's end), a second apart."""
    detector, states = SplitDetector(SplitSettings(calm_ns=0)), []
    for at, (silent_s, commit, end) in enumerate(story):
        told = away(silent_s)
        peers = (peer("b", silent_s, commit=end, last_index=end, term=3, leader="b"),)
        detector.observe(replace(told, commit=commit, last_index=commit, peers=peers), at * SECOND)
        states.append(detector.verdict.state)
    return states


def test_a_member_that_comes_back_is_rejoining_until_it_has_caught_up() -> None:
    story = [(0.1, 1000, 1000), (16, 1000, 1000), (0.1, 1000, 9000), (0.1, 5000, 9000)]
    assert rejoined(*story, (0.1, 9000, 9000)) == [
        HEALTHY,
        READ_ONLY,
        REJOINING,
        REJOINING,
        HEALTHY,
    ]


def test_under_load_caught_up_means_a_round_shorter_than_an_election_timeout() -> None:
    """Thesis section 4.2.1: entries go on coming, so the trail alone never ends."""
    story = [(16.0, 0, 1000), (0.1, 500, 3000), (0.1, 3000, 5500)]
    assert rejoined(*story) == [SPLIT, REJOINING, HEALTHY]


def test_a_member_that_has_just_started_behind_is_rejoining() -> None:
    assert rejoined((0.1, 0, 800), (0.1, 800, 800)) == [REJOINING, HEALTHY]


def test_a_truncated_log_of_a_peer_does_not_keep_a_member_from_being_well() -> None:
    """c once told of entries that were never committed."""
    detector = SplitDetector(SplitSettings(calm_ns=0))
    detector.observe(away(20), 0)
    ghost = replace(WELL, peers=(*WELL.peers[:1], peer("c", 60, 60, last_index=7000)))
    detector.observe(ghost, SECOND)
    assert detector.verdict.state is HEALTHY


# --- no flapping --------------------------------------------------------------------------------


def test_better_news_must_last() -> None:
    detector = SplitDetector()
    detector.observe(away(20), 0)
    assert detector.observe(WELL, SECOND) is None
    assert detector.verdict.state is READ_ONLY
    assert detector.verdict.sentence.endswith("waiting whether that lasts")
    assert detector.observe(WELL, 2 * SECOND).state is HEALTHY


def test_worse_news_counts_at_once() -> None:
    detector = SplitDetector()
    detector.observe(WELL, 0)
    assert detector.observe(away(20, 500), 1).state is SPLIT


def test_a_relapse_doubles_the_patience_and_quiet_time_forgives() -> None:
    detector, now_ns, holds = SplitDetector(), 0, []
    for _ in range(9):
        detector.observe(away(20), now_ns)
        holds.append(detector.hold_ns() // SECOND)
        detector.observe(WELL, now_ns)
        now_ns += detector.hold_ns()
        detector.observe(WELL, now_ns)
    assert holds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    detector.observe(away(20), now_ns + detector.settings.relapse_memory_ns + 1)
    assert detector.hold_ns() == SECOND


severe = st.sampled_from([WELL, away(6), away(12), away(20), away(20, 500)])


@settings(deadline=None)
@given(st.lists(st.tuples(severe, st.integers(1, 2 * SECOND)), min_size=1, max_size=150))
def test_whatever_links_do_verdicts_change_rarely(story) -> None:
    detector, now_ns = SplitDetector(), 0
    for evidence, pause_ns in story:
        now_ns += pause_ns
        detector.observe(evidence, now_ns)
    seconds = now_ns / SECOND
    relapses = math.log2(seconds + 2) + seconds / 60 + 2  # patience doubles up to a minute
    assert len(detector.history) <= 10 * relapses, "each relapse may pass all five words, both ways"
    states = [verdict.state for verdict in detector.history]
    assert all(one is not other for one, other in pairwise(states))


@settings(deadline=None)
@given(st.lists(st.tuples(severe, st.integers(1, 9 * SECOND)), max_size=60))
def test_a_lasting_return_is_always_recognised(story) -> None:
    detector, now_ns = SplitDetector(), 0
    for evidence, pause_ns in story:
        now_ns += pause_ns
        detector.observe(evidence, now_ns)
    for _ in range(4):
        detector.observe(WELL, now_ns)
        now_ns += detector.hold_ns()
    detector.observe(WELL, now_ns)
    assert detector.verdict.state is HEALTHY


# --- both directions, several views -------------------------------------------------------------


def view(node: str, hears: str, state_s: float = 0.1, everybody: str = "abc") -> Verdict:
    evidence = replace(
        away(state_s),
        node=node,
        peers=tuple(
            peer(name, 0.1 if name in hears else 60.0) for name in everybody if name != node
        ),
    )
    return verdict_of(evidence)


def test_equal_views_give_no_text() -> None:
    assert compare_views([view("a", "bc"), view("b", "ac"), view("c", "ab")]) == ""


def test_an_asymmetric_cut_is_named_by_its_direction() -> None:
    text = compare_views([view("a", "bc"), view("b", "ac"), view("c", "b", 20)])
    assert "one-way: a hears c, but c does not hear a" in text
    assert "c says read_only: no leader was heard for 20.0 s" in text


def test_islands_are_named_by_their_members() -> None:
    text = compare_views([view("a", "b"), view("b", "a"), view("c", "", 20)])
    assert "islands: a, b | c" in text


def test_a_bridge_is_named() -> None:
    text = compare_views([view("a", "bc"), view("b", "a"), view("c", "a")])
    assert text == "bridge: b and c hear each other only by a"


def test_members_that_name_different_leaders_disagree() -> None:
    ours = view("a", "bc")
    theirs = verdict_of(replace(WELL, node="c", leader="c", leads=True, peers=()))
    assert "they disagree on who leads: a names b (term 3); c names c (term 3)" in compare_views(
        [ours, theirs]
    )


# --- quality over labelled seeds ----------------------------------------------------------------


def test_the_detector_is_right_on_labelled_seeds() -> None:
    scores = [judge(seed) for seed in range(100)]
    assert not [text for score in scores for text in score.wrong]
    assert sum(score.splits for score in scores) >= 10, "the seeds must hold true splits"
    assert {Group(seed).kind for seed in range(100)} == set(KINDS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_detector_is_right_on_2000_labelled_seeds() -> None:
    assert not [text for seed in range(2000) for text in judge(seed).wrong]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stale_timeouts": 1}, "stale_timeouts"),
        ({"suspect_timeouts": 0}, "suspect_timeouts"),
        ({"phi_threshold": float("nan")}, "phi_threshold"),
        ({"commit_index_gap": -1}, "commit_index_gap"),
        ({"calm_ns": 61 * SECOND}, "calm_ns"),
        ({"calm_ns": 1.5}, "calm_ns"),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(change, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        SplitSettings(**change)
