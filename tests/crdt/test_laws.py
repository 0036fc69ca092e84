"""The laws of join-semilattices with deltas, for every type alike."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.crdt import covers, decode, encode, join
from tests.crdt.history import Replicas, programs
from tests.crdt.subjects import REPLICAS, SUBJECTS, Subject

few = settings(deadline=None, max_examples=14)
every_type = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())


def states(data: st.DataObject, subject: Subject) -> list[Any]:
    """Three states of one history."""
    replicas = Replicas(subject).run(data.draw(programs(subject)))
    for view in replicas.views:
        view.state.check()
    return [view.state for view in replicas.views]


@every_type
@few
@given(data=st.data())
def test_join_is_commutative_associative_and_idempotent(data: st.DataObject, subject: Subject):
    a, b, c = states(data, subject)
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    assert join(a, type(a).bottom()) == a == join(type(a).bottom(), a)
    join(a, b).check()


@every_type
@few
@given(data=st.data())
def test_a_delta_joined_to_the_state_before_is_the_full_mutation(
    data: st.DataObject, subject: Subject
):
    replicas = Replicas(subject).run(data.draw(programs(subject)))
    who = data.draw(st.integers(0, 2))
    before = replicas.views[who].state.copy()
    delta = replicas.change(who, data.draw(subject.ops))
    after = replicas.views[who].state
    after.check()
    if delta is not None:
        assert join(before, delta) == after
        assert covers(after, before), "mutations are inflationary"
        assert encode(delta.delta(before)) == encode(delta), "the delta says nothing known"


@every_type
@few
@given(data=st.data())
def test_a_state_joins_back_from_its_decomposition_and_no_part_is_redundant_or_divisible(
    data: st.DataObject, subject: Subject
):
    """Enes et al., ICDE 2019, section 3: the unique irredundant decomposition."""
    state = states(data, subject)[0]
    bottom = type(state).bottom()
    parts = list(state.decompose())
    assert reduce(join, parts, bottom) == state
    for i, part in enumerate(parts):
        assert not part.is_bottom()
        assert [encode(p) for p in part.decompose()] == [encode(part)]
        rest = reduce(join, parts[:i] + parts[i + 1 :], bottom)
        assert rest != state


@every_type
@few
@given(data=st.data())
def test_the_delta_between_two_states_is_exactly_what_one_misses(
    data: st.DataObject, subject: Subject
):
    """Enes et al., section 4: the least state that lifts b to the join; no part of it is known."""
    a, b, _ = states(data, subject)
    missing = a.delta(b)
    assert join(b, missing) == join(a, b)
    assert covers(a, missing)
    for part in missing.decompose():
        assert not covers(b, part)
    assert (a.delta(b).is_bottom() and b.delta(a).is_bottom()) == (a == b)


@every_type
@few
@given(data=st.data())
def test_deltas_duplicated_reordered_and_lost_converge_once_repaired(
    data: st.DataObject, subject: Subject
):
    replicas = Replicas(subject)
    for who, op in data.draw(st.lists(st.tuples(st.integers(0, 2), subject.ops), max_size=10)):
        replicas.change(who, op)
        if replicas.deltas:
            arriving = st.lists(
                st.tuples(st.integers(0, 2), st.integers(0, len(replicas.deltas) - 1)), max_size=3
            )
            for taker, number in data.draw(arriving):
                view, delta = replicas.views[taker], replicas.deltas[number]
                view.state.join(delta)
                view.state.check()
    # Deltas may come without their past, so events have only their own replica's past here:
    # no specification applies, but one truth must come out.
    for giver, taker in ((0, 1), (1, 2), (2, 0), (0, 1)):
        replicas.views[taker].join(replicas.views[giver].state.delta(replicas.views[taker].state))
    final = [view.state for view in replicas.views]
    assert final[0] == final[1] == final[2]
    for delta in replicas.deltas:
        assert covers(final[0], delta)


@every_type
@few
@given(data=st.data())
def test_every_replica_answers_what_the_history_it_has_seen_demands(
    data: st.DataObject, subject: Subject
):
    replicas = Replicas(subject).run(data.draw(programs(subject, size=18)))
    for who in range(len(REPLICAS)):
        assert subject.read(replicas.views[who]) == replicas.expected(who)
    for giver, taker in ((0, 1), (1, 2), (2, 0), (0, 1)):
        replicas.meet(giver, taker)
    for view in replicas.views:
        assert subject.read(view) == replicas.everywhere()


@every_type
@few
@given(data=st.data())
def test_bytes_read_back_and_equal_states_give_equal_bytes(data: st.DataObject, subject: Subject):
    a, b, c = states(data, subject)
    assert decode(encode(a)) == a
    one, other = join(join(a, b), c), join(c, join(b, a))
    assert encode(one) == encode(other)
    assert encode(decode(encode(one))) == encode(one)


@every_type
@few
@given(data=st.data())
def test_a_state_joins_back_from_any_split_and_from_the_parts_of_its_key_range(
    data: st.DataObject, subject: Subject
):
    state = states(data, subject)[0]
    bottom = type(state).bottom()
    bytes_max = data.draw(st.integers(1, 200))
    assert reduce(join, state.split(bytes_max), bottom) == state
    cut = data.draw(st.one_of(st.binary(max_size=14), st.sampled_from([*state.atoms(), (b"", 0)])))
    middle = cut if isinstance(cut, bytes) else cut[0]
    low, high = state.part(b"", middle), state.part(middle, None)
    assert join(low, high) == state
    assert sorted(low.atoms() + high.atoms()) == state.atoms()
