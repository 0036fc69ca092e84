"""Bytes that come from a log or a network: read back as written, or refused, never believed."""

import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.kv import commands as c
from mcpcore.node.kv import results as r
from mcpcore.node.kv.machine import KeyValueMachine
from mcpcore.node.kv.records import Event, EventKind, KeyValue

RECORD = KeyValue(b"k", b"v", 1, 2, 2, 9)

COMMANDS = [
    c.Put(b"k", b"v", 3, True),
    c.Delete(b"k"),
    c.DeletePrefix(b"k"),
    c.CompareAndSet(b"k", None, b"v", 4),
    c.CompareAndSet(b"k", b"old", None),
    c.CompareAndSet(b"k", 7, b"v"),
    c.LeaseGrant(1000),
    c.LeaseRevoke(5),
    c.LeaseExpire((5, 6)),
    c.Txn(
        (
            c.Compare(b"k", c.Target.VALUE, c.Relation.NOT_EQUAL, b"v"),
            c.Compare.unchanged(b"k", 7),
        ),
        (c.Put(b"k", b"v", 3, True), c.Get(b"l")),
        (c.Delete(b"k", True),),
    ),
]
REQUESTS = [
    c.Get(b"k"),
    c.Scan(b"a", b"b", 5, True),
    c.Scan(),
    c.LeaseGet(5),
    c.LeaseKeepAlive(5),
    c.Watch(b"k", True, 7),
    c.Watch(b"k"),
]
RESULTS = [
    r.PutDone(1),
    r.PutDone(1, RECORD),
    r.Deleted(1, 2, RECORD, True),
    r.Swapped(1),
    r.NotSwapped(1, RECORD),
    r.NotSwapped(1, None),
    r.LeaseGranted(1, 2),
    r.LeasesEnded(1, 2),
    r.Found(1, RECORD),
    r.Found(1, None),
    r.Scanned(1, (RECORD, RECORD), b"next"),
    r.LeaseFound(1, 2, (b"a", b"b")),
    r.LeaseAlive(1, 2),
    r.Changes(4, (Event(EventKind.PUT, RECORD, 1), Event(EventKind.DELETE, RECORD, 0))),
    r.Compacted(3),
    r.TooSlow(3),
    r.Refused(r.RefusalCode.LEASE_TTL, "no"),
    r.TxnDone(4, True, (r.PutDone(4, RECORD), r.Deleted(4, 0), r.Found(4, None))),
]


def same(left, right):
    return left == right and type(left) is type(right)


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
def test_a_command_is_read_as_it_was_written(command):
    assert same(c.decode_command(c.encode_command(command)), command)


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_request_is_read_as_it_was_written(request_):
    assert same(c.decode_request(c.encode_request(request_)), request_)


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_a_result_is_read_as_it_was_written(result):
    read = r.decode_result(r.encode_result(result))

    assert same(read, result)
    for left, right in zip(read, result, strict=True):
        assert same(left, right)


def test_every_kind_of_message_is_in_these_lists():
    assert {type(x) for x in COMMANDS} == set(c.Command.__args__)
    assert {type(x) for x in REQUESTS} == set(c.Request.__args__)
    assert {type(x) for x in RESULTS} == set(r.Result.__args__)


def test_tags_are_for_ever_since_they_stand_in_logs():
    tags = [msgpack.unpackb(c.encode_command(command))[0] for command in COMMANDS]

    assert tags == [1, 2, 3, 4, 4, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "command",
    [
        c.Put("k", b"v"),
        c.Put(b"k", b"v", "1"),
        c.Put(b"k", b"v", True),
        c.Put(b"k", b"v", 1 << 70),
        c.LeaseExpire((1, b"2", object)),
        c.Get(b"k"),
        c.Txn((), (c.Put(b"k", "v"),)),
        c.Txn((), (c.LeaseRevoke(1),)),
        c.Txn((), (), (c.Txn((), ()),)),
        c.Txn((b"k",), ()),
        c.Txn((c.Compare(b"k", c.Target.VALUE, c.Relation.EQUAL, 5),), ()),
        c.Txn((c.Compare(b"k", c.Target.VERSION, 9, 5),), ()),
        c.Txn([], ()),
        None,
    ],
    ids=repr,
)
def test_a_command_with_a_field_of_the_wrong_type_is_refused_at_the_door(command):
    with pytest.raises(InvalidInput):
        c.encode_command(command)


HOSTILE = [
    b"",
    b"\xc1",
    b"\x91",
    msgpack.packb([]),
    msgpack.packb({}),
    msgpack.packb(1),
    msgpack.packb([True, b"k", b"v", 0, False]),
    msgpack.packb([1.0, b"k", b"v", 0, False]),
    msgpack.packb([1]),
    msgpack.packb([1, "k", b"v", 0, False]),
    msgpack.packb([1, b"k", b"v", 0, 0]),
    msgpack.packb([1, b"k", b"v", 0, False, 1]),
    msgpack.packb([[1], b"k"]),
    msgpack.packb([{1: 2}, b"k"]),
    msgpack.packb([7, [1, b"2"]]),
    msgpack.packb([8, [[b"k", 0, 0, 5]], [], []]),
    msgpack.packb([8, [[b"k", 9, 0, 5]], [], []]),
    msgpack.packb([8, [], [[2, b"k"]], []]),
    msgpack.packb([8, [], [7], []]),
    msgpack.packb([8, [], [[8, [], [], []]], []]),
    msgpack.packb([99]),
    msgpack.packb([1, b"k", b"v", 0, False]) + b"\x00",
    b"\x91" * 2000,
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:20]))
def test_hostile_bytes_are_a_refusal_and_change_nothing(data):
    machine = KeyValueMachine()
    before = machine.digest()

    answers = [machine.apply(5, data), machine.query(data)]

    for answer in answers:
        assert r.decode_result(answer).code is r.RefusalCode.MALFORMED
    assert machine.digest() == before
    with pytest.raises(InvalidInput):
        r.decode_result(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.binary(max_size=3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 15), st.lists(anything, max_size=6))
def test_no_array_whatever_makes_the_machine_fail_from_its_depths(tag, fields):
    machine = KeyValueMachine()
    data = msgpack.packb([tag, *fields])

    r.decode_result(machine.apply(1, data))
    r.decode_result(machine.query(data))
    machine.check()
    with contextlib.suppress(InvalidInput):
        r.decode_result(data)
