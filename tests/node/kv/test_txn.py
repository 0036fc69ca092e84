"""Transactions: all or nothing, at one revision; one sentence of docs/kv.md per test."""

import pytest

from mcpcore.node.kv.commands import (
    Compare,
    Delete,
    Get,
    LeaseGrant,
    Put,
    Relation,
    Target,
    Txn,
    encode_command,
)
from mcpcore.node.kv.machine import KeyValueMachine
from mcpcore.node.kv.records import KeyValue, KeyValueLimits
from mcpcore.node.kv.results import (
    Deleted,
    Found,
    PutDone,
    RefusalCode,
    Refused,
    TxnDone,
    decode_result,
)


class Store:
    """A machine that is told commands instead of bytes."""

    def __init__(self, **limits):
        self.machine, self.index = KeyValueMachine(KeyValueLimits(**limits)), 0

    def do(self, command):
        self.index += 1
        result = decode_result(self.machine.apply(self.index, encode_command(command)))
        self.machine.check()
        return result

    def refusal(self, command):
        before = self.machine.digest()
        result = self.do(command)
        assert isinstance(result, Refused)
        assert self.machine.digest() == before, "a refused command changes nothing"
        return result.code


def test_money_moves_if_nobody_touched_either_account():
    store = Store()
    store.do(Put(b"ann", b"10"))
    store.do(Put(b"bob", b"0"))
    transfer = Txn(
        (Compare.unchanged(b"ann", 1), Compare.unchanged(b"bob", 2)),
        (Put(b"ann", b"7"), Put(b"bob", b"3")),
        (Get(b"ann"), Get(b"bob")),
    )

    assert store.do(transfer) == TxnDone(3, True, (PutDone(3), PutDone(3)))
    assert store.do(transfer) == TxnDone(
        3,
        False,
        (
            Found(3, KeyValue(b"ann", b"7", 1, 3, 2)),
            Found(3, KeyValue(b"bob", b"3", 2, 3, 2)),
        ),
    )


def test_all_changes_have_one_revision_and_a_watcher_hears_of_them_together():
    store = Store()
    store.do(Put(b"c", b""))
    watcher = store.machine.watch.subscribe(b"", prefix=True)

    store.do(Txn((), (Put(b"a", b"1"), Delete(b"c"), Put(b"b", b"2"))))

    (changes,) = watcher.take()
    assert changes.revision == 2
    assert [event.record.key for event in changes.events] == [b"a", b"c", b"b"]


def test_a_later_operation_sees_what_an_earlier_one_did():
    store = Store()

    done = store.do(Txn((), (Get(b"a"), Put(b"a", b"1"), Get(b"a"), Delete(b"b"))))

    assert done.answers == (
        Found(0, None),
        PutDone(1),
        Found(1, KeyValue(b"a", b"1", 1, 1, 1)),
        Deleted(1, 0),
    )


def test_a_transaction_that_only_reads_makes_no_revision():
    store = Store()
    store.do(Put(b"a", b"1"))

    assert store.do(Txn((), (Get(b"a"), Delete(b"b")))).revision == 1


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (Target.VALUE, b"m"),
        (Target.VERSION, 2),
        (Target.CREATE_REVISION, 2),
        (Target.MOD_REVISION, 3),
        (Target.LEASE, 1),
    ],
    ids=repr,
)
def test_a_comparison_looks_at_any_fact_of_a_record(target, found):
    store = Store()
    store.do(LeaseGrant(1000))
    store.do(Put(b"k", b"a"))
    store.do(Put(b"k", b"m", lease=1))
    less, more = (b"l", b"n") if isinstance(found, bytes) else (found - 1, found + 1)

    def true_of(expected):
        return {
            relation
            for relation in Relation
            if store.do(Txn((Compare(b"k", target, relation, expected),), ())).succeeded
        }

    assert true_of(found) == {Relation.EQUAL}
    assert true_of(less) == {Relation.NOT_EQUAL, Relation.GREATER}
    assert true_of(more) == {Relation.NOT_EQUAL, Relation.LESS}


def test_a_key_that_is_not_there_has_version_0_and_no_value_to_compare():
    store = Store()

    def holds(target, relation, expected):
        return store.do(Txn((Compare(b"k", target, relation, expected),), ())).succeeded

    for target in (Target.VERSION, Target.CREATE_REVISION, Target.MOD_REVISION, Target.LEASE):
        assert holds(target, Relation.EQUAL, 0)
        assert not holds(target, Relation.GREATER, 0)
    for relation in Relation:
        assert not holds(Target.VALUE, relation, b"")


def test_one_operation_that_would_be_refused_refuses_them_all():
    store = Store(value_bytes=2, lease_keys=2)
    store.do(LeaseGrant(1000))

    assert store.refusal(Txn((), (Put(b"a", b""), Put(b"b", b"xxx")))) == RefusalCode.VALUE_LENGTH
    assert store.refusal(Txn((), (Put(b"a", b""), Put(b"", b"")))) == RefusalCode.KEY_LENGTH
    assert store.refusal(Txn((), (Put(b"a", b"", 9),))) == RefusalCode.LEASE_UNKNOWN
    three = tuple(Put(b"%d" % n, b"", 1) for n in range(3))
    assert store.refusal(Txn((), three)) == RefusalCode.LEASE_KEYS_FULL
    assert store.do(Txn((), three[:2])).succeeded
    assert len(store.machine) == 2


def test_a_mistake_in_the_list_that_is_not_done_is_refused_as_well():
    """So that it shows in the first test, and not on the day on which the comparison fails."""
    assert Store().refusal(Txn((), (), (Put(b"", b""),))) == RefusalCode.KEY_LENGTH


def test_a_key_written_twice_in_one_list_is_refused():
    store = Store()

    assert store.refusal(Txn((), (Put(b"a", b""), Delete(b"a")))) == RefusalCode.TXN_TWICE
    assert store.do(Txn((), (Put(b"a", b""),), (Delete(b"a"),))).succeeded


def test_a_list_is_bounded():
    store = Store()

    def reads(count):
        return Txn((), tuple(Get(b"a") for _ in range(count)))

    assert store.do(reads(128)).succeeded
    assert store.refusal(reads(129)) == RefusalCode.TXN_SIZE
