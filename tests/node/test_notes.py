"""Notes between nodes: bytes in, bytes out, and nothing believed."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.notes import (
    Confirmed,
    DigestTaken,
    DigestWanted,
    FoundingAnswered,
    FoundingAsked,
    Note,
    Said,
    Traced,
    ViewTold,
    from_rows,
    to_rows,
)

indexes = st.integers(1, 2**63 - 1)
notes = st.one_of(
    st.builds(FoundingAsked, st.text()),
    st.builds(FoundingAnswered, st.text(), st.sampled_from(range(3)), st.text(), st.text()),
    st.builds(DigestWanted, st.text(), indexes),
    st.builds(DigestTaken, st.text(), indexes, st.binary(min_size=1, max_size=32)),
    st.lists(st.tuples(st.text(), indexes, indexes), min_size=1, max_size=5).map(
        lambda rows: Confirmed(*zip(*rows, strict=True))
    ),
    st.builds(
        ViewTold, st.text(), indexes, st.text(), indexes, indexes, indexes, asks=st.booleans()
    ),
    st.builds(Said, st.text(), st.binary()),
    st.builds(Traced, st.text(), indexes, indexes, st.text()),
)
words = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text()


def over_the_wire(rows: object) -> object:
    return msgpack.unpackb(msgpack.packb(rows), use_list=False)


@given(st.lists(notes))
@settings(deadline=None)
def test_what_is_written_is_read(written: list[Note]) -> None:
    assert from_rows(over_the_wire(to_rows(written))) == written


@given(st.lists(st.lists(words, max_size=5) | words, max_size=4) | words)
@settings(deadline=None)
def test_what_is_no_note_is_invalid_input_and_nothing_else(rows: object) -> None:
    with suppress(InvalidInput):
        from_rows(over_the_wire(rows))


def test_a_kind_of_a_later_version_is_skipped() -> None:
    assert from_rows(((99, "from", "the", "future"), (1, "main"))) == [FoundingAsked("main")]


@pytest.mark.parametrize(
    "row",
    [
        (3, "main", 0),
        (3, "main", -1),
        (3, "main", True),
        (4, "main", 7, b""),
        (4, "main", 7, b"x" * 33),
        (4, "main", 2**63, b"x"),
        (2, "main", 3, "", ""),
        (2, "main", True, "", ""),
        (5, "basket", "text"),
        (1,),
        (1, b"main"),
    ],
)
def test_a_note_that_no_correct_node_writes_is_refused(row: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInput):
        from_rows((row,))


@pytest.mark.parametrize(
    "columns",
    [
        ((), (), ()),
        (("g",), (1, 2), (1,)),
        ((1,), (1,), (1,)),
        (("g",), (-1,), (1,)),
        (("g",), (True,), (1,)),
        (("g",) * 1025, (1,) * 1025, (1,) * 1025),
    ],
)
def test_columns_that_do_not_fit_each_other_are_refused(columns: object) -> None:
    with pytest.raises(InvalidInput):
        from_rows(over_the_wire([(7, *columns)]))  # type: ignore[misc]
