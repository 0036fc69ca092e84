"""Causal contexts against a plain set of dots."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.crdt import CausalContext, replica_id
from mcpcore.errors import InvalidInput

dots = st.frozensets(st.tuples(st.sampled_from("ab"), st.integers(1, 12)), max_size=16)
law = settings(deadline=None, max_examples=80)


@law
@given(dots, dots)
def test_a_context_is_a_set_of_dots(a, b):
    x, y = CausalContext(a), CausalContext(b)
    both = x.copy()
    both.join(y)
    for context, model in [(x, a), (both, a | b), (x.minus(y), a - b), (x.meet(y), a & b)]:
        context.check()
        assert set(context) == model
        assert len(context) == len(model)
        assert bool(context) == bool(model)
        assert context == CausalContext(model)
        assert all((dot in context) == (dot in model) for dot in a | b)
    assert x.covers(y) == (b <= a)
    assert CausalContext.from_wire(x.to_wire()) == x


@law
@given(dots)
def test_the_vector_and_the_cloud_are_the_whole_and_never_overlap(a):
    context = CausalContext(a)
    vector, cloud = context.vector(), context.cloud()
    in_vector = {(r, n) for r, high in vector.items() for n in range(1, high + 1)}
    assert in_vector | cloud == a
    assert not in_vector & cloud
    assert all((r, n) not in cloud for r, n in ((r, h + 1) for r, h in vector.items()))


def test_the_next_dot_is_above_everything_seen_even_beyond_a_gap():
    context = CausalContext([("a", 1), ("a", 5)])
    assert context.next_dot("a") == ("a", 6)
    assert context.next_dot("b") == ("b", 1)


def test_a_context_without_gaps_costs_two_numbers_for_each_replica():
    context = CausalContext()
    for n in range(1, 10_001):
        context.add(("a", n))
    assert context.to_wire() == [["a", 1, 10_000]]


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [["a", 1]],
        [["a", 1, 0]],
        [["a", 0, 2]],
        [["a", 1, 2, 0, 3]],
        [["a", 1, -1]],
        [["b", 1, 2], ["a", 1, 2]],
        [["a", 1, 2], ["a", 3, 4]],
        [["", 1, 2]],
        [["a", 1, 1 << 63]],
        [["a", True, 2]],
        [[1, 1, 2]],
        [["a\0", 1, 2]],
    ],
)
def test_a_malformed_context_is_refused(wire):
    with pytest.raises(InvalidInput):
        CausalContext.from_wire(wire)


@pytest.mark.parametrize(("name", "incarnation"), [("a/b", 1), ("a", 0), ("", 1), ("x" * 300, 1)])
def test_a_replica_id_needs_a_plain_name_and_a_counted_incarnation(name, incarnation):
    with pytest.raises(InvalidInput):
        replica_id(name, incarnation)
