"""Replicas whose state differs are found, and nobody is presumed right."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.divergence import INDEXES_KEPT, WANTED_MAX, StateWatch

GOOD, BAD, UGLY = b"good" * 4, b"bad." * 4, b"ugly" * 4
THREE = frozenset("abc")


def told(watch: StateWatch, index: int, voters: frozenset[str] = THREE, **claims: bytes) -> bool:
    """Hear claims at one index, ours included, and judge after each. Whether a verdict changed."""
    changed = False
    for member, digest in claims.items():
        if member == "a":
            watch.mark(index, digest)
        else:
            watch.hear(member, index, digest, applied=index - 1 if "a" in claims else index)
        changed = watch.judge(index, voters, voters) or changed
    return changed


def test_equal_digests_raise_no_doubt() -> None:
    watch = StateWatch("a")
    assert not told(watch, 10, a=GOOD, b=GOOD, c=GOOD)
    assert watch.divergence is None
    assert watch.doubt == ""


def test_the_odd_one_out_is_named_with_the_window_in_which_it_went_astray() -> None:
    watch = StateWatch("a")
    told(watch, 10, a=GOOD, b=GOOD, c=GOOD)
    told(watch, 20, a=GOOD, b=GOOD, c=BAD)
    found = watch.divergence
    assert found is not None
    assert (found.last_equal, found.first_unequal, found.odd) == (10, 20, ("c",))
    assert watch.doubt == ""
    assert "c differs from the majority: equal at index 10, different at 20" in str(found)


def test_whoever_is_odd_itself_doubts_itself_though_it_may_lead() -> None:
    """etcd #13766, #14849: a replica whose state diverged is believed because it leads."""
    watch = StateWatch("a")
    told(watch, 20, b=GOOD, c=GOOD, a=BAD)
    assert "a differs from the majority" in watch.doubt


def test_of_two_that_differ_neither_is_presumed_right() -> None:
    watch = StateWatch("a")
    two = frozenset("ab")
    told(watch, 20, two, a=GOOD, b=BAD)
    assert watch.divergence is not None
    assert watch.divergence.odd == ()
    assert "no majority holds one state" in watch.doubt


def test_three_different_states_leave_nobody_in_service() -> None:
    watch = StateWatch("a")
    told(watch, 20, a=GOOD, b=BAD, c=UGLY)
    assert "a, b, c differ, and no majority holds one state" in watch.doubt


def test_the_third_voice_ends_the_doubt_of_the_first() -> None:
    watch = StateWatch("a")
    told(watch, 20, a=GOOD, b=BAD)
    assert watch.doubt
    told(watch, 20, c=GOOD)
    assert not watch.doubt
    assert watch.divergence is not None
    assert watch.divergence.odd == ("b",)


def test_half_a_picture_does_not_take_the_majority_out_of_service_again() -> None:
    watch = StateWatch("a")
    told(watch, 20, a=GOOD, b=BAD, c=GOOD)
    told(watch, 30, a=UGLY, b=BAD)
    assert not watch.doubt, "c has not spoken at 30 yet"
    told(watch, 30, c=UGLY)
    assert watch.divergence is not None
    assert (watch.divergence.first_unequal, watch.divergence.odd) == (20, ("b",))


def test_a_learner_has_no_voice_in_what_stands_but_is_judged() -> None:
    watch = StateWatch("a")
    voters, members = frozenset("ab"), frozenset("abxyz")
    for member, digest in {"b": GOOD, "x": BAD, "y": BAD, "z": BAD}.items():
        watch.hear(member, 20, digest, applied=19)
    watch.mark(20, GOOD)
    watch.judge(20, voters, members)
    assert watch.divergence is not None
    assert watch.divergence.odd == ("x", "y", "z")


def test_agreement_of_all_who_differed_ends_the_matter() -> None:
    watch = StateWatch("a")
    told(watch, 20, a=GOOD, b=GOOD, c=BAD)
    assert not told(watch, 30, a=GOOD, b=GOOD), "c has not spoken: nothing is over"
    assert told(watch, 30, c=GOOD)
    assert watch.divergence is None


def test_removing_the_odd_one_ends_the_matter_too() -> None:
    watch = StateWatch("a")
    told(watch, 20, a=GOOD, b=GOOD, c=BAD)
    told(watch, 30, frozenset("ab"), a=GOOD, b=GOOD)
    assert watch.divergence is None


def test_of_two_that_differ_the_one_that_stays_is_believed_when_the_other_is_removed() -> None:
    """An operator has said who is right."""
    watch = StateWatch("a")
    two = frozenset("ab")
    told(watch, 20, two, a=GOOD, b=BAD)
    assert not watch.without(two)
    assert watch.without({"a"})
    assert watch.doubt == ""


def test_an_old_difference_that_was_overcome_is_no_news() -> None:
    """Claims come late, over links of any speed."""
    watch = StateWatch("a")
    watch.mark(20, GOOD)
    told(watch, 30, a=GOOD, b=GOOD, c=GOOD)
    watch.hear("b", 20, BAD, applied=30)
    assert not watch.judge(20, THREE, THREE)
    assert watch.divergence is None


def test_replicas_meet_at_multiples_and_where_somebody_wants_to() -> None:
    watch = StateWatch("a", every=100, applied=130)
    assert watch.next == 200
    watch.want(150)
    assert watch.next == 150
    watch.mark(150, GOOD)
    assert watch.next == 200
    assert watch.hear("b", 170, GOOD, applied=150)
    assert watch.next == 170, "what lies ahead of us is compared on the way past"
    assert not watch.hear("b", 140, GOOD, applied=150), "what lies behind unmarked cannot be"


def test_claims_take_bounded_room_whatever_a_peer_says() -> None:
    watch = StateWatch("a")
    for index in range(1, 1000):
        watch.hear("b", index, GOOD, applied=0)
        watch.mark(index * 5000, GOOD)
    assert len(watch._claims) <= INDEXES_KEPT
    assert len(watch._wanted) <= WANTED_MAX


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(1, 6), st.sampled_from([GOOD, BAD, UGLY])),
        max_size=60,
    )
)
@settings(deadline=None)
def test_all_who_heard_the_same_of_the_latest_index_say_the_same_of_each_other(claims) -> None:
    """Whatever came before: at an index of which everybody told everybody, verdicts agree, and
    nobody serves whom a majority of voters contradicts."""
    five = frozenset("abcde")
    watches = {name: StateWatch(name) for name in five}
    last = dict.fromkeys(five, GOOD)
    for member, index, digest in claims:
        last[member] = digest
        for name, watch in watches.items():
            if name == member:
                watch.mark(index, digest)
            else:
                watch.hear(member, index, digest, applied=index)
            watch.judge(index, five, five)
    for member, digest in last.items():
        for name, watch in watches.items():
            if name == member:
                watch.mark(7, digest)
            else:
                watch.hear(member, 7, digest, applied=6)
    for watch in watches.values():
        watch.judge(7, five, five)
    verdicts = {
        (w.divergence.odd, tuple(w.divergence.digests.items())) if w.divergence else None
        for w in watches.values()
    }
    assert len(verdicts) == 1
    best = max(set(last.values()), key=list(last.values()).count)
    settled = 2 * list(last.values()).count(best) > 5
    for name, watch in watches.items():
        if len(set(last.values())) == 1:
            assert not watch.doubt
        else:
            assert bool(watch.doubt) == (not settled or last[name] != best)
