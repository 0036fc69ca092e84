"""Windows that follow the links, and leases that do not depend on them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.links import LinkEstimate, Links, LinkSettings
from mcpcore.raft.settings import MILLISECOND, SECOND
from mcpcore.raft.windows import (
    AdaptiveWindows,
    Patience,
    PromiseLedger,
    WindowSettings,
)
from tests.raft.lease_model import SETTINGS, Rules, walk

DEFAULTS = WindowSettings()
NO_DRIFT = replace(DEFAULTS, drift_ppm=0)
MEMORY_NS = LinkSettings().memory_ns


def latest(stop: int) -> int:
    return stop - 1


def heartbeats(
    windows: AdaptiveWindows, delays_ms: list[float | None], member: str = "b", at_ns: int = 0
) -> int:
    """One heartbeat after the other, each answered after its round trip or (None) never."""
    now_ns = at_ns
    for delay_ms in delays_ms:
        windows.link(member).sent(now_ns)
        if delay_ms is not None:
            windows.link(member).answered(now_ns, now_ns + int(delay_ms * MILLISECOND))
        now_ns += windows.heartbeat_ns([member], now_ns) + int((delay_ms or 0) * MILLISECOND)
    return now_ns


def promise_ns(windows: AdaptiveWindows, now_ns: int, voters: str = "b") -> int:
    """The promise that the first of these other voters is asked for."""
    return windows.promises_ns(voters, voters, now_ns)[voters[0]]


# --- following the links ------------------------------------------------------------------------


def test_before_anything_is_known_the_window_is_the_ceiling() -> None:
    assert promise_ns(AdaptiveWindows(DEFAULTS), 0) == DEFAULTS.election_ceiling_ns


def test_a_calm_near_link_gives_the_floor() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [1.0] * 50)
    assert promise_ns(windows, now_ns) == DEFAULTS.election_floor_ns
    assert windows.heartbeat_ns("b", now_ns) == DEFAULTS.heartbeat_floor_ns


def test_a_far_link_gets_room_for_an_election() -> None:
    """etcd's tuning guide asks for ten round trips; three suffice where a rival's draw is spread
    over a whole window."""
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [300.0] * 100)
    assert promise_ns(windows, now_ns) >= 3 * 300 * MILLISECOND


def test_a_lone_spike_at_most_doubles_the_spread() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [100.0, 180.0] * 50)
    before_ns = windows.link("b").spread_ns(now_ns)
    now_ns = heartbeats(windows, [4000.0], at_ns=now_ns)
    assert windows.link("b").spread_ns(now_ns) <= 2 * before_ns + MILLISECOND


def test_a_second_spike_is_believed_as_far_as_the_first_one_went() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [100.0] * 50 + [2000.0] + [100.0] * 50 + [1500.0])
    assert windows.link("b").spread_ns(now_ns) >= 1300 * MILLISECOND


def test_a_change_of_the_link_is_followed_within_a_handful_of_samples() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [100.0] * 50)
    now_ns = heartbeats(windows, [1500.0] * 8, at_ns=now_ns)
    assert promise_ns(windows, now_ns) >= 1400 * MILLISECOND


def test_what_is_over_is_forgotten_after_the_memory() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [10.0, 2000.0, 10.0, 3000.0] * 5 + [10.0] * 100)
    assert promise_ns(windows, now_ns) > 1000 * MILLISECOND
    later_ns = heartbeats(windows, [10.0] * 200, at_ns=now_ns + MEMORY_NS)
    assert promise_ns(windows, later_ns) == DEFAULTS.election_floor_ns


def test_a_window_outlasts_the_longest_run_of_losses_seen_lately() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [1.0] * 30 + [None] * 5 + [1.0] * 3)
    assert windows.link("b").losses(now_ns) == 6
    assert promise_ns(windows, now_ns) >= 7 * windows.heartbeat_ns("b", now_ns)


def test_a_lossy_link_gets_a_longer_window_than_a_clean_one() -> None:
    rng = random.Random(5)
    clean, lossy = AdaptiveWindows(DEFAULTS), AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(clean, [20.0] * 1000)
    after_ns = heartbeats(lossy, [None if rng.random() < 0.1 else 20.0 for _ in range(1000)])
    assert promise_ns(lossy, after_ns) > promise_ns(clean, now_ns)


def test_the_smoothing_is_that_of_rfc_6298() -> None:
    """Section 2: first R and R/2, then beta = 1/4 on the deviation before alpha = 1/8."""
    link = LinkEstimate()
    link.answered(0, 800)
    assert (link.round_trip_ns, link.deviation_ns) == (800, 400)
    link.answered(1000, 1000 + 1600)
    assert (link.round_trip_ns, link.deviation_ns) == (900, 500)


def among(**round_trips_ms: float) -> dict[str, int]:
    """Promises to members with these round trips, in milliseconds."""
    windows, now_ns = AdaptiveWindows(DEFAULTS), 0
    for member, round_trip_ms in round_trips_ms.items():
        now_ns = heartbeats(windows, [round_trip_ms] * 60, member, now_ns)
    promises = windows.promises_ns(round_trips_ms, tuple(round_trips_ms), now_ns)
    return {name: promises[name] // MILLISECOND for name in round_trips_ms}


def test_one_bad_member_of_five_does_not_slow_the_others() -> None:
    promises = among(b=10.0, c=10.0, d=10.0, edge=1500.0)
    assert promises["b"] == promises["d"] == 500
    assert promises["edge"] > 4000


def test_nobody_doubts_before_enough_promises_have_run_out_to_elect_another() -> None:
    """Of three, both others are needed; of five, three of the other four."""
    assert len(set(among(b=10.0, c=700.0).values())) == 1
    promises = among(b=10.0, c=10.0, d=700.0, e=1500.0)
    assert promises["b"] == promises["c"] == promises["d"] < promises["e"]


def test_a_link_that_has_not_answered_for_the_memory_is_not_known_any_more() -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, [1.0] * 9)
    assert promise_ns(windows, now_ns) == DEFAULTS.election_floor_ns
    assert promise_ns(windows, now_ns + MEMORY_NS) == DEFAULTS.election_ceiling_ns


def test_groups_whose_heartbeats_leave_at_one_moment_measure_the_link_once() -> None:
    link, alone = LinkEstimate(), LinkEstimate()
    for number in range(20):
        at_ns = number * 100 * MILLISECOND
        alone.sent(at_ns)
        alone.answered(at_ns, at_ns + 10 * MILLISECOND)
        for _ in range(300):
            link.sent(at_ns)
        for group in range(300):
            link.answered(at_ns, at_ns + 10 * MILLISECOND + group)
    assert repr(link) == repr(alone)
    assert link.losses(2 * SECOND) == 2


def test_heartbeat_intervals_are_the_floor_doubled_so_that_they_fall_on_the_same_moments() -> None:
    for round_trip_ms, beat_ms in ((1, 100), (300, 100), (450, 200), (900, 400), (1700, 800)):
        windows = AdaptiveWindows(DEFAULTS)
        now_ns = heartbeats(windows, [float(round_trip_ms)] * 40)
        assert windows.heartbeat_ns("b", now_ns) == beat_ms * MILLISECOND


def test_the_farthest_voter_is_known_only_if_all_are() -> None:
    links = Links()
    links.round_trips_ns = {"b": 10, "c": 30, "edge": 90}
    assert links.farthest_ns(frozenset("abc"), "a") == 30
    assert links.farthest_ns(frozenset("abcd"), "a") == 0
    assert links.farthest_ns(frozenset("a"), "a") == 0


def test_an_answer_before_its_question_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot come"):
        LinkEstimate().answered(10, 9)


round_trips = st.lists(st.none() | st.floats(0, 20_000), max_size=60)


@settings(deadline=None)
@given(round_trips)
def test_windows_stay_within_their_bounds_whatever_the_links_do(delays_ms) -> None:
    windows = AdaptiveWindows(DEFAULTS)
    now_ns = heartbeats(windows, delays_ms)
    window_ns, beat_ns = promise_ns(windows, now_ns), windows.heartbeat_ns("b", now_ns)
    assert DEFAULTS.election_floor_ns <= window_ns <= DEFAULTS.election_ceiling_ns
    assert DEFAULTS.heartbeat_floor_ns <= beat_ns <= DEFAULTS.heartbeat_ceiling_ns
    assert 2 * beat_ns <= window_ns, "a window always outlasts a lost heartbeat"


# --- counting on promises -----------------------------------------------------------------------


def test_the_lease_counts_each_message_with_the_promise_that_it_carried() -> None:
    ledger = PromiseLedger(NO_DRIFT, 100, 1000)
    ledger.change(200, 50)
    ledger.change(300, 2000)
    ledger.answered(250)
    assert ledger.counted_until_ns == 300, "sent at 250, while the promise was 50"


def test_a_lease_ends_before_office_by_what_clocks_may_drift() -> None:
    ledger = PromiseLedger(replace(DEFAULTS, drift_ppm=100_000), 1, 1000)
    ledger.answered(1)
    assert (ledger.counted_until_ns, ledger.office_until_ns) == (801, 2001)
    ledger = PromiseLedger(DEFAULTS, 1, DEFAULTS.election_ceiling_ns)
    ledger.answered(1)
    assert ledger.office_until_ns == 1 + DEFAULTS.election_ceiling_ns


def test_a_shorter_promise_takes_nothing_back() -> None:
    ledger = PromiseLedger(NO_DRIFT, 1, 5000)
    ledger.answered(1)
    ledger.change(10, 100)
    ledger.answered(10)
    assert ledger.counted_until_ns == 5001
    patience = Patience(DEFAULTS, 0, newborn=True)
    patience.heard(4 * SECOND, 0)
    patience.heard(1 * SECOND, 1)
    assert not patience.may_help(4 * SECOND - 1)


def test_a_restarted_member_promises_the_ceiling_since_it_does_not_know() -> None:
    patience = Patience(DEFAULTS, 7 * SECOND)
    assert not patience.may_help(7 * SECOND + DEFAULTS.election_ceiling_ns - 1)
    assert patience.may_help(7 * SECOND + DEFAULTS.election_ceiling_ns)


def test_a_promise_beyond_the_ceiling_is_not_vouched_for() -> None:
    """It would not survive a restart, so nobody may count on it."""
    patience = Patience(DEFAULTS, 0)
    assert not patience.vouches(DEFAULTS.election_ceiling_ns + 1)
    assert patience.vouches(DEFAULTS.election_ceiling_ns)


def test_a_member_never_stands_before_its_promise_has_run_out() -> None:
    patience = Patience(DEFAULTS, 0)
    patience.heard(600 * MILLISECOND, 0)
    assert patience.deadline_ns(0, lambda stop: 0) == DEFAULTS.election_ceiling_ns


def test_a_slow_judge_waits_longer_and_never_shorter() -> None:
    patience = Patience(DEFAULTS, 0, newborn=True)
    patience.heard(600 * MILLISECOND, 0)
    assert patience.deadline_ns(0, lambda stop: 0, multiplier=3.0) == 1800 * MILLISECOND
    assert patience.deadline_ns(0, lambda stop: 0, multiplier=0.1) == 600 * MILLISECOND


def test_a_refuted_suspicion_is_a_lesson_for_a_while() -> None:
    patience = Patience(DEFAULTS, 0, newborn=True)
    patience.heard(SECOND, 0)
    patience.doubted(0)
    patience.heard(SECOND, 2 * SECOND)
    assert patience.deadline_ns(2 * SECOND, lambda stop: 0) == 6 * SECOND
    assert patience.promise_until_ns == 3 * SECOND, "nobody asked for a longer promise"
    later_ns = 2 * SECOND + MEMORY_NS
    patience.heard(SECOND, later_ns)
    assert patience.deadline_ns(later_ns, lambda stop: 0) == later_ns + SECOND


def test_a_suspicion_that_led_to_another_term_was_no_mistake() -> None:
    patience = Patience(DEFAULTS, 0, newborn=True)
    patience.heard(SECOND, 0, term=1)
    patience.doubted(1)
    patience.heard(SECOND, 2 * SECOND, term=2)
    assert patience.deadline_ns(2 * SECOND, lambda stop: 0) == 3 * SECOND


def test_attempts_that_fail_become_more_patient_up_to_the_ceiling() -> None:
    """The windows may be too short for the links among those who are left."""
    patience, waits_ms = Patience(DEFAULTS, 0, newborn=True), []
    patience.heard(600 * MILLISECOND, 0)
    for _ in range(6):
        patience.stood()
        waits_ms.append(patience.deadline_ns(SECOND, lambda stop: 0) // MILLISECOND - 1000)
    assert waits_ms == [600, 1200, 2400, 4800, 5000, 5000]
    patience.heard(600 * MILLISECOND, SECOND)
    assert patience.deadline_ns(SECOND, lambda stop: 0) == 1600 * MILLISECOND


def test_timers_are_drawn_from_as_much_as_an_election_needs() -> None:
    """Section 5.2, without losing a whole window where the members are near each other."""
    patience = Patience(DEFAULTS, 0, newborn=True)
    patience.heard(2 * SECOND, 0)
    assert patience.deadline_ns(0, latest) == 4 * SECOND - 1
    assert patience.deadline_ns(0, latest, round_trip_ns=50 * MILLISECOND) == 2300 * MILLISECOND - 1
    assert patience.deadline_ns(0, latest, round_trip_ns=9 * SECOND) == 4 * SECOND - 1


instants = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=12)


@settings(deadline=None)
@given(instants)
def test_messages_of_one_instant_count_the_least_promise_that_any_of_them_carried(story) -> None:
    """They cannot be told apart when the answer comes."""
    story = sorted(story, key=lambda change: change[0])
    ledger = PromiseLedger(NO_DRIFT, 0, 9)
    carried: dict[int, list[int]] = {}
    for at_ns, promise in story:
        carried.setdefault(at_ns, []).append(ledger.promise_ns)  # sent just before the change
        ledger.change(at_ns, promise)
        carried[at_ns].append(promise)
    for at_ns, promises in carried.items():
        ledger.counted_until_ns = 0
        ledger.answered(at_ns)
        assert ledger.counted_until_ns == at_ns + min(promises)
    ledger.answered(7)
    assert ledger.counted_until_ns == 7 + ledger.promise_ns


def test_an_answer_to_something_forgotten_counts_for_nothing() -> None:
    ledger = PromiseLedger(DEFAULTS, 1, 7)
    for at_ns in range(2, 400, 2):
        ledger.change(at_ns, 1000 - at_ns)
    ledger.answered(2)
    ledger.answered(0)
    assert ledger.counted_until_ns == 0


def test_no_two_leaders_ever_hold_a_lease_at_once() -> None:
    """Thesis section 6.4.1, with windows that jump within their bounds at every heartbeat."""
    leases = 0
    for seed in range(400):
        one, several = walk(seed)
        assert not several, f"seed {seed}"
        leases += one
    assert leases > 2000, "the adversary must let leaders have leases, or it proves nothing"


@settings(deadline=None, max_examples=60)
@given(st.integers(1000, 1 << 32))
def test_no_seed_gives_two_leases(seed) -> None:
    assert walk(seed)[1] == 0


class PromiseInForce(PromiseLedger):
    """Counts every answer with the promise in force now."""

    def answered(self, sent_ns: int) -> None:
        until_ns = sent_ns + self._settings.counted_ns(self.promise_ns)
        self.counted_until_ns = max(self.counted_until_ns, until_ns)


class ShorteningPatience(Patience):
    """Lets a shorter promise take back a longer one."""

    def heard(self, promise_ns: int, now_ns: int, term: int = 0) -> None:
        super().heard(promise_ns, now_ns, term)
        self.promise_until_ns = now_ns + promise_ns


@pytest.mark.parametrize(
    "broken",
    [
        Rules(ledger=PromiseInForce),
        Rules(patience=ShorteningPatience),
        Rules(newborn_on_restart=True),
        Rules(answers_everything=True),
        Rules(settings=replace(SETTINGS, drift_ppm=0)),
    ],
    ids=["promise in force now", "shortened", "restart forgets", "beyond the ceiling", "no drift"],
)
def test_every_rule_of_the_lease_is_needed(broken: Rules) -> None:
    assert any(walk(seed, broken)[1] for seed in range(3000)), "the adversary found no harm"


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heartbeat_floor_ns": 0}, "heartbeat_floor_ns"),
        ({"heartbeat_floor_ns": 300 * MILLISECOND}, "heartbeat_floor_ns"),
        ({"election_floor_ns": 6 * SECOND}, "election_floor_ns"),
        ({"drift_ppm": 500_000}, "drift_ppm"),
        ({"election_ceiling_ns": "5s"}, "election_ceiling_ns"),
    ],
)
def test_bounds_that_make_no_sense_are_refused_by_name(change, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        WindowSettings(**change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"losses_floor": 0}, "losses_floor"),
        ({"losses_floor": 9}, "losses_floor"),
        ({"memory_ns": 0}, "memory_ns"),
        ({"deviations": 1.5}, "deviations"),
    ],
)
def test_rules_for_links_that_make_no_sense_are_refused_by_name(change, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        LinkSettings(**change)
