"""The merge is a join: order, repetition and splitting change nothing, and nothing is refused."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.crdt import AWSet, Causal, decode, encode, join
from mcpcore.crdt.anti_entropy import AntiEntropy
from mcpcore.policy import (
    Author,
    Connection,
    Direction,
    Effect,
    Endpoint,
    Mode,
    NetworkRule,
    Peer,
    PolicyStore,
    Request,
    Selector,
    Statement,
    TenantKey,
    admit,
    own,
    trust,
)
from mcpcore.policy.log import PolicyLog
from tests.policy.world import World, access, allowed, at


def told(store: PolicyStore) -> tuple[object, ...]:
    """Everything that a view says, to be compared."""
    return (
        sorted((p.edit.encode(), p.standing) for p in store.view.placed),
        sorted(c.id for c in store.conflicts),
        store.view.roles.edges(),
        sorted(allowed(store)),
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1 << 32), st.sampled_from(Mode))
def test_every_order_of_joins_gives_one_policy(seed, mode):
    world = World(mode, seed)
    for _ in range(20):
        world.walk()
        if world.dice.random() < 0.2:
            a, b = world.dice.sample(world.stores, 2)
            a.join(b)
    results = []
    for order in permutations(world.stores):
        merged = order[0].copy("reader/1")
        for store in (*order[1:], *order):  # everything arrives at least twice
            merged.join(store)
        results.append(told(merged))
    assert all(result == results[0] for result in results)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1 << 32))
def test_deltas_that_come_twice_late_and_out_of_order_give_one_policy(seed):
    world = World(Mode.GUARDED, seed, clouds=1)
    store = world.stores[0]
    for _ in range(15):
        world.walk()
    pieces = [*store.state.split(200), *store.state.split(300)]
    world.dice.shuffle(pieces)
    reader = PolicyStore("reader/1", prefix=store.prefix)
    for piece in pieces:
        reader.join(piece)
    assert told(reader) == told(store)


def test_a_policy_survives_the_wire():
    world = World(Mode.GUARDED, 7)
    for _ in range(30):
        world.walk()
    store = world.stores[0]
    again = PolicyStore("again/1", decode(encode(store.state)), prefix=store.prefix)
    again.check()
    assert told(again) == told(store)


# --- the article's second failure: deny all and allow -------------------------------------------

WEB, FRONT = Selector.of({"app": "service-a"}), Selector.of({"app": "frontend"})
DENY_ALL = Statement(Effect.ISOLATE, NetworkRule(Direction.INGRESS, "shop"), "shop")
ISOLATE_A = Statement(Effect.ISOLATE, NetworkRule(Direction.INGRESS, "shop", WEB), "shop")
ALLOW_A = Statement(
    Effect.PERMIT, NetworkRule(Direction.INGRESS, "shop", WEB, (Peer(pods=FRONT),)), "shop"
)
SERVICE = Endpoint("shop", "service-a", {"app": "service-a"})
FRONTEND = Endpoint("shop", "frontend", {"app": "frontend"})
STRANGER = Endpoint("shop", "batch", {"app": "batch"})


def test_deny_all_and_allow_give_one_answer_in_every_arrival_order_and_every_split_over_replicas():
    """The article blames the order of its policies. There is no order, here as in Kubernetes."""
    log = PolicyLog()
    log.apply(1, own("shop", "shop"))
    policies = (DENY_ALL, ISOLATE_A, ALLOW_A)
    answers = set()
    for order in permutations(policies):
        for split in range(3 ** len(policies)):
            places = [(split // 3**i) % 3 for i in range(len(policies))]
            stores = [PolicyStore(f"cloud{i}/1", prefix=log.prefix) for i in range(3)]
            for i, (policy, place) in enumerate(zip(order, places, strict=True)):
                stores[place].add(Author("shop"), policy, at(i))
            for merging in permutations(stores):
                merged = PolicyStore("reader/1", prefix=log.prefix)
                for store in merging:
                    merged.join(store)
                ordered = PolicyLog()
                ordered.apply(1, own("shop", "shop"))
                for i, command in enumerate(merged.to_order(), 2):
                    ordered.apply(i, command)
                merged.follow(ordered.prefix)
                answers.add(
                    tuple(
                        merged.decide(Connection(a, b, 80)).allowed
                        for a, b in ((FRONTEND, SERVICE), (STRANGER, SERVICE), (SERVICE, FRONTEND))
                    )
                )
    assert answers == {(True, False, False)}


# --- the article's first failure: roles of one tenant over another's ----------------------------


def test_a_rule_of_one_tenant_never_overrides_another_tenants():
    """K13: RBAC rules of one tenant cascaded over another's. Here they are inert, and listed."""
    log = PolicyLog()
    for i, tenant in enumerate(("red", "blue"), 1):
        log.apply(i, own(tenant, tenant))
    store = PolicyStore("east/1", prefix=log.prefix, mode=Mode.OPTIMISTIC)
    store.add(Author("blue"), access(Effect.PERMIT, "blue", "blue/*", "*", "blue/*"), at(1))
    ours = Request("blue/bob", "read", "blue/db"), Request("red/eve", "read", "blue/db")
    before = [store.decide(each).allowed for each in ours]
    for effect in (Effect.PERMIT, Effect.FORBID):
        for who in ("*", "red/*", "blue/*", "blue/bob"):
            for what in ("blue/*", "*", "blue/db"):
                store.add(Author("red"), access(effect, "red", who, "*", what), at(2))
    store.enrol(Author("red"), "blue/bob", "red/all", at(3))
    store.enrol(Author("red"), "red/eve", "blue/admins", at(3))

    assert [store.decide(each).allowed for each in ours] == before == [True, False]
    listed = {getattr(e.body, "statement", None) for c in store.conflicts for e in c.edits}
    assert access(Effect.PERMIT, "red", "blue/bob", "*", "blue/db") in listed


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1 << 32))
def test_a_tenant_never_changes_what_happens_among_others(seed):
    """Non-interference: strike all of tenant a's edits, and b's own requests are judged as before.

    But for what b itself hung on a's roles: whoever names a foreign role trusts its owner.
    """
    world = World(Mode.OPTIMISTIC, seed, clouds=1)
    for _ in range(30):
        world.edit()
    (store,) = world.stores
    alone = PolicyStore("alone/1", prefix=store.prefix, mode=Mode.OPTIMISTIC)
    beside = PolicyStore("beside/1", prefix=store.prefix, mode=Mode.OPTIMISTIC)
    for edit in store.edits():
        trusts = edit.tenant == "b" and "a/" in str(edit.body)
        if edit.tenant == "b" and not trusts:
            AWSet(alone.state).add("alone/1", edit.encode())
        if not trusts:
            AWSet(beside.state).add("beside/1", edit.encode())
    for action in ("read", "write"):
        request = Request("b/bob", action, "b/x")
        assert beside.decide(request).allowed == alone.decide(request).allowed


# --- hostile replicas ---------------------------------------------------------------------------


def test_what_is_no_edit_counts_for_nothing_and_harms_nothing():
    store = World(Mode.GUARDED, 1).stores[0]
    store.add(Author("a"), access(Effect.FORBID, "a", "*", "*", "a/*"), at(1))
    before = allowed(store)
    AWSet(store.state).add("evil/1", b"nonsense")
    AWSet(store.state).add("evil/1", ("a", 1))
    assert allowed(store) == before
    assert len(store.malformed) == 2


def test_the_guard_lets_only_signed_edits_through():
    key, log = TenantKey.generate(), PolicyLog()
    log.apply(1, own("a", "a"))
    log.apply(2, trust("a", key.public))
    here, there = (PolicyStore(f"{name}/1", prefix=log.prefix) for name in ("here", "there"))
    guard = admit(lambda: here.prefix)
    statement = access(Effect.FORBID, "a", "*", "*", "a/*")

    signed = there.add(Author("a", key), statement, at(1))
    unsigned = there.add(Author("a"), statement, at(2))
    forged = there.add(Author("a", TenantKey.generate()), statement, at(3))

    assert guard("there", signed) == ""
    assert "without its signature" in guard("there", unsigned)
    assert "without its signature" in guard("there", forged)
    assert guard("there", AWSet().add("evil/1", b"nonsense"))
    engine = AntiEntropy("here/1", here.state, peers=["there"], authorise=guard)
    other = AntiEntropy("there/1", there.state, peers=["here"])
    other.changed(signed)
    for send in other.poll(0):
        engine.receive("there", send.data, 0)
    assert [edit.signature != b"" for edit in here.edits()] == [True]


def test_a_guarded_replica_lets_nobody_erase_what_was_said():
    """A context that claims an edit without bringing it would take a forbid out of every set."""
    log = PolicyLog()
    log.apply(1, own("a", "a"))
    here, there = (PolicyStore(f"{name}/1", prefix=log.prefix) for name in ("here", "there"))
    guard = admit(lambda: log.prefix)
    first = here.add(Author("a"), access(Effect.FORBID, "a", "*", "*", "a/*"), at(1))
    there.join(here)
    second = there.add(Author("a"), access(Effect.FORBID, "a", "*", "read", "a/*"), at(2))
    eraser = Causal({}, first.context.copy())
    stowaway = Causal(dict(second.entries), there.state.context.copy())

    assert guard("there", second) == guard("there", there.state) == guard("there", Causal()) == ""
    for lie in (eraser, stowaway):
        assert "erase" in guard("there", lie)


def test_without_a_valid_signature_nothing_counts_once_the_tenant_has_a_key():
    key, log = TenantKey.generate(), PolicyLog()
    log.apply(1, own("a", "a"))
    store = PolicyStore("east/1", prefix=log.prefix)
    store.add(Author("a"), access(Effect.FORBID, "a", "*", "read", "a/*"), at(1))
    assert [p.standing for p in store.view.placed] == ["live"]
    log.apply(2, trust("a", key.public))
    store.follow(log.prefix)
    assert [p.standing for p in store.view.placed] == ["unproved"]
    store.add(Author("a", key), access(Effect.FORBID, "a", "*", "write", "a/*"), at(2))
    assert [p.standing for p in store.view.placed] == ["unproved", "live"]
    assert join(store.state, store.state) == store.state
