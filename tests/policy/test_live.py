"""Kept up to date or worked out anew: the same policy at every step, at a fraction of the cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.crdt import AWSet
from mcpcore.policy import Author, Effect, Mode, PolicyStore, TenantKey, judge, own, trust
from mcpcore.policy import live as live_module
from mcpcore.policy.log import PolicyLog
from tests.policy.world import QUESTIONS, World, access, at


def kept(store: PolicyStore) -> tuple[Any, ...]:
    live = store.live
    return (
        live.engine._all,
        live.engine.roles.edges(),
        live.pending(),
        [judge(live.engine, question) for question in QUESTIONS],
    )


def anew(store: PolicyStore) -> tuple[Any, ...]:
    view = PolicyStore("anew/1", store.state.copy(), prefix=store.prefix, mode=store.mode).view
    return (
        view.engine._all,
        view.roles.edges(),
        view.pending,
        [judge(view.engine, question) for question in QUESTIONS],
    )


def same(store: PolicyStore) -> bool:
    here, there = kept(store), anew(store)
    return here == there


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1 << 32), st.sampled_from(Mode))
def test_what_is_kept_up_to_date_equals_what_is_worked_out_anew(seed: int, mode: Mode) -> None:
    """Edits, orders, changes of owner and joins in any order; decisions with their reasons."""
    world = World(mode, seed)
    for _ in range(25):
        world.walk()
        if world.dice.random() < 0.3:
            a, b = world.dice.sample(world.stores, 2)
            a.join(b)
        if world.dice.random() < 0.2:
            a, b = world.dice.sample(world.stores, 2)
            a.join(b.state)
        store = world.dice.choice(world.stores)
        assert same(store)
    assert all(same(store) for store in world.stores)


def test_a_key_that_comes_later_unproves_what_was_in_force() -> None:
    key, log = TenantKey(bytes(range(32))), PolicyLog()
    log.apply(1, own("a", "a"))
    store = PolicyStore("east/1", prefix=log.prefix)
    store.add(Author("a"), access(Effect.FORBID, "a", "*", "read", "a/*"), at(1))
    assert len(store.live.engine.statements) == 1
    log.apply(2, trust("a", key.public))
    store.follow(log.prefix)
    assert store.live.engine.statements == []
    assert same(store)


def test_what_is_erased_from_the_set_is_forgotten() -> None:
    store = World(Mode.GUARDED, 1).stores[0]
    delta = store.add(Author("a"), access(Effect.FORBID, "a", "*", "read", "a/*"), at(1))
    assert len(store.live.engine.statements) == 1
    (element,) = AWSet(delta)
    AWSet(store.state).remove("evil/1", element)
    assert store.live.engine.statements == []
    assert same(store)


def test_one_edit_among_thousands_touches_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock is needed to see that nothing else was worked out again."""
    log = PolicyLog()
    log.apply(1, own("a", "a"))
    store = PolicyStore("east/1", prefix=log.prefix)
    for number in range(2_000):
        store.add(Author("a"), access(Effect.FORBID, "a", f"a/u{number}", "*", "a/x"), at(number))
    assert len(store.live.engine.statements) == 2_000
    put: list[str] = []
    real = live_module.LiveEngine.put

    def counted(self: Any, statement: Any, epoch: int) -> None:
        put.append(statement.id)
        real(self, statement, epoch)

    monkeypatch.setattr(live_module.LiveEngine, "put", counted)
    statement = access(Effect.FORBID, "a", "a/new", "*", "a/x")
    store.add(Author("a"), statement, at(9))
    store.decide(QUESTIONS[0])
    assert put == [statement.id]
