"""Requests and replies: what is sent arrives, and bytes that mean nothing are refused as such."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpcore import errors
from mcpcore.errors import (
    CommandRefused,
    CoordinationError,
    InvalidInput,
    NotLeader,
    OutcomeUnknown,
    PropertyViolated,
    Rejected,
    StorageCorrupt,
    Superseded,
)
from mcpcore.node.requests import (
    MAX_WORDS,
    Op,
    Status,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary()
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
numbers = st.integers(0, 2**63 - 1)


@given(st.binary(max_size=60) | plain.map(msgpack.packb))
@example(msgpack.packb((1, {}, "main")))
@example(msgpack.packb((1, [{}], "main")))
@example(msgpack.packb((1, 1.0, "main", 1, b"")))
@example(msgpack.packb((True, 3, "")))
@settings(deadline=None)
def test_bytes_that_are_no_request_or_reply_are_invalid_input_and_nothing_else(
    payload: bytes,
) -> None:
    for decode in (decode_request, decode_reply):
        with contextlib.suppress(InvalidInput):
            decode(payload)


@given(plain, st.integers(1, 6), plain, st.lists(plain, max_size=3))
@settings(deadline=None)
def test_a_request_with_arguments_of_other_types_is_refused(
    number: object, op: int, group: object, arguments: list[object]
) -> None:
    try:
        request = decode_request(msgpack.packb((number, op, group, *arguments)))
    except InvalidInput:
        return
    assert type(request.number) is int
    assert type(request.group) is str


@given(numbers, st.text(), st.binary(), st.sampled_from([1, 3]))
@settings(deadline=None)
def test_a_request_arrives_as_it_was_sent(number: int, group: str, data: bytes, kind: int) -> None:
    assert decode_request(encode_request(number, Op.PROPOSE, group, kind, data)) == (
        number,
        Op.PROPOSE,
        group,
        (kind, data),
        "",
    )


@given(numbers, st.binary())
@settings(deadline=None)
def test_a_reply_arrives_as_it_was_sent(number: int, body: bytes) -> None:
    for status in (Status.OK, Status.EVENT):
        assert decode_reply(encode_reply(number, status, body)) == (number, status, body)


def test_an_error_arrives_with_its_class_its_words_and_its_facts() -> None:
    sent = NotLeader("main", "edge")
    arrived = decode_reply(encode_error(9, sent)).body
    assert type(arrived) is NotLeader
    assert (str(arrived), arrived.group, arrived.leader) == (str(sent), "main", "edge")


@given(st.text(st.characters(codec=None)), st.integers(), st.text(), plain)
@example("\ud800", 2**64, "x" * 100_000, None)
@settings(deadline=None)
def test_any_error_can_be_sent_whatever_its_facts(
    text: str, number: int, fact: str, other: object
) -> None:
    error = CommandRefused(fact, text)
    error.__dict__.update(number=number, other=other)
    payload = encode_error(1, error)
    assert len(payload) < 20 * MAX_WORDS
    arrived = decode_reply(payload).body
    assert type(arrived) is CommandRefused


@pytest.mark.parametrize(
    "name", ["Newer", "CoordinationError", "annotations", "__doc__", "SystemExit", "_rebuild"]
)
def test_an_error_of_a_class_unknown_here_promises_nothing(name: str) -> None:
    arrived = decode_reply(encode_reply(1, Status.ERROR, (name, "text", {}))).body
    assert type(arrived) is OutcomeUnknown
    assert name in str(arrived)


@pytest.mark.parametrize(
    "error",
    [StorageCorrupt("rot", path="p", offset=1), PropertyViolated("p", at_s=1.0, found="f")],
    ids=repr,
)
def test_an_error_that_does_not_say_whether_to_retry_promises_nothing(
    error: CoordinationError,
) -> None:
    assert type(decode_reply(encode_error(1, error)).body) is OutcomeUnknown


def test_every_error_that_answers_may_i_retry_survives_the_wire() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Rejected | OutcomeUnknown | InvalidInput)
    ]
    assert Superseded in kinds
    for kind in kinds:
        body = decode_reply(encode_reply(1, Status.ERROR, (kind.__name__, "words", {}))).body
        assert (type(body), str(body)) == (kind, "words")


def test_facts_of_a_stranger_set_attributes_and_nothing_more() -> None:
    facts = {"leader": "a", "__class__": "x", "_private": 1, "not a name": 2, "args": ("b",)}
    arrived = decode_reply(encode_reply(1, Status.ERROR, ("NotLeader", "words", facts))).body
    assert (type(arrived), arrived.leader, str(arrived)) == (NotLeader, "a", "words")
    assert not {"__class__", "_private", "not a name"} & set(vars(arrived))
