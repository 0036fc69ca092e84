"""What each command does, and what is refused; one sentence of docs/kv.md per test."""

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.commands import (
    CompareAndSet,
    Delete,
    DeletePrefix,
    Get,
    LeaseExpire,
    LeaseGet,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Scan,
    Watch,
    encode_command,
    encode_request,
)
from mcpcore.node.kv.machine import KeyValueMachine
from mcpcore.node.kv.records import KeyValue, KeyValueLimits, prefix_end
from mcpcore.node.kv.results import (
    Deleted,
    Found,
    LeaseFound,
    LeaseGranted,
    LeasesEnded,
    NotSwapped,
    PutDone,
    RefusalCode,
    Refused,
    Scanned,
    Swapped,
    decode_result,
)


class Store:
    """A machine that is told commands and requests instead of bytes; the log skips every 2nd."""

    def __init__(self, **limits):
        self.machine, self.index = KeyValueMachine(KeyValueLimits(**limits)), 0

    def do(self, command):
        self.index += 2
        result = decode_result(self.machine.apply(self.index, encode_command(command)))
        self.machine.check()
        return result

    def ask(self, request):
        return decode_result(self.machine.query(encode_request(request)))

    def refusal(self, command):
        before = self.machine.digest()
        result = self.do(command)
        assert isinstance(result, Refused)
        assert self.machine.digest() == before, "a refused command changes nothing"
        return result.code


def test_a_revision_is_the_log_index_of_a_change():
    store = Store()

    assert store.do(Put(b"a", b"1")) == PutDone(2)
    assert store.do(Put(b"a", b"2", want_previous=True)) == PutDone(
        4, KeyValue(b"a", b"1", 2, 2, 1)
    )
    assert store.ask(Get(b"a")) == Found(4, KeyValue(b"a", b"2", 2, 4, 2))


def test_a_key_that_comes_back_after_a_delete_starts_over():
    store = Store()
    store.do(Put(b"a", b"1"))
    assert store.do(Delete(b"a", want_previous=True)) == Deleted(
        4, 1, KeyValue(b"a", b"1", 2, 2, 1)
    )
    store.do(Put(b"a", b"2"))

    assert store.ask(Get(b"a")) == Found(6, KeyValue(b"a", b"2", 6, 6, 1))


def test_deleting_what_is_not_there_changes_nothing():
    store = Store()
    store.do(Put(b"a", b"1"))
    before = store.machine.digest()

    assert store.do(Delete(b"b")) == Deleted(2, 0)
    assert store.machine.digest() == before


def test_a_prefix_is_deleted_in_portions_and_nothing_beside_it():
    store = Store(range_records=2)
    for key in (b"a", b"b/1", b"b/2", b"b/3", b"c"):
        store.do(Put(key, b""))

    assert store.do(DeletePrefix(b"b/")) == Deleted(12, 2, None, True)
    assert store.do(DeletePrefix(b"b/")) == Deleted(14, 1, None, False)
    assert store.do(DeletePrefix(b"b/")) == Deleted(14, 0, None, False)
    assert [r.key for r in store.ask(Scan()).records] == [b"a", b"c"]


@pytest.mark.parametrize(
    ("expected", "swapped"),
    [(b"1", True), (b"2", False), (b"", False), (2, True), (1, False), (0, False), (None, False)],
)
def test_compare_and_set_looks_at_the_value_or_the_revision_or_the_absence(expected, swapped):
    store = Store()
    store.do(Put(b"a", b"1"))

    result = store.do(CompareAndSet(b"a", expected, b"new"))

    there = KeyValue(b"a", b"1", 2, 2, 1)
    assert result == (Swapped(4) if swapped else NotSwapped(2, there))
    assert store.ask(Get(b"a")).record.value == (b"new" if swapped else b"1")


@pytest.mark.parametrize(
    ("expected", "swapped"), [(None, True), (0, True), (b"", False), (3, False)]
)
def test_compare_and_set_of_an_absent_key(expected, swapped):
    store = Store()

    result = store.do(CompareAndSet(b"a", expected, b"new"))

    assert result == (Swapped(2) if swapped else NotSwapped(0, None))
    assert (store.ask(Get(b"a")).record is not None) == swapped


def test_compare_and_set_to_none_removes_the_key():
    store = Store()
    store.do(Put(b"a", b"1"))

    assert store.do(CompareAndSet(b"a", b"1", None)) == Swapped(4)
    assert store.ask(Get(b"a")) == Found(4, None)
    assert store.do(CompareAndSet(b"a", None, None)) == Swapped(4)


def test_a_scan_returns_a_range_in_the_order_of_bytes():
    store = Store()
    for key in (b"b", b"\xff", b"a", b"ab", b"a\x00"):
        store.do(Put(key, key))

    def keys(scan):
        return [record.key for record in store.ask(scan).records]

    assert keys(Scan()) == [b"a", b"a\x00", b"ab", b"b", b"\xff"]
    assert keys(Scan(b"a\x00", b"b")) == [b"a\x00", b"ab"]
    assert keys(Scan(b"b", b"a")) == []
    assert keys(Scan.of_prefix(b"a")) == [b"a", b"a\x00", b"ab"]
    assert keys(Scan.of_prefix(b"\xff")) == [b"\xff"]
    assert {r.value for r in store.ask(Scan(keys_only=True)).records} == {b""}


def test_a_scan_goes_on_where_the_last_one_ended():
    store = Store(range_records=3)
    for number in range(7):
        store.do(Put(b"%d" % number, b""))

    pages, start = [], b""
    while start is not None:
        page = store.ask(Scan(start, None, 0))
        pages.append(len(page.records))
        start = page.next_key

    assert pages == [3, 3, 1]
    assert store.ask(Scan(limit=2)).next_key == b"2"
    assert store.ask(Scan(limit=100)).next_key == b"3"


def test_a_scan_is_bounded_in_bytes_but_one_record_always_fits():
    store = Store(range_bytes=10)
    store.do(Put(b"a", b"x" * 50))
    store.do(Put(b"b", b"x" * 5))
    store.do(Put(b"c", b"x" * 3))

    assert store.ask(Scan()).next_key == b"b"
    assert store.ask(Scan(b"b")) == Scanned(
        6, (KeyValue(b"b", b"x" * 5, 4, 4, 1), KeyValue(b"c", b"x" * 3, 6, 6, 1)), None
    )


def test_ending_a_lease_removes_its_keys_at_one_revision():
    store = Store()
    assert store.do(LeaseGrant(5000)) == LeaseGranted(2, 5000)
    store.do(Put(b"b", b"", lease=2))
    store.do(Put(b"a", b"", lease=2))
    store.do(Put(b"c", b""))
    assert store.ask(LeaseGet(2)) == LeaseFound(2, 5000, (b"a", b"b"))

    assert store.do(LeaseRevoke(2)) == LeasesEnded(10, 2)
    assert [r.key for r in store.ask(Scan()).records] == [b"c"]
    assert store.ask(LeaseGet(2)).code is RefusalCode.LEASE_UNKNOWN


def test_the_changes_of_an_ending_lease_come_in_the_order_of_the_keys_on_every_member():
    store = Store()
    store.do(LeaseGrant(5000))
    for number in (7, 3, 9, 1, 8, 2, 6, 4, 5):
        store.do(Put(b"%d" % number, b"", lease=2))
    watcher = store.machine.watch.subscribe(b"", prefix=True)

    store.do(LeaseRevoke(2))

    [changes] = watcher.take()
    assert [event.record.key for event in changes.events] == [b"%d" % n for n in range(1, 10)]


def test_expiring_ends_the_leases_that_still_exist_and_ignores_the_others():
    store = Store()
    store.do(LeaseGrant(1))
    store.do(LeaseGrant(1))
    store.do(Put(b"a", b"", lease=4))

    assert store.do(LeaseExpire((99, 4, 4, 2))) == LeasesEnded(8, 1)
    assert store.do(LeaseExpire((2, 4))) == LeasesEnded(8, 0)
    assert store.do(LeaseExpire(())) == LeasesEnded(8, 0)


def test_a_put_moves_a_key_to_its_new_lease_or_off_any():
    store = Store()
    store.do(LeaseGrant(1))
    store.do(LeaseGrant(1))
    store.do(Put(b"a", b"", lease=2))
    store.do(Put(b"a", b"", lease=4))
    assert store.ask(LeaseGet(2)).keys == ()
    assert store.do(LeaseRevoke(2)) == LeasesEnded(8, 0)
    store.do(Put(b"a", b""))

    assert store.do(LeaseRevoke(4)) == LeasesEnded(12, 0)
    assert store.ask(Get(b"a")).record.lease == 0


def test_what_breaks_a_limit_is_refused_with_its_name_and_changes_nothing():
    store = Store(value_bytes=3, leases=1, lease_keys=1, lease_ttl_ms=10)
    store.do(LeaseGrant(10))
    store.do(Put(b"held", b"", lease=2))

    assert store.refusal(Put(b"", b"")) is RefusalCode.KEY_LENGTH
    assert store.refusal(Put(b"k" * 4097, b"")) is RefusalCode.KEY_LENGTH
    assert store.refusal(Put(b"a", b"1234")) is RefusalCode.VALUE_LENGTH
    assert store.refusal(CompareAndSet(b"a", None, b"1234")) is RefusalCode.VALUE_LENGTH
    assert store.refusal(CompareAndSet(b"", None, b"")) is RefusalCode.KEY_LENGTH
    assert store.refusal(Put(b"a", b"", lease=3)) is RefusalCode.LEASE_UNKNOWN
    assert store.refusal(CompareAndSet(b"a", None, b"", 3)) is RefusalCode.LEASE_UNKNOWN
    assert store.refusal(LeaseRevoke(3)) is RefusalCode.LEASE_UNKNOWN
    assert store.refusal(LeaseGrant(0)) is RefusalCode.LEASE_TTL
    assert store.refusal(LeaseGrant(11)) is RefusalCode.LEASE_TTL
    assert store.refusal(LeaseGrant(5)) is RefusalCode.LEASES_FULL
    assert store.refusal(Put(b"a", b"", lease=2)) is RefusalCode.LEASE_KEYS_FULL
    assert store.do(Put(b"held", b"123", lease=2)) == PutDone(store.index)
    assert store.do(Put(b"k" * 4096, b"")) == PutDone(store.index)


def test_what_only_a_node_can_answer_is_refused_by_the_store():
    store = Store()

    assert store.ask(LeaseKeepAlive(1)).code is RefusalCode.MALFORMED
    assert store.ask(Watch(b"a")).code is RefusalCode.MALFORMED
    assert store.ask(Scan(limit=-1)).code is RefusalCode.MALFORMED


def test_limits_must_be_positive_whole_numbers():
    with pytest.raises(InvalidInput, match=r"KeyValueLimits\.value_bytes"):
        KeyValueLimits(value_bytes=0)


def test_a_member_with_other_limits_has_another_digest_from_the_start():
    assert KeyValueMachine().digest() != KeyValueMachine(KeyValueLimits(value_bytes=5)).digest()


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"", None), (b"a\x00", b"a\x01")],
)
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix, end):
    assert prefix_end(prefix) == end
