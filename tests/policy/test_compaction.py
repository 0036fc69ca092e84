"""Letting go of what was overtaken changes no decision, now or later, and brings nothing back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpcore.crdt import Causal, CausalContext
from mcpcore.errors import InvalidInput
from mcpcore.policy import (
    Add,
    Author,
    Drop,
    Edit,
    Effect,
    Enrol,
    PolicyLog,
    PolicyStore,
    compact,
    compaction,
    own,
    resolve,
    stable_events,
    superseded,
    trust,
)
from mcpcore.policy.compaction import without_gaps
from tests.policy.world import TENANTS, access, allowed, at

CLOUDS = 3
STATEMENTS = [
    access(effect, "a", who, "write", "a/x")
    for effect in (Effect.PERMIT, Effect.FORBID)
    for who in ("a/ann", "a/ops")
]
EDGES = [("a/ann", "a/ops"), ("a/ops", "a/all"), ("a/all", "a/ops")]
"""Few, so that edits meet."""


def said(state: Causal) -> Causal:
    """What a message about a state says: the events that it brings, and no others."""
    return Causal(dict(state.entries), CausalContext(state.entries))


class Side:
    """Clouds and their log; one side lets go of edits and the other keeps all."""

    def __init__(self) -> None:
        self.log = PolicyLog()
        self.index = 0
        for tenant in TENANTS:
            self.order(own(tenant, tenant))
        self.stores = [PolicyStore(f"c{i}/1", prefix=self.log.prefix) for i in range(CLOUDS)]

    def order(self, command: bytes) -> None:
        self.index += 1
        self.log.apply(self.index, command)


class Twins:
    """The same history twice, with compaction and without."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.small, self.full = Side(), Side()
        self.told: list[dict[str, CausalContext]] = [{} for _ in range(CLOUDS)]
        self.now_ms = 0
        self.let_go = 0

    def step(self) -> None:
        match self.dice.randrange(10):
            case 0 | 1 | 2 | 3:
                self.edit()
            case 4 | 5 | 6:
                self.meet(*self.dice.sample(range(CLOUDS), 2))
            case 7 | 8:
                self.ordering()
            case _:
                self.compact()

    def edit(self) -> None:
        dice, who = self.dice, self.dice.randrange(CLOUDS)
        self.now_ms += 1
        here, there = self.small.stores[who], self.full.stores[who]
        known = [e for e in here.view.sound if isinstance(e.body, Add | Enrol)]
        if known and dice.random() < 0.5:
            edit = dice.choice(known)
            for store in (here, there):
                if isinstance(edit.body, Add):
                    store.drop(Author(edit.tenant), edit.body.statement, at(self.now_ms))
                elif isinstance(edit.body, Enrol):
                    body = edit.body
                    store.expel(Author(edit.tenant), body.member, body.role, at(self.now_ms))
            return
        choice = dice.random()
        statement, edge = dice.choice(STATEMENTS), dice.choice(EDGES)
        tenant, value = dice.choice(TENANTS), str(dice.randrange(3))
        for store in (here, there):
            if choice < 0.2:
                store.enrol(Author(tenant), *edge, at(self.now_ms))
            elif choice < 0.35:
                store.note(Author(tenant), "contact", value, at(self.now_ms))
            else:
                store.add(Author(statement.author), statement, at(self.now_ms))

    def meet(self, a: int, b: int) -> None:
        """``a`` hears what ``b`` says, and with luck what it knows of the log."""
        log = self.dice.random() < 0.6
        for side in (self.small, self.full):
            heard, speaker = side.stores[a], side.stores[b]
            heard.join(said(speaker.state))
            if log:
                heard.follow(speaker.prefix)
        self.told[a][f"c{b}"] = self.small.stores[b].state.context.copy()

    def ordering(self) -> None:
        who = self.dice.randrange(CLOUDS)
        small, full = self.small.stores[who], self.full.stores[who]
        waiting = list(zip(small.to_order(), full.to_order(), strict=True))
        for one, other in waiting:
            if self.dice.random() < 0.8:
                self.small.order(one)
                self.full.order(other)
        small.follow(self.small.log.prefix)
        full.follow(self.full.log.prefix)

    def compact(self) -> None:
        """A cloud that leads the log, and so knows all of it, tidies up."""
        who = self.dice.randrange(CLOUDS)
        store = self.small.stores[who]
        store.follow(self.small.log.prefix)
        self.full.stores[who].follow(self.full.log.prefix)
        members = [f"c{i}" for i in range(CLOUDS) if i != who]
        gone = superseded(store.view, stable_events(store.state.context, members, self.told[who]))
        if gone == store.prefix.compacted:
            return
        self.let_go += len(gone) - len(store.prefix.compacted)
        epoch = self.small.log.prefix.epoch
        self.small.order(compact(gone))
        assert self.small.log.prefix.epoch == epoch + 1
        self.full.order(trust("nobody", bytes([self.index()]) * 32))
        store.follow(self.small.log.prefix)
        self.full.stores[who].follow(self.full.log.prefix)

    def index(self) -> int:
        return self.full.log.prefix.epoch % 256

    def check(self) -> None:
        for small, full in zip(self.small.stores, self.full.stores, strict=True):
            assert allowed(small) == allowed(full)
            assert [e.dot for e in small.pending()] == [e.dot for e in full.pending()]
            assert small.live.engine.roles.edges() == full.live.engine.roles.edges()
            here = sorted(c.kind for c in small.conflicts)
            assert here == sorted(c.kind for c in full.conflicts)
            assert small.state.context == full.state.context
            small.state.check()


@settings(deadline=None, max_examples=8)
@example(11749)  # an edit that was known from the log alone, and let go of
@given(st.integers(0, 1 << 32))
def test_letting_go_changes_no_decision_no_pending_gift_and_no_conflict(seed: int) -> None:
    twins = Twins(seed)
    for number in range(50):
        twins.step()
        if number % 10 == 0:
            twins.check()
    for _ in range(2):
        for a in range(CLOUDS):
            for b in range(CLOUDS):
                if a != b:
                    twins.meet(a, b)
        twins.compact()
        twins.check()
    for _ in range(15):
        twins.step()
    twins.check()


def test_the_histories_of_this_law_do_let_go_of_much() -> None:
    total = 0
    for seed in range(4):
        twins = Twins(seed)
        for _ in range(60):
            twins.step()
        total += twins.let_go
    assert total > 5


@pytest.mark.parametrize("most", [1, 2, 5])
def test_letting_go_of_little_at_a_time_changes_nothing_either(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "DOTS_MAX", most)
    let_go = 0
    for seed in range(6):
        twins = Twins(seed)
        for number in range(60):
            twins.step()
            if number % 10 == 0:
                twins.check()
        twins.check()
        let_go += twins.let_go
    assert let_go > 3


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_letting_go_changes_nothing_in_long_histories() -> None:
    for seed in range(300):
        twins = Twins(50_000 + seed)
        for _ in range(160):
            twins.step()
        twins.check()


# --- one by one ---------------------------------------------------------------------------------

PERMIT = access(Effect.PERMIT, "a", "a/ann", "write", "a/x")


def alone() -> tuple[PolicyLog, PolicyStore]:
    log = PolicyLog()
    log.apply(1, own("a", "a"))
    return log, PolicyStore("east/1", prefix=log.prefix)


def tidy(log: PolicyLog, store: PolicyStore) -> int:
    """Compact as one who is alone: all that it knows is stable."""
    before = len(store.state.entries)
    gone = superseded(store.view, stable_events(store.state.context, (), {}))
    log.apply(log.prefix.epoch + 1, compact(gone))
    store.follow(log.prefix)
    return before - len(store.state.entries)


def test_a_permit_given_and_taken_back_leaves_neither_edit_nor_entry() -> None:
    log, store = alone()
    for number in range(20):
        store.add(Author("a"), PERMIT, at(number))
        for command in store.to_order():
            log.apply(log.prefix.epoch + 1, command)
        store.follow(log.prefix)
        store.drop(Author("a"), PERMIT, at(number))
    assert len(store.state.entries) == 40
    assert len(log.prefix.entries) == 21
    assert tidy(log, store) == 40
    assert len(log.prefix.entries) == 2, "the owner, and what was let go of"
    assert len(b"".join(log.snapshot())) < 400
    again = PolicyLog()
    again.restore(log.snapshot())
    assert again.prefix == log.prefix
    assert again.prefix.compacted == store.prefix.compacted


def test_what_is_too_much_for_one_time_goes_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long cut there is more than that, and it never becomes less by itself."""
    monkeypatch.setattr(compaction, "DOTS_MAX", 3)
    log, store = alone()
    for number in range(4):
        statement = access(Effect.PERMIT, "a", "a/ann", "write", f"a/{number}")
        store.add(Author("a"), statement, at(number))
        store.drop(Author("a"), statement, at(number))
        store.note(Author("a"), "contact", str(number), at(number))
    went = []
    while not went or went[-1]:
        went.append(tidy(log, store))
    assert sum(went) == 11, "all but the latest note"
    assert max(went) <= 3


def test_an_overtaken_edit_that_comes_late_to_the_log_is_refused() -> None:
    """Else the addition would stand there alone, without the drop that ended it."""
    log, store = alone()
    store.add(Author("a"), PERMIT, at(1))
    (late,) = store.to_order()
    store.drop(Author("a"), PERMIT, at(2))
    assert tidy(log, store) == 2
    assert b"let go" in log.apply(9, late)
    store.follow(log.prefix)
    assert store.live.engine.statements == []


def test_an_overtaken_edit_that_comes_late_to_a_replica_does_not_come_back() -> None:
    log, store = alone()
    added = store.add(Author("a"), PERMIT, at(1))
    store.drop(Author("a"), PERMIT, at(2))
    tidy(log, store)
    store.join(added)
    assert store.edits() == []


def test_what_one_member_does_not_know_stays() -> None:
    _, store = alone()
    store.add(Author("a"), PERMIT, at(1))
    west = store.copy("west/1")
    store.drop(Author("a"), PERMIT, at(2))
    ours = store.state.context
    assert not stable_events(ours, ["west"], {})
    assert len(stable_events(ours, ["west"], {"west": west.state.context})) == 1
    stable = stable_events(ours, ["west"], {"west": west.state.context})
    assert len(superseded(store.view, stable)) == 1, "the addition goes, its drop stays"
    west.note(Author("a"), "k", "v", at(3))
    assert not stable_events(ours, ["west"], {"west": west.state.context}), "it is ahead of us"


def test_what_an_open_conflict_speaks_of_stays_until_it_is_settled() -> None:
    log, east = alone()
    east.add(Author("a"), PERMIT, at(1))
    west = east.copy("west/1")
    east.drop(Author("a"), PERMIT, at(2))
    west.add(Author("a"), PERMIT, at(2))
    east.join(west)
    (conflict,) = east.conflicts
    tidy(log, east)
    assert {edit.dot for edit in conflict.edits} <= {edit.dot for edit in east.edits()}
    resolve(east, Author("a"), conflict, "accept", at(3))
    tidy(log, east)
    assert not {edit.dot for edit in conflict.edits} & {edit.dot for edit in east.edits()}


def without(store: PolicyStore, *edits: Edit) -> CausalContext:
    """All that a store knows but these: what is stable if somebody does not know them."""
    gone = CausalContext(edit.dot for edit in edits)
    return store.state.context.minus(gone)


def test_a_drop_stays_while_an_addition_that_it_ends_does() -> None:
    _, east = alone()
    east.add(Author("a"), PERMIT, at(1))
    west = east.copy("west/1")
    east.drop(Author("a"), PERMIT, at(2))
    west.add(Author("a"), PERMIT, at(2))
    east.join(west)
    resolve(east, Author("a"), east.conflicts[0], "accept", at(3))
    first, drop = (e for e in east.edits() if isinstance(e.body, Add | Drop) and e.cloud == "east")
    (second,) = (e for e in east.edits() if e.cloud == "west")
    assert isinstance(drop.body, Drop)
    assert list(superseded(east.view, without(east, second))) == [first.dot]


def test_a_role_edge_that_was_cut_does_not_come_back_when_the_edge_it_met_is_gone() -> None:
    log, store = alone()

    def order() -> None:
        for command in store.to_order():
            log.apply(log.prefix.epoch + 1, command)
        store.follow(log.prefix)

    store.enrol(Author("a"), "a/ops", "a/all", at(1))
    order()
    store.enrol(Author("a"), "a/all", "a/ops", at(2))
    order()
    assert store.view.cut
    store.expel(Author("a"), "a/ops", "a/all", at(3))
    order()
    before = store.live.engine.roles.edges()
    tidy(log, store)
    assert store.live.engine.roles.edges() == before
    assert before[0] == []


def test_a_note_stays_while_one_that_it_replaced_does() -> None:
    _, store = alone()
    for value in ("one", "two", "three"):
        store.note(Author("a"), "contact", value, at(1))
    one, two, _ = store.edits()
    assert list(superseded(store.view, without(store, one))) == []
    assert list(superseded(store.view, without(store))) == [one.dot, two.dot]


def test_a_compaction_that_forgets_an_earlier_one_is_refused() -> None:
    log, store = alone()
    store.add(Author("a"), PERMIT, at(1))
    store.drop(Author("a"), PERMIT, at(2))
    tidy(log, store)
    assert b"refused" in log.apply(9, compact(CausalContext([("east/1", 1)])))
    assert b"refused" in log.apply(9, b"\x92\xa7compact\xc0")


def test_only_what_has_no_gap_before_it_is_stable() -> None:
    context = CausalContext([("a", 1), ("a", 2), ("a", 4), ("b", 2)])
    assert list(without_gaps(context)) == [("a", 1), ("a", 2)]


def test_a_log_taken_piece_by_piece_over_a_compaction_is_the_same_log() -> None:
    log, store = alone()
    follower = PolicyLog()
    follower.follow(log.query(b"\x92\xa5since\x00"))
    store.add(Author("a"), PERMIT, at(1))
    for command in store.to_order():
        log.apply(log.prefix.epoch + 1, command)
    store.follow(log.prefix)
    store.drop(Author("a"), PERMIT, at(2))
    tidy(log, store)
    log.apply(9, own("b", "b"))
    follower.follow(log.query(b"\x92\xa5since\x01"))
    assert follower.prefix == log.prefix
    with pytest.raises(InvalidInput):
        follower.prefix.join(PolicyLog().prefix.extended(3, own("x", "x")))
