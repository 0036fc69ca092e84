"""Truncated entries are kept, shown, and proposed again without ever applying twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, QuarantineFull
from mcpcore.raft.custody import Dropped
from mcpcore.raft.quarantine import Quarantine, QuarantineLimits
from mcpcore.raft.quarantine_file import scan
from mcpcore.raft.quarantined import Fate
from mcpcore.raft.sessions import (
    SessionAnswer,
    SessionStatus,
    SessionTable,
    close_session,
    register_session,
    session_command,
)
from mcpcore.raft.types import Configuration, Entry, EntryKind


class Tape:
    """A device in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read(self) -> bytes:
        return self.data

    def append(self, data: bytes) -> None:
        self.data += data

    def truncate(self, size: int) -> None:
        self.data = self.data[:size]


def opened(tape: Tape, **limits) -> Quarantine:
    quarantine = Quarantine(tape, "main", "c", QuarantineLimits(**limits))
    quarantine.check()
    return quarantine


def command(index: int, sequence: int, data: bytes = b"set x", session: int = 7) -> Entry:
    return Entry(3, index, EntryKind.SESSION, session_command(session, sequence, 0, data))


def kept(quarantine: Quarantine, *entries: Entry) -> list[int]:
    dropped = [Dropped(entry, "a", "b") for entry in entries]
    items = quarantine.keep(dropped, wall_ns=1_700_000_000_000_000_000)
    quarantine.check()
    return [item.number for item in items]


# --- keeping ------------------------------------------------------------------------------------


def test_a_kept_entry_comes_back_after_a_restart_with_all_that_is_known_of_it() -> None:
    tape = Tape()
    kept(opened(tape), command(90, 4), Entry(3, 91, EntryKind.COMMAND, b"raw"))
    first, second = opened(tape).entries()
    assert first.as_dict() == {
        "number": 1,
        "term": 3,
        "index": 90,
        "kind": "session",
        "session": 7,
        "sequence": 4,
        "origin": "a",
        "replaced_by": "b",
        "wall_ns": 1_700_000_000_000_000_000,
        "covered": False,
        "fate": "kept",
        "by": "",
        "note": "",
        "data": command(90, 4).data.hex(),
    }
    assert (second.index, second.session, second.data) == (91, None, b"raw")


def test_what_is_the_protocols_own_is_noted_and_asks_for_no_decision() -> None:
    tape = Tape()
    configuration = Configuration.of(["a"]).encode()
    noop, change = Entry(3, 8, EntryKind.NOOP, b""), Entry(3, 9, EntryKind.CONFIG, configuration)
    kept(opened(tape), noop, change)
    quarantine = opened(tape)
    assert quarantine.entries() == []
    assert [item.fate for item in quarantine.entries(fate=None)] == [Fate.NOTED, Fate.NOTED]
    with pytest.raises(InvalidInput, match="means nothing outside its place"):
        quarantine.repropose(2)


def test_an_entry_that_is_handed_over_twice_is_kept_once() -> None:
    """A crash between the quarantine and the truncation hands it over again."""
    tape = Tape()
    kept(opened(tape), command(90, 4), command(91, 5))
    quarantine = opened(tape)
    quarantine.discard(1, by="eva")
    assert kept(quarantine, command(90, 4), command(91, 5), command(92, 6)) == [3]
    assert opened(tape).show(1).fate is Fate.DISCARDED


def test_what_does_not_fit_is_counted_and_said_loudly() -> None:
    tape = Tape()
    quarantine = opened(tape, max_bytes=4096)
    entries = [command(100 + n, n, bytes(1000)) for n in range(9)]
    with pytest.raises(QuarantineFull) as full:
        quarantine.keep([Dropped(entry, "a", "b") for entry in entries], wall_ns=5)
    assert (full.value.count, full.value.first_index) == (6, 103)
    again = opened(tape, max_bytes=4096)
    assert [item.index for item in again.entries()] == [100, 101, 102]
    assert again.overflows == [(6, 103, 108, 5)]
    again.discard(1, by="eva")
    smaller = opened(Tape(again.rewritten("main", "c")), max_bytes=4096)
    assert smaller.overflows == again.overflows, "what did not fit stays on record"


def test_the_file_of_another_group_is_refused() -> None:
    tape = Tape()
    opened(tape)
    with pytest.raises(InvalidInput, match="belongs to group 'main' on 'c'"):
        Quarantine(tape, "other", "c")


def test_a_file_that_is_no_quarantine_is_refused_and_left_alone() -> None:
    tape = Tape(b"somebody's letters")
    with pytest.raises(InvalidInput, match="does not begin like a quarantine"):
        opened(tape)
    assert tape.data == b"somebody's letters"


# --- damage -------------------------------------------------------------------------------------


def some_file() -> bytes:
    tape = Tape()
    quarantine = opened(tape)
    kept(quarantine, *(command(90 + n, n) for n in range(4)))
    quarantine.discard(2, by="eva")
    return tape.data


def test_wherever_a_crash_tears_the_file_the_entries_before_stay() -> None:
    whole = some_file()
    ends = []
    for size in range(len(whole) + 1):
        tape = Tape(whole[:size])
        quarantine = opened(tape)
        ends.append(len(quarantine))
        kept(quarantine, command(200, 50))
        assert not opened(tape).damage, "the torn end was cut off before anything was appended"
    assert ends == sorted(ends)
    assert ends[-1] == 4


def test_rot_in_the_middle_is_reported_and_costs_one_record() -> None:
    whole = some_file()
    for at in range(len(whole)):
        rotten = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        tape = Tape(rotten)
        quarantine = opened(tape)
        damaged = quarantine.damage[0]
        assert damaged.offset <= at < damaged.offset + damaged.size
        assert len(quarantine) >= 3
        if not damaged.torn:
            assert tape.data == rotten, "rot is not touched"


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=60))
def test_any_bytes_are_read_without_a_surprise(rubbish: bytes, more: bytes) -> None:
    for data in (rubbish, some_file() + rubbish + some_file()[:60] + more):
        bodies, damage = scan(data)
        assert sum(part.size for part in damage) <= len(data)
        assert bodies or not data or damage


# --- deciding -----------------------------------------------------------------------------------


def apply_all(entries: list[tuple[int, bytes]]) -> tuple[list[bytes], list[SessionAnswer]]:
    """What a group applied and answered, of SESSION entries at these indexes."""
    table, applied = SessionTable(), []

    def machine(index: int, data: bytes) -> bytes:
        applied.append(data)
        return b"done"

    answers = [SessionAnswer.decode(table.apply(index, data, machine)) for index, data in entries]
    return applied, answers


def test_a_command_whose_retry_came_through_meanwhile_is_not_applied_twice() -> None:
    quarantine = opened(Tape())
    (number,) = kept(quarantine, command(90, 4, b"pay 5"))
    again = quarantine.repropose(number)
    retried = session_command(7, 4, 0, b"pay 5")
    applied, answers = apply_all([(7, register_session()), (95, retried), (99, again.data)])
    assert applied == [b"pay 5"]
    assert answers[-1] == answers[-2], "the first result, again"


def test_a_command_whose_client_has_moved_on_is_not_applied_late() -> None:
    quarantine = opened(Tape())
    (number,) = kept(quarantine, command(90, 4, b"pay 5"))
    later = session_command(7, 9, 8, b"pay 6")
    applied, answers = apply_all(
        [(7, register_session()), (95, later), (99, quarantine.repropose(number).data)]
    )
    assert applied == [b"pay 6"]
    assert answers[-1].status is SessionStatus.ANSWER_NOT_KEPT


def test_a_command_that_nobody_retried_is_applied_once_however_often_it_is_proposed() -> None:
    quarantine = opened(Tape())
    (number,) = kept(quarantine, command(90, 4, b"pay 5"))
    data = quarantine.repropose(number).data
    applied, _ = apply_all([(7, register_session()), (95, data), (96, data), (97, data)])
    assert applied == [b"pay 5"]


def test_a_command_outside_a_session_is_refused_unless_twice_does_no_harm() -> None:
    quarantine = opened(Tape())
    (number,) = kept(quarantine, Entry(3, 9, EntryKind.COMMAND, b"raw"))
    with pytest.raises(InvalidInput, match="nothing keeps it from applying twice"):
        quarantine.repropose(number)
    assert quarantine.repropose(number, may_apply_twice=True).data == b"raw"


@pytest.mark.parametrize("data", [register_session(), close_session(7)])
def test_what_opens_or_closes_a_session_is_not_proposed_again(data: bytes) -> None:
    quarantine = opened(Tape())
    (number,) = kept(quarantine, Entry(3, 9, EntryKind.SESSION, data))
    with pytest.raises(InvalidInput, match="means nothing any more"):
        quarantine.repropose(number)


def test_a_decision_is_on_record_and_is_taken_once() -> None:
    tape = Tape()
    quarantine = opened(tape)
    kept(quarantine, command(90, 1), command(91, 2), command(92, 3))
    quarantine.discard(1, by="eva", note="a test")
    quarantine.reproposed(2, by="eva", note="applied at 120")
    again = opened(tape)
    assert [(item.number, item.fate) for item in again.entries(fate=None)] == [
        (1, Fate.DISCARDED),
        (2, Fate.REPROPOSED),
        (3, Fate.KEPT),
    ]
    assert [item.number for item in again.entries()] == [3]
    with pytest.raises(InvalidInput, match="it was discarded by eva"):
        again.repropose(1)
    with pytest.raises(InvalidInput, match="it was reproposed by eva"):
        again.discard(2, by="tom")


def test_a_number_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="no entry 9"):
        opened(Tape()).show(9)


def test_an_export_is_lines_of_json() -> None:
    quarantine = opened(Tape())
    kept(quarantine, command(90, 1), command(91, 2))
    lines = [json.loads(line) for line in quarantine.export().splitlines()]
    assert [line["index"] for line in lines] == [90, 91]
    assert json.loads(quarantine.export([2]))["number"] == 2


def test_a_rewritten_file_keeps_what_is_undecided_and_never_reuses_a_number() -> None:
    quarantine = opened(Tape())
    kept(quarantine, command(90, 1), command(91, 2), command(92, 3))
    quarantine.discard(3, by="eva")
    quarantine.discard(1, by="eva")
    smaller = opened(Tape(quarantine.rewritten("main", "c")))
    assert [item.number for item in smaller.entries(fate=None)] == [2]
    assert kept(smaller, command(99, 9)) == [4]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.binary(max_size=40)),
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=12),
)
def test_reading_the_file_gives_what_was_written(entries, decisions) -> None:
    tape = Tape()
    quarantine = opened(tape)
    kept(quarantine, *(Entry(t, i, EntryKind.COMMAND, data) for t, i, data in entries))
    for number, discard in decisions:
        if number <= len(entries) and quarantine.show(number).fate is Fate.KEPT:
            (quarantine.discard if discard else quarantine.reproposed)(number, by="eva")
    assert opened(tape).entries(fate=None) == quarantine.entries(fate=None)
