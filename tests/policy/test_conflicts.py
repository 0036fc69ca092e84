"""Conflicts: everything that the merge settled by rule is listed, and can be decided anywhere."""

from __future__ import annotations

import msgpack
import pytest

from mcpcore.crdt import AWSet
from mcpcore.errors import InvalidInput
from mcpcore.policy import (
    Add,
    Author,
    Edit,
    Effect,
    Kind,
    Mode,
    PolicyLog,
    PolicyStore,
    Prefix,
    Request,
    explain,
    own,
    resolve,
)
from mcpcore.policy.edits import decode
from mcpcore.policy.log import trust
from tests.policy.world import access, at

A, B = Author("a"), Author("b")
READ = access(Effect.PERMIT, "a", "a/ann", "read", "a/x")
WRITE = access(Effect.PERMIT, "a", "a/ann", "write", "a/x")
STOP = access(Effect.FORBID, "a", "*", "*", "a/x")


class Clouds:
    """Two replicas and their log."""

    def __init__(self, mode: Mode = Mode.GUARDED) -> None:
        self.log = PolicyLog()
        for tenant in ("a", "b"):
            self.order(own(tenant, tenant))
        self.east, self.west = (
            PolicyStore(f"{name}/1", prefix=self.log.prefix, mode=mode) for name in ("east", "west")
        )

    def order(self, *commands: bytes) -> None:
        for command in commands:
            self.log.apply(self.log.prefix.epoch + 1, command)

    def sync(self) -> PolicyStore:
        """Everybody learns everything, and what waits is ordered."""
        self.east.join(self.west)
        self.order(*self.east.to_order())
        self.east.follow(self.log.prefix)
        self.west.join(self.east)
        return self.east


def only(store: PolicyStore, kind: Kind):
    (found,) = [c for c in store.conflicts if c.kind is kind]
    return found


def test_one_place_with_two_statements_is_an_edit_race_and_keeping_one_drops_the_other():
    clouds = Clouds()
    clouds.east.add(A, READ, at(1), "ann")
    clouds.west.add(A, WRITE, at(1), "ann")
    store = clouds.sync()
    conflict = only(store, Kind.EDIT_RACE)
    assert {p.standing for p in store.view.placed} == {"live"}

    resolve(store, A, conflict, "keep:1", at(2), "reading is enough")

    assert [p.statement for p in store.view.placed if p.standing == "live"] == [READ]
    clouds.west.join(store)
    assert clouds.west.conflicts == []


def test_a_permit_dropped_here_and_added_there_stays_dropped_until_somebody_says_otherwise():
    """Remove-wins for what gives."""
    clouds = Clouds()
    clouds.east.add(A, READ, at(1))
    clouds.sync()
    clouds.east.drop(A, READ, at(2))
    clouds.west.add(A, READ, at(2))
    store = clouds.sync()
    request = Request("a/ann", "read", "a/x")
    assert not store.decide(request)
    conflict = only(store, Kind.EDIT_RACE)
    assert "the drop holds" in conflict.text
    resolve(store, A, conflict, "keep:1", at(3), "we do want it")
    assert not store.decide(request), "saying so gives, and waits for the log like everything else"
    assert clouds.sync().decide(request)
    assert store.conflicts == []


def test_a_forbid_dropped_here_and_added_there_stands():
    """Add-wins for what takes."""
    clouds = Clouds()
    clouds.east.add(A, READ, at(1))
    clouds.east.add(A, STOP, at(1))
    clouds.sync()
    clouds.east.drop(A, STOP, at(2))
    clouds.west.add(A, STOP, at(2))
    store = clouds.sync()
    assert not store.decide(Request("a/ann", "read", "a/x"))
    assert "the addition holds" in only(store, Kind.EDIT_RACE).text


def test_two_values_of_a_setting_are_both_kept_until_one_is_chosen():
    clouds = Clouds()
    clouds.east.note(A, "contact", "ann", at(1))
    clouds.west.note(A, "contact", "bob", at(1))
    store = clouds.sync()
    resolve(store, A, only(store, Kind.MULTI_VALUE), "keep:2", at(2))
    assert [e.body.value for edits in store.view.notes.values() for e in edits] == ["bob"]
    assert store.conflicts == []


def test_a_role_cycle_is_cut_at_one_edge_everywhere_and_reported():
    clouds = Clouds()
    clouds.east.enrol(A, "a/x", "a/y", at(1))
    clouds.west.enrol(A, "a/y", "a/x", at(2))
    store = clouds.sync()
    conflict = only(store, Kind.CYCLE_CUT)
    assert conflict == only(clouds.west, Kind.CYCLE_CUT)
    assert store.view.cut == clouds.west.view.cut == {conflict.edits[0].dot}
    resolve(store, A, conflict, "drop", at(3))
    assert store.conflicts == []


def test_a_cut_edge_does_not_come_back_when_another_edge_goes():
    """Else taking away would give. Whoever wants it says so again."""
    clouds = Clouds()
    clouds.east.enrol(A, "a/x", "a/y", at(1))
    clouds.sync()
    clouds.east.enrol(A, "a/y", "a/x", at(2))
    store = clouds.sync()
    store.expel(A, "a/x", "a/y", at(3))
    assert "a/x" not in store.view.roles.for_permits("a/y")
    assert len(store.view.cut) == 1
    clouds.sync()
    store.enrol(A, "a/y", "a/x", at(4))
    assert "a/x" in clouds.sync().view.roles.for_permits("a/y")


def test_a_role_given_counts_for_forbids_at_once_and_a_role_taken_until_that_is_ordered():
    """In doubt an edge protects: it is there for forbids as soon, and as long, as it may be."""
    clouds = Clouds()
    clouds.east.add(A, access(Effect.PERMIT, "a", "a/ann", "read", "a/x"), at(1))
    clouds.east.add(A, access(Effect.FORBID, "a", "a/guest", "*", "*"), at(1))
    store = clouds.sync()
    request = Request("a/ann", "read", "a/x")
    assert store.decide(request)
    store.enrol(A, "a/ann", "a/guest", at(2))
    assert not store.decide(request), "pending, and it counts for the forbid"
    clouds.sync()
    store.expel(A, "a/ann", "a/guest", at(3))
    assert not store.decide(request), "going, and it still counts"
    assert clouds.sync().decide(request)


def test_a_statement_about_anothers_namespace_is_inert_and_listed():
    clouds = Clouds()
    clouds.east.add(B, access(Effect.FORBID, "b", "*", "*", "a/*"), at(1))
    conflict = only(clouds.east, Kind.INERT)
    assert "b does not own a" in conflict.text
    resolve(clouds.east, B, conflict, "drop", at(2))
    assert [p.standing for p in clouds.sync().view.placed] == ["dropped"]


def test_a_statement_from_before_a_change_of_hands_is_stale_and_can_be_renewed():
    clouds = Clouds()
    clouds.east.add(A, STOP, at(1))
    clouds.sync()
    clouds.order(own("a", ""), own("a", "a"))
    store = clouds.sync()
    store.follow(clouds.log.prefix)
    conflict = only(store, Kind.STALE)
    resolve(store, A, conflict, "renew", at(2))
    assert store.view.standing(STOP.id).standing == "live"
    assert store.conflicts == []


def test_a_permit_by_a_delegation_that_is_gone_has_lost_its_authority():
    clouds = Clouds()
    delegation = access(Effect.DELEGATE, "a", "b", "*", "a/*")
    by_b = access(Effect.PERMIT, "b", "a/ann", "read", "a/x")
    clouds.east.add(A, delegation, at(1))
    clouds.east.add(B, by_b, at(1))
    store = clouds.sync()
    request = Request("a/ann", "read", "a/x")
    assert store.decide(request)
    assert len(store.decide(request).determining) == 2
    store.drop(A, delegation, at(2))
    assert not store.decide(request)
    assert only(store, Kind.LOST)


def test_only_who_has_a_part_in_a_conflict_settles_it_and_only_with_its_choices():
    clouds = Clouds()
    clouds.east.note(A, "contact", "ann", at(1))
    clouds.west.note(A, "contact", "bob", at(1))
    store = clouds.sync()
    conflict = only(store, Kind.MULTI_VALUE)
    with pytest.raises(InvalidInput, match="no part in it"):
        resolve(store, B, conflict, "keep:1", at(2))
    with pytest.raises(InvalidInput, match="is no choice"):
        resolve(store, A, conflict, "keep:3", at(2))
    store.settle(B, conflict, "accept", at(2))
    assert store.conflicts == [conflict], "b's word does not count here"


def test_an_edit_of_another_tenant_cannot_be_undone():
    clouds = Clouds(Mode.OPTIMISTIC)
    clouds.east.add(A, access(Effect.PERMIT, "a", "b/bob", "read", "a/x"), at(1))
    clouds.west.add(B, access(Effect.PERMIT, "b", "b/bob", "read", "a/x"), at(1))
    clouds.east.join(clouds.west)
    conflict = only(clouds.east, Kind.LOOSENING)
    with pytest.raises(InvalidInput, match="which a cannot"):
        resolve(clouds.east, A, conflict, "undo:2", at(2))
    resolve(clouds.east, A, conflict, "undo:1", at(2))
    assert not clouds.east.decide(Request("b/bob", "read", "a/x"))


def test_edits_in_anothers_name_are_refused_here_and_do_not_count_when_they_come():
    clouds = Clouds()
    with pytest.raises(InvalidInput, match="cannot speak for"):
        clouds.east.add(B, READ, at(1))
    with pytest.raises(InvalidInput, match="no such statement here"):
        clouds.east.drop(A, READ, at(1))


def test_whoever_claims_to_have_seen_the_future_can_be_dropped_all_the_same():
    """What an edit has seen is its author's own word; it must not make a permit immortal."""
    clouds = Clouds()
    liar = Edit(("evil/1", 1), "a", "main", 2, at(1), (("east/1", 10**9),), Add(READ))
    AWSet(clouds.west.state).add("evil/1", liar.encode())
    store = clouds.sync()
    request = Request("a/ann", "read", "a/x")
    assert store.decide(request)
    store.drop(A, READ, at(2))
    assert not store.decide(request)


# --- provenance ---------------------------------------------------------------------------------


def test_an_explanation_says_which_cloud_when_and_whether_concurrent():
    clouds = Clouds()
    clouds.east.add(A, STOP, at(1))
    clouds.west.add(A, access(Effect.FORBID, "a", "a/ann", "*", "a/*"), at(2))
    clouds.sync()
    clouds.west.add(A, access(Effect.FORBID, "a", "a/*", "*", "a/*"), at(3))
    told = explain(clouds.sync().view, Request("a/ann", "read", "a/x"))
    by_cloud = [(origin.cloud, origin.order) for origin in told.origins]
    assert by_cloud == [
        ("east", ()),
        ("west", (("east", "concurrent with"),)),
        ("west", (("east", "after"), ("west", "after"))),
    ]
    assert told.origins[0].earliest_ns < 1_000_000 < told.origins[0].latest_ns


def test_an_explanation_shows_what_would_match_and_is_not_in_force():
    clouds = Clouds()
    clouds.east.add(A, READ, at(1))
    told = explain(clouds.east.view, Request("a/ann", "read", "a/x"))
    assert [(s, why.split(",")[0]) for s, why in told.inert] == [(READ, "pending")]
    assert "not in force" in str(told)


# --- the log ------------------------------------------------------------------------------------


def answer(log: PolicyLog, index: int, command: bytes) -> list[object]:
    told: list[object] = msgpack.unpackb(log.apply(index, command))
    return told


def test_the_log_has_the_shape_of_a_replicated_state_machine():
    from mcpcore.node.machine import ReplicatedState, StateMachine

    machine: StateMachine = PolicyLog()
    assert ReplicatedState(machine).digest() == ReplicatedState(PolicyLog()).digest()


def test_the_log_orders_each_loosening_once_and_refuses_what_is_none():
    clouds = Clouds()
    clouds.east.add(A, READ, at(1))
    (command,) = clouds.east.to_order()
    assert answer(clouds.log, 9, command) == ["ok", 3]
    assert answer(clouds.log, 10, command) == ["ok", 3]
    clouds.west.add(A, STOP, at(1))
    tightening = msgpack.packb(["loosen", clouds.west.edits()[0].encode()])
    malformed = (["own", "a/b", "a"], ["key"], ["loosen", b"x"], ["loosen"], 7)
    for bad in (b"", b"\xc1", tightening, b"x" * 300_000, *map(msgpack.packb, malformed)):
        assert answer(clouds.log, 11, bad)[0] == "refused"
    assert clouds.log.prefix.epoch == 3


def test_a_snapshot_of_the_log_is_restored_whole_or_not_at_all():
    clouds = Clouds()
    clouds.east.add(A, READ, at(1))
    clouds.order(*clouds.east.to_order(), trust("a", bytes(32)))
    data = b"".join(clouds.log.snapshot())
    other = PolicyLog()
    other.restore([data[:5], data[5:]])
    assert (other.prefix, other.digest()) == (clouds.log.prefix, clouds.log.digest())
    for i in range(0, len(data), 7):
        with pytest.raises(InvalidInput):
            other.restore([data[:i], bytes([data[i] ^ 1]), data[i + 1 :]])
    assert other.prefix == clouds.log.prefix


def test_a_follower_of_the_log_learns_what_it_lacks_and_two_logs_never_mix():
    clouds = Clouds()
    behind = PolicyLog()
    behind.follow(clouds.log.query(msgpack.packb(["since", 0])))
    assert behind.prefix == clouds.log.prefix
    assert msgpack.unpackb(clouds.log.query(b"?"))[0] == "refused"
    other = PolicyLog()
    other.apply(1, own("a", "b"))
    with pytest.raises(InvalidInput, match="two logs"):
        clouds.east.follow(other.prefix)
    assert Prefix().join(clouds.log.prefix) == clouds.log.prefix


def test_what_the_log_says_of_owners_and_keys():
    log = PolicyLog()
    key = bytes(32)
    told = [own("x", "a"), own("x", "a"), own("*", "b"), own("x", ""), trust("a", key)]
    for i, command in enumerate([*told, trust("a", key, counts=False)], 1):
        log.apply(i, command)
    assert log.prefix.epoch == 5, "giving a namespace to its owner changes nothing"
    assert log.prefix.owner("x") == ("b", 2)
    assert log.prefix.keys("a") == frozenset()
    assert log.prefix.namespaces("b") == ["*"]


def test_bytes_that_are_no_edit_are_refused():
    clouds = Clouds()
    clouds.east.enrol(A, "a/x", "a/y", at(1))
    data = clouds.east.edits()[0].encode()
    assert decode(data).encode() == data
    for i in range(len(data)):
        for changed in (data[:i], data[:i] + bytes([data[i] ^ 0x40]) + data[i + 1 :]):
            try:
                assert decode(changed).encode() == changed
            except InvalidInput:
                continue
