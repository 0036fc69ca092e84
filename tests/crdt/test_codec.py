"""Bytes from anybody: a sound state, or a clear refusal."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Timestamp
from mcpcore.crdt import AWSet, Counter, GSet, LWWRegister, Map, decode, encode
from mcpcore.errors import InvalidInput


def example() -> bytes:
    document = Map()
    document.at("s", AWSet).add("a/1", ("x", 1, None, 2.5, b"y"))
    document.at("n", Counter).add("b/1", -3)
    document.at("n", Counter).reset("a/1")
    document.at("n", Counter).add("b/1", 4)
    document.at("r", LWWRegister).set("a/1", True, Timestamp.of(7))
    return encode(document.state)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_hostile_bytes_give_a_sound_state_or_invalid_input(data):
    good = example() if data.draw(st.booleans()) else encode(GSet().add("x"))
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 2))
    hostile = good[:at] + data.draw(st.binary(max_size=3)) + good[at + cut :]
    try:
        state = decode(hostile)
    except InvalidInput:
        return
    state.check()
    assert decode(encode(state)) == state
    document = Map(state) if not isinstance(state, type(GSet().state)) else None
    for key in document or ():
        document.at(key, AWSet).elements()
        document.at(key, Counter).value()
        document.at(key, LWWRegister).conflicts()


def causal(context: object, entries: object) -> bytes:
    return msgpack.packb([1, 1, [context, entries]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        example() + b"\x00",
        b"\x91" * 5000,
        msgpack.packb([2, 0, []]),
        msgpack.packb([1, 2, []]),
        msgpack.packb([1, 0, [], 0]),
        msgpack.packb([1, 0, [b"\xa1x"]]),
        msgpack.packb([1, 0, [b"\xa1x", 0]]),
        msgpack.packb([1, 0, [b"\xa1x", -1]]),
        msgpack.packb([1, 0, [b"\xa1x", 1 << 63]]),
        msgpack.packb([1, 0, [b"\xa1y", 1, b"\xa1x", 1]]),
        msgpack.packb([1, 0, [b"\xc1", 1]]),
        msgpack.packb([1, 0, ["x", 1]]),
        msgpack.packb(msgpack.ExtType(5, b"x")),
        causal([["a", 1, 1]], [[0, 2, 0, b""]]),
        causal([["a", 1, 1]], [[1, 1, 0, b""]]),
        causal([["a", 1, 1]], [[0, 1, 9, b""]]),
        causal([["a", 1, 1]], [[0, 1, 0, b"x"]]),
        causal([["a", 1, 1]], [[0, 1, 2, b"\xc1"]]),
        causal([["a", 1, 1]], [[0, 1, 3, b"\x01"]]),
        causal([["a", 1, 1]], [[0, 1, 4, b"\x92\x01\xa1x"]]),
        causal([["a", 1, 1]], [[0, 1, 5, b"\x91\x01"]]),
        causal([["a", 1, 1]], [[0, 1, 0, b"", "text"]]),
        causal([["a", 1, 1]], [[0, 1, 0, b"", *([b"\x01"] * 65)]]),
        causal([["a", 1, 2]], [[0, 2, 0, b""], [0, 1, 0, b""]]),
    ],
)
def test_bytes_that_no_replica_writes_are_refused(data):
    with pytest.raises(InvalidInput):
        decode(data)


def test_a_state_beyond_the_size_limit_is_refused_unread():
    with pytest.raises(InvalidInput, match="at most 10"):
        decode(example(), size_bytes_max=10)


def test_a_context_of_a_trillion_events_costs_no_memory():
    state = decode(causal([["a", 1, 1 << 40]], []))
    view = AWSet()
    view.add("b/1", "mine")
    view.state.join(state)
    assert "mine" in view
    assert state.delta(view.state).is_bottom()
