"""Failures that others shipped, each as a sentence that must be false here."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Reading, Timestamp
from mcpcore.crdt import (
    AWSet,
    Causal,
    CausalContext,
    Counter,
    DWFlag,
    GCounter,
    GSet,
    LWWRegister,
    Map,
    MinScalar,
    MVRegister,
    RWSet,
    collect,
    join,
    replica_id,
    stable_context,
)
from mcpcore.crdt.anti_entropy import AntiEntropy
from mcpcore.crdt.messages import Delta, encode_message
from mcpcore.errors import DeltaRefused, InvalidInput
from tests.crdt.history import Replicas, programs
from tests.crdt.subjects import SUBJECTS

S = 1_000_000_000


# --- last writer wins, under clock skew ---------------------------------------------------------


def test_last_writer_wins_does_not_lose_the_newer_write_when_its_writer_had_seen_the_older():
    """The writer's clock is an hour behind; it saw the value it overwrites all the same."""
    register = LWWRegister()
    register.set("fast/1", "old", Timestamp.of(3600 * S))
    other = register.copy()
    other.set("slow/1", "new", Timestamp.of(0))
    register.join(other)
    assert register.value() == "new"
    assert register.conflicts() == []


def test_last_writer_wins_keeps_and_reports_the_loser_when_the_clocks_cannot_tell():
    a, b = LWWRegister(), LWWRegister()
    a.set("a/1", "from a", Reading(Timestamp.of(10 * S), 3 * S))
    b.set("b/1", "from b", Reading(Timestamp.of(12 * S), 1 * S))
    a.join(b)
    assert a.value() == "from b"
    assert [(w.value, w.replica) for w in a.conflicts()] == [("from a", "a/1")]
    a.set("a/1", "resolved", Reading(Timestamp.of(13 * S), S))
    assert a.conflicts() == []


def test_a_concurrent_write_that_was_surely_earlier_is_no_conflict():
    a, b = LWWRegister(), LWWRegister()
    a.set("a/1", "from a", Reading(Timestamp.of(10 * S), 1))
    b.set("b/1", "from b", Reading(Timestamp.of(10 * S + 3), 1))
    a.join(b)
    assert a.conflicts() == []
    assert len(a.writes()) == 2


def test_a_write_stamped_next_year_is_refused_before_it_can_win_until_then():
    ours, theirs = LWWRegister(), LWWRegister()
    ours.set("a/1", "now", Timestamp.of(100 * S))
    delta = theirs.set("b/1", "next year", Timestamp.of(31_536_000 * S))
    engine = AntiEntropy("a/1", ours.state, peers=["b"])
    with pytest.raises(DeltaRefused, match="beyond the limit"):
        engine.receive("b", encode_message(Delta(1, 1, 1, delta)), 1, wall_ns=100 * S)
    assert ours.value() == "now"
    assert engine.receive("b", encode_message(Delta(1, 1, 1, delta)), 1, wall_ns=31_536_000 * S)


# --- tombstones collected too early -------------------------------------------------------------


def test_tombstones_collected_too_early_resurrect_so_they_stay_until_causally_stable():
    a, b = RWSet(), RWSet()
    a.join(b.add("b/1", "x"))
    late_add = b.copy().add("c/1", "x")  # concurrent with the removal, still under way
    b.join(a.remove("a/1", "x"))

    told = {"b": b.state.context.copy()}
    assert not stable_context(a.state.context, ["b", "c"], told), "nobody has heard of c"
    assert collect(a.state, stable_context(a.state.context, ["b", "c"], told)).is_bottom()
    a.join(late_add)
    assert "x" not in a, "the removal wins"

    ahead = CausalContext([*a.state.context, ("c/1", 2)])
    told |= {"b": a.state.context.copy(), "c": ahead}
    assert not stable_context(a.state.context, ["b", "c"], told), (
        "c is ahead: it may hold additions"
    )
    told["c"] = a.state.context.copy()
    collect(a.state, stable_context(a.state.context, ["b", "c"], told))
    assert a.state.entries == {}, "now nothing is left of it"
    a.join(late_add)
    assert "x" not in a


def test_a_removal_from_an_add_wins_set_leaves_no_tombstone():
    view = AWSet()
    for i in range(100):
        view.add("a/1", i)
        view.remove("a/1", i)
    assert view.state.entries == {}
    assert list(view.state.context.runs()) == [("a/1", 1, 101)]
    view.state.check()


def test_a_flag_disabled_for_good_leaves_nothing_once_stable():
    flag = DWFlag()
    flag.enable("a/1")
    flag.disable("a/1")
    assert len(flag.state.entries) == 1
    collect(flag.state, flag.state.context)
    assert flag.state.entries == {}
    assert flag.value() is False


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(["RWSet", "DWFlag", "Counter", "Map"]))
def test_collecting_at_causal_stability_never_changes_an_answer(data, name):
    """Two histories side by side; one of them collects at every meeting."""
    subject = SUBJECTS[name]
    plain, collecting = Replicas(subject), Replicas(subject)
    told: list[dict[str, CausalContext]] = [{} for _ in range(3)]
    for step in data.draw(programs(subject, size=22)):
        for replicas in (plain, collecting):
            if step[0] == "change":
                replicas.change(step[1], step[2])
            elif step[1] != step[2]:
                replicas.meet(step[1], step[2])
        if step[0] == "meet" and step[1] != step[2]:
            giver, taker = step[1], step[2]
            told[taker][str(giver)] = collecting.views[giver].state.context.copy()
            state = collecting.views[taker].state
            members = [str(i) for i in range(3) if i != taker]
            collect(state, stable_context(state.context, members, told[taker]))
            state.check()
        for one, other in zip(plain.views, collecting.views, strict=True):
            assert subject.read(one) == subject.read(other)


# --- gaps ---------------------------------------------------------------------------------------


def test_a_delta_applied_with_a_gap_does_not_corrupt_the_causal_context():
    source, target = AWSet(), AWSet()
    first, second, third = (source.add("a/1", x) for x in "xyz")
    target.join(third)
    target.join(first)
    assert target.state.context.vector() == {"a/1": 1}
    assert target.state.context.cloud() == {("a/1", 3)}
    assert target.elements() == {"x", "z"}, "y is not believed seen and removed"
    target.join(second)
    assert target.elements() == {"x", "y", "z"}
    assert target.state.context.cloud() == set(), "the cloud has melted into the vector"


def test_a_removal_that_arrives_before_its_addition_still_removes_it():
    source, target = AWSet(), AWSet()
    added = source.add("a/1", "x")
    removed = source.remove("a/1", "x")
    target.join(removed)
    target.join(added)
    assert "x" not in target


def test_a_delta_erases_nothing_that_its_receiver_alone_has():
    ours, theirs = AWSet(), AWSet()
    ours.add("a/1", "mine")
    for i in range(50):
        theirs.add("b/1", i)
    ours.join(theirs.remove("b/1", 7))
    assert "mine" in ours


# --- maps ---------------------------------------------------------------------------------------


def test_a_map_reset_does_not_revive_children():
    document, other = Map(), Map()
    child = document.at("tenant", Map).at("members", AWSet)
    child.add("a/1", "ann")
    other.join(document)
    late = document.copy()
    other.remove("b/1", "tenant")
    document.join(other)
    assert "tenant" not in document
    document.at("tenant", Map).at("members", AWSet).add("a/1", "bob")
    document.join(late)
    assert child.elements() == {"bob"}, "ann does not come back with the key"


def test_a_concurrent_change_below_survives_the_reset_of_its_map_alone():
    a = Map()
    a.at("k", AWSet).add("a/1", "old")
    b = a.copy()
    a.remove("a/1", "k")
    b.at("k", AWSet).add("b/1", "new")
    a.join(b)
    assert a.at("k", AWSet).elements() == {"new"}


def test_a_key_of_two_types_at_once_keeps_both_and_removing_it_removes_both():
    a, b = Map(), Map()
    a.at("k", MVRegister).set("a/1", 1)
    b.at("k", AWSet).add("b/1", 2)
    a.join(b)
    assert a.kinds("k") == ["aw", "mv"]
    assert a.keys() == ["k"]
    a.remove("a/1", "k")
    assert a.keys() == []
    assert a.state.entries == {}


def test_a_map_refuses_a_type_that_cannot_be_reset():
    with pytest.raises(InvalidInput, match="Counter for GCounter"):
        Map().at("k", GCounter)  # type: ignore[type-var]


# --- counters -----------------------------------------------------------------------------------


def test_an_increment_concurrent_with_a_reset_counts_itself_and_nothing_that_was_reset():
    """riak_dt #98: the old total came back with the increment, or the increment was lost."""
    a = Counter()
    a.increment("a/1", 5)
    b = a.copy()
    b.reset("b/1")
    a.increment("a/1", 1)
    assert Counter(join(a.state, b.state)).value() == 1


def test_a_counter_in_a_removed_map_starts_anew_and_leaves_nothing_once_stable():
    document = Map()
    for _ in range(20):
        document.at("hits", Counter).increment("a/1")
        document.remove("a/1", "hits")
    assert document.keys() == []
    assert len(document.state.entries) == 1, "one base, however often it was reset"
    document.at("hits", Counter).increment("a/1", 3)
    assert document.at("hits", Counter).value() == 3
    document.remove("a/1", "hits")
    collect(document.state, document.state.context)
    assert document.state.entries == {}


def test_resets_on_both_sides_of_a_partition_remove_each_increment_once():
    a = Counter()
    a.increment("a/1", 5)
    b, c = a.copy(), a.copy()
    b.increment("b/1", 7)
    b.reset("b/1")
    c.reset("c/1")
    a.increment("a/1", 2)
    both = Counter(join(join(a.state, b.state), c.state))
    assert both.value() == 2
    both.reset("c/1")
    assert both.value() == 0


def test_a_counter_does_not_double_or_lose_after_a_restart_with_a_new_incarnation():
    peers = GCounter()
    first = GCounter()
    for _ in range(3):
        peers.join(first.increment(replica_id("a", 1)))
    wiped = GCounter()  # nothing is left on the disk
    wiped.increment(replica_id("a", 2))
    peers.join(wiped)
    assert peers.value() == 4
    wiped.join(peers)
    wiped.join(first)
    assert wiped.value() == 4


def test_a_wiped_replica_with_a_new_incarnation_is_never_taken_for_its_former_self():
    peer = AWSet()
    first = AWSet()
    peer.join(first.add(replica_id("a", 1), "kept"))
    wiped = AWSet()
    peer.join(wiped.add(replica_id("a", 2), "new"))
    assert peer.elements() == {"kept", "new"}
    # The same life again would have been dropped as an event long seen:
    peer.join(AWSet().add(replica_id("a", 1), "lost"))
    assert "lost" not in peer


def test_a_counter_keeps_one_entry_for_each_replica_however_often_it_counts():
    counter = Counter()
    for i in range(100):
        counter.add(("a/1", "b/1")[i % 2], 1)
    assert counter.value() == 100
    assert len(counter.state.entries) == 2


# --- values -------------------------------------------------------------------------------------


def test_true_and_one_and_one_point_zero_are_three_elements_in_whatever_order_they_meet():
    one, other = GSet(), GSet()
    for value in (1, True, 1.0):
        one.add(value)
    for value in (1.0, True, 1):
        other.add(value)
    assert len(one) == 3
    assert one.state == other.state
    assert [type(value) for value in one] == [int, bool, float]


@pytest.mark.parametrize(
    "value", [float("nan"), {1: 2}, {3}, 1 << 70, "\ud800", object(), [[]] * 1 + [{}]]
)
def test_what_has_no_canonical_bytes_is_refused(value):
    view, state = AWSet(), Causal()
    with pytest.raises(InvalidInput):
        view.add("a/1", value)
    assert view.state == state


def test_a_bound_is_not_forgotten_when_a_concurrent_reset_takes_the_tighter_one():
    a = Map()
    a.at("limit", MinScalar).tighten("a/1", 3)
    b = a.copy()
    b.remove("b/1", "limit")
    a.at("limit", MinScalar).tighten("a/1", 5)
    a.join(b)
    assert a.at("limit", MinScalar).value() == 5
