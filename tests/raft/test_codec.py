"""Messages as rows: every message survives the trip, and no garbage gets further than a refusal."""

from __future__ import annotations

import typing
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft import messages
from mcpcore.raft.codec import from_row, to_row
from mcpcore.raft.messages import (
    Append,
    Message,
    SnapshotOffer,
    SnapshotReply,
    Vote,
)
from mcpcore.raft.types import MAX_UINT, Block, Configuration, Entry, EntryKind, Member
from tests.raft.member import append, entries

uints = st.integers(0, MAX_UINT)
names = st.frozensets(st.text(max_size=4), max_size=4)
facts = st.builds(
    Member, st.text(max_size=8), st.text(max_size=3), st.text(max_size=16), st.booleans(), uints
)


@st.composite
def configurations(draw):
    """Any that keeps its own rules."""
    voters, outgoing, others = draw(names), draw(names), draw(names)
    outgoing = outgoing if voters else frozenset()
    about = {name: draw(facts) for name in draw(names) & (voters | outgoing | others)}
    joint = bool(outgoing)
    return Configuration(
        voters,
        outgoing,
        others - voters - outgoing,
        draw(st.sampled_from([frozenset(), outgoing - voters])),
        joint and draw(st.booleans()),
        about,
        1,
    )


@st.composite
def blocks(draw, first: int | None = None, term: int = 1):
    """Consecutive entries with terms that never go back."""
    first = draw(st.integers(1, MAX_UINT - 10)) if first is None else first
    made = []
    for index in range(first, first + draw(st.integers(0, 5))):
        term += draw(st.integers(0, 2))
        kind = draw(st.sampled_from(EntryKind))
        data = draw(configurations()).encode() if kind is EntryKind.CONFIG else draw(st.binary())
        made.append(Entry(term, index, int(kind), data))
    return Block(tuple(made))


@st.composite
def appends(draw):
    prev_term, prev_index = draw(st.integers(1, 50)), draw(st.integers(0, MAX_UINT - 20))
    block = draw(blocks(prev_index + 1, prev_term))
    term = draw(st.integers(prev_term + 20, MAX_UINT))
    rest = [draw(uints) for _ in range(3)]
    return Append(term, draw(uints), prev_term, prev_index, block, *rest)


VALUES = {bool: st.booleans(), int: uints, bytes: st.binary(), Block: blocks()}


def plain(kind: type[Message]):
    hints = typing.get_type_hints(kind).values()
    made = st.builds(kind, *[VALUES[hint] for hint in hints])
    if kind is SnapshotReply:
        return st.builds(lambda m, status: m._replace(status=status), made, st.integers(0, 3))
    if kind is SnapshotOffer:
        return st.builds(
            lambda m, term, last: m._replace(term=term + last, last_term=last, last_index=last),
            made,
            st.integers(0, 9),
            st.integers(1, 9),
        )
    return made


KINDS = list(typing.get_args(messages.Message))
any_message = st.one_of([appends() if kind is Append else plain(kind) for kind in KINDS])


@settings(deadline=None, max_examples=150)
@given(any_message)
def test_every_message_survives_the_wire(message: Message) -> None:
    wire = msgpack.packb(to_row(message))
    back = from_row(msgpack.unpackb(wire, use_list=False))
    assert back == message
    assert type(back) is type(message)
    assert msgpack.packb(to_row(back)) == wire, "the very same bytes go on to the disk"


def test_every_kind_of_message_has_a_tag_that_never_changes() -> None:
    """Peers of different versions speak to each other: renumbering would cross their words."""
    tags = {}
    for kind in KINDS:
        fields = typing.get_type_hints(kind).items()
        message = (
            append(1)
            if kind is Append
            else kind(*[Block(()) if hint is Block else hint() for _, hint in fields])
        )
        if kind is SnapshotOffer:
            message = message._replace(term=1, last_term=1, last_index=1)
        tags[kind.__name__] = to_row(message)[0]
    assert tags == {
        "Append": 1,
        "AppendReply": 2,
        "Heartbeat": 3,
        "HeartbeatReply": 4,
        "PreVote": 5,
        "PreVoteReply": 6,
        "Vote": 7,
        "VoteReply": 8,
        "TimeoutNow": 9,
        "ReadIndex": 10,
        "ReadIndexReply": 11,
        "SnapshotOffer": 30,
        "SnapshotChunk": 31,
        "SnapshotReply": 32,
        "SnapshotAsk": 33,
        "Rest": 20,
        "Awake": 21,
        "Recall": 22,
        "RecallReply": 23,
        "ReunionHeld": 28,
        "ReunionNeeded": 29,
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | uints | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(anything | st.lists(anything, max_size=9).map(lambda rest: (1, *rest)))
def test_a_garbage_row_is_refused_and_nothing_worse(row: object) -> None:
    try:
        message = from_row(row)
    except InvalidInput:
        return
    assert from_row(to_row(message)) == message


@settings(deadline=None, max_examples=150)
@given(any_message, st.data())
def test_a_message_with_one_damaged_field_is_refused_or_a_message(message, data) -> None:
    row = list(to_row(message))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(anything)
    try:
        again = from_row(tuple(row))
    except InvalidInput:
        return
    assert from_row(to_row(again)) == again


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60))
def test_garbage_bytes_are_no_block(encoded: bytes) -> None:
    with suppress(InvalidInput):
        Block.decode(encoded)


@settings(deadline=None, max_examples=150)
@given(anything | st.lists(st.tuples(anything, anything, anything, anything), max_size=3))
def test_well_packed_nonsense_is_no_block(rows: object) -> None:
    try:
        block = Block.decode(msgpack.packb(rows))
    except InvalidInput:
        return
    assert all(type(entry.kind) is int for entry in block.entries)


@pytest.mark.parametrize("kind", [{}, (), True, 1.0, None, "1", 9, -1])
def test_the_kind_of_an_entry_is_one_of_the_known_numbers(kind: object) -> None:
    with pytest.raises(InvalidInput, match="malformed entry"):
        Block.decode(msgpack.packb([[1, 1, kind, b""]]))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1, 1, 1, b""], [1, 3, 1, b""]], "after index 1"),
        ([[2, 1, 1, b""], [1, 2, 1, b""]], "after index 1"),
        ([[1, 0, 1, b""]], "malformed"),
        ([[1, 1, 1, "text"]], "malformed"),
        ([[1, 1, 1]], "an entry must be"),
        ({}, "must be an array"),
        ([[1, 1, 2, b"\x93\x90\x90"]], "not a configuration"),
        ([[1, 1, 2, b"\x93\x91\x01\x90\x90"]], "names must be strings"),
        ([[1, 1, 2, b""]], "not a configuration"),
    ],
)
def test_a_block_that_no_leader_writes_is_refused(rows: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Block.decode(msgpack.packb(rows))


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize(
    "damage",
    [
        {"term": 0},
        {"term": -1},
        {"term": True},
        {"term": 2.0},
        {"term": MAX_UINT + 1},
        {"index": 99},
        {"index": 1.0},
        {"index": None},
        {"kind": 9},
        {"kind": True},
        {"kind": 2},  # a configuration, of bytes that are none
        {"data": "text"},
        {"data": None},
        {"more": 1},
    ],
    ids=str,
)
def test_one_damaged_entry_among_many_sound_ones_is_refused(
    damage: dict[str, object], at: int
) -> None:
    """Long blocks are looked at by columns, and short ones by rows: neither lets anything pass."""
    rows = [[2, index, 1, b"data"] for index in range(7, 13)]
    Block.decode(msgpack.packb(rows))
    sound = dict(zip(("term", "index", "kind", "data"), rows[at], strict=True))
    rows[at] = list((sound | damage).values())
    if damage == {"term": 0} and at == 0:
        Block.decode(msgpack.packb(rows))  # terms may rise
        return
    with pytest.raises(InvalidInput):
        Block.decode(msgpack.packb(rows))


def test_a_long_block_may_span_terms_and_hold_a_configuration() -> None:
    configuration = Configuration.of("abc").encode()
    rows = [(1, 5, 0, b""), (1, 6, 1, b"x"), (2, 7, 2, configuration), (3, 8, 3, b"y")]
    block = Block.decode(msgpack.packb(rows))
    assert block.entries == tuple(rows)
    assert block.reconfigures
    assert block.data_bytes == 2 + len(configuration)
    assert not Block.decode(
        msgpack.packb([(1, index, 1, b"") for index in range(1, 6)])
    ).reconfigures


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "array"),
        ((), "array"),
        ([3, 1, 1, 1, 1, 1, 1], "array"),
        ((True,), "array"),
        ((99, 1), "unknown message tag 99"),
        ((9,), "TimeoutNow needs 1 fields, not 0"),
        ((9, -1), "TimeoutNow holds a field"),
        ((9, MAX_UINT + 1), "TimeoutNow holds a field"),
        ((9, True), "TimeoutNow holds a field"),
        ((7, 1, 1, 1, 1), "Vote holds a field that is no bool"),
        ((30, 3, 1, 1, 4, 9, b"", 1, 1), "of a later term|cannot be offered in term 3"),
        ((30, 3, 1, 1, 3, 0, b"", 1, 1), "cannot be offered"),
        ((31, 3, 1, 1, 0, "text", 1, 1, 1), "SnapshotChunk holds a field that is no bytes"),
        ((32, 3, 1, 1, 4, 0, 0, b"", 1), "unknown status 4"),
    ],
)
def test_a_refusal_says_what_is_wrong(row: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        from_row(row)


def test_entries_must_follow_the_position_they_are_sent_after() -> None:
    """Raft §5.3: no hole, no earlier term, no term beyond the sender's."""
    ask = append(5, prev=(3, 7), terms=[3, 5])
    for change in (
        {"prev_index": 8},
        {"prev_index": 6},
        {"prev_term": 4},
        {"term": 4},
    ):
        with pytest.raises(InvalidInput):
            from_row(to_row(ask._replace(**change)))


@settings(deadline=None)
@given(configurations())
def test_a_configuration_survives_and_equal_ones_have_equal_bytes(configuration) -> None:
    again = Configuration.decode(configuration.encode())
    assert again == configuration
    assert again.encode() == configuration.encode()


def test_a_block_is_encoded_once_and_keeps_the_bytes_it_came_as() -> None:
    block = Block(entries([1, 2]))
    assert block.encoded is block.encoded
    assert Block.decode(block.encoded).encoded is block.encoded or (
        Block.decode(block.encoded).encoded == block.encoded
    )
    assert repr(block) == "Block(1..2, term 1..2)"


def test_a_vote_is_a_plain_row() -> None:
    assert to_row(Vote(7, 3, 12, True)) == (7, 7, 3, 12, True)
