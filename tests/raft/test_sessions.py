"""Client sessions: each sequence is applied at most once, and every answer is final.

Source: Ongaro, "Consensus: Bridging Theory and Practice", section 6.3.
"""

import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.sessions import (
    SessionAnswer,
    SessionLimits,
    SessionStatus,
    SessionTable,
    close_session,
    register_session,
    session_command,
)

SMALL = SessionLimits(sessions=3, window=4, answer_bytes=40)


class Counter:
    """A machine whose answer tells how many commands came before: a second apply would show."""

    def __init__(self):
        self.applied = []

    def __call__(self, index, command):
        self.applied.append((index, command))
        return b"%d:%s" % (len(self.applied), command)


class Log:
    """A table, its machine, and the next index of the log."""

    def __init__(self, limits=SMALL):
        self.table, self.machine, self.index = SessionTable(limits), Counter(), 0

    def append(self, data):
        self.index += 1
        answer = SessionAnswer.decode(self.table.apply(self.index, data, self.machine))
        self.table.check()
        return answer

    def register(self):
        return self.append(register_session()).session

    def send(self, session, sequence, below=0, command=b"x"):
        return self.append(session_command(session, sequence, below, command))


def test_a_session_is_named_by_the_index_of_its_registration():
    log = Log()
    log.index = 41

    assert log.append(register_session())[:3] == (SessionStatus.REGISTERED, b"", 42)


def test_a_retried_command_gets_the_first_answer_and_is_not_applied_again():
    log = Log()
    session = log.register()

    first = log.send(session, 7, command=b"pay")
    second = log.send(session, 7, command=b"pay")

    assert first == second == (SessionStatus.APPLIED, b"1:pay", 0, (0, 2))
    assert log.machine.applied == [(2, b"pay")]


def test_sequences_may_arrive_out_of_order():
    log = Log()
    session = log.register()

    answers = [log.send(session, sequence).result for sequence in (3, 1, 2, 1, 3)]

    assert answers == [b"1:x", b"2:x", b"3:x", b"2:x", b"1:x"]


def test_an_acknowledged_answer_is_forgotten_and_its_command_never_applied_again():
    log = Log()
    session = log.register()
    log.send(session, 1)
    log.send(session, 2, below=2)

    late = log.send(session, 1)

    assert late.status is SessionStatus.ANSWER_NOT_KEPT
    assert len(log.machine.applied) == 2


def test_an_older_acknowledgement_that_arrives_late_takes_nothing_back():
    log = Log()
    session = log.register()
    log.send(session, 5, below=5)

    log.send(session, 6, below=0)

    assert log.send(session, 4).status is SessionStatus.ANSWER_NOT_KEPT


def test_a_sequence_that_fell_out_of_the_window_is_refused_for_good():
    log = Log()
    session = log.register()
    log.send(session, 2)
    log.send(session, 6)  # the window is 4: now 3..6

    assert log.send(session, 2).status is SessionStatus.ANSWER_NOT_KEPT
    assert log.send(session, 1).status is SessionStatus.ANSWER_NOT_KEPT
    assert log.send(session, 3).status is SessionStatus.APPLIED


def test_a_jump_over_a_whole_universe_of_sequences_costs_nothing():
    log = Log()
    session = log.register()
    log.send(session, 1)

    assert log.send(session, (1 << 63) - 1).status is SessionStatus.APPLIED
    assert log.send(session, 1).status is SessionStatus.ANSWER_NOT_KEPT


def test_answers_beyond_the_byte_limit_are_dropped_oldest_first_yet_stay_applied():
    log = Log()
    session = log.register()
    for sequence in range(3):
        log.send(session, sequence, command=b"y" * 14)

    statuses = [log.send(session, sequence).status for sequence in range(3)]

    assert statuses == [
        SessionStatus.ANSWER_NOT_KEPT,
        SessionStatus.APPLIED,
        SessionStatus.APPLIED,
    ]
    assert len(log.machine.applied) == 3


def test_the_latest_answer_is_kept_whatever_its_size():
    log = Log()
    session = log.register()

    log.send(session, 1, command=b"y" * 1000)

    assert len(log.send(session, 1).result) == 1002
    assert len(log.machine.applied) == 1


def test_a_command_of_an_unknown_session_is_refused_and_not_applied():
    log = Log()

    assert log.send(99, 1).status is SessionStatus.SESSION_EXPIRED
    assert log.machine.applied == []


def test_one_registration_too_many_expires_the_session_least_recently_used_in_the_log():
    log = Log()
    first, second, third = log.register(), log.register(), log.register()
    log.send(first, 1)

    fourth = log.register()

    assert [s in log.table for s in (first, second, third, fourth)] == [True, False, True, True]
    assert log.send(second, 1).status is SessionStatus.SESSION_EXPIRED


def test_a_retry_counts_as_use_of_its_session():
    log = Log()
    first, second, _ = log.register(), log.register(), log.register()
    log.send(first, 1)
    log.send(second, 1)
    log.send(first, 1)
    log.register()  # expires the third, never used
    log.register()

    assert first in log.table
    assert second not in log.table


def test_a_closed_session_is_gone_and_closing_it_again_is_harmless():
    log = Log()
    session = log.register()

    statuses = [log.append(close_session(session)).status for _ in range(2)]

    assert statuses == [SessionStatus.CLOSED, SessionStatus.CLOSED]
    assert log.send(session, 1).status is SessionStatus.SESSION_EXPIRED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07",
        b"\x00\x00",
        b"\x01\x00",
        session_command(1, 5, 0, b"")[:-1],
        b"\x02" + (1).to_bytes(8, "big") + (5).to_bytes(8, "big") + (6).to_bytes(8, "big"),
        b"\x02" + (1).to_bytes(8, "big") + b"\xff" * 16,
    ],
)
def test_bytes_that_are_no_session_entry_are_answered_malformed_and_change_nothing(data):
    log = Log()
    log.register()
    before = msgpack.unpackb(log.table.encode())[2]

    assert log.append(data).status is SessionStatus.MALFORMED
    assert msgpack.unpackb(log.table.encode())[2] == before == [[1, 0, []]]
    assert log.machine.applied == []


@pytest.mark.parametrize("numbers", [(0, 1, 0), (1, 1, 2), (1, -1, 0), (1 << 63, 1, 0)])
def test_numbers_that_make_no_sense_are_refused_before_they_reach_a_log(numbers):
    with pytest.raises(InvalidInput):
        session_command(*numbers, b"")
    with pytest.raises(InvalidInput):
        close_session(0)


@pytest.mark.parametrize("data", [b"", b"\x09", b"\x01abc", b"\x03x"])
def test_an_answer_that_is_none_is_refused(data):
    with pytest.raises(InvalidInput):
        SessionAnswer.decode(data)


def test_limits_must_be_positive_whole_numbers():
    with pytest.raises(InvalidInput, match=r"SessionLimits\.window"):
        SessionLimits(window=0)


def test_a_member_with_other_limits_has_another_digest():
    assert SessionTable(SMALL).digest() != SessionTable().digest()


def test_a_member_that_once_answered_otherwise_has_another_digest_for_ever():
    """A machine that diverged shows, even when its state was overwritten since."""
    logs = [Log(), Log()]
    logs[1].machine = lambda index, command: b"diverged" if index == 2 else command
    logs[0].machine = lambda index, command: command
    for log in logs:
        session = log.register()
        for sequence in range(9):
            log.send(session, sequence, below=sequence)

    assert logs[0].table.digest() != logs[1].table.digest()


# --- laws ---------------------------------------------------------------------------------------

sends = st.tuples(
    st.integers(0, 3),  # which of the sessions registered so far
    st.integers(0, 12),  # sequence
    st.integers(0, 12),  # acknowledged below, capped by the sequence
    st.sampled_from([b"", b"a", b"b" * 25]),
)
steps = st.one_of(sends, sends, sends, st.sampled_from(["register", "close"]))


def replay(log, history):
    """Append a history of steps; yields (session, sequence, answer, applied before)."""
    ids = [log.register()]
    for step in history:
        before = len(log.machine.applied)
        if step == "register":
            ids = [*ids[-3:], log.register()]
        elif step == "close":
            log.append(close_session(ids[0]))
        else:
            which, sequence, below, command = step
            session = ids[which % len(ids)]
            answer = log.send(session, sequence, min(below, sequence), command)
            yield session, sequence, answer, before


@settings(deadline=None)
@given(st.lists(steps, max_size=60))
def test_whatever_is_retried_or_reordered_every_answer_is_final(history):
    """At most one application per sequence; once answered, never applied later; one result."""
    log = Log()
    results, answered = {}, set()
    for session, sequence, answer, before in replay(log, history):
        applied = len(log.machine.applied) - before
        assert applied <= (0 if (session, sequence) in answered else 1)
        answered.add((session, sequence))
        if answer.status is SessionStatus.APPLIED:
            first = results.setdefault((session, sequence), answer.result)
            assert answer.result == first
        else:
            assert applied == 0
    assert len(results) == len(log.machine.applied)


@settings(deadline=None)
@given(st.lists(steps, max_size=40), st.lists(steps, max_size=20))
def test_a_table_read_back_from_its_bytes_goes_on_as_if_nothing_had_happened(before, after):
    log, twin = Log(), Log()
    list(replay(log, before))
    encoded = log.table.encode()
    twin.table = SessionTable.decode(encoded)
    twin.index, twin.machine.applied = log.index, list(log.machine.applied)
    assert twin.table.encode() == encoded
    assert twin.table.digest() == log.table.digest()

    assert list(replay(twin, after)) == list(replay(log, after))
    assert twin.table.encode() == log.table.encode()
    assert twin.table.digest() == log.table.digest()


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_a_table_fail_from_its_depths(data):
    with pytest.raises(InvalidInput):
        SessionTable.decode(data)
    assert SessionTable(SMALL).apply(1, data, Counter())


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_table_is_refused_or_is_a_sound_one(data):
    log = Log()
    list(replay(log, data.draw(st.lists(steps, min_size=5, max_size=20))))
    encoded = bytearray(log.table.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(InvalidInput):
        SessionTable.decode(bytes(encoded)).check()


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, []], [1, 0, []]],
        [[1, 5, [[4, b"x"]]]],
        [[0, 0, []]],
        [[1, 0, [[1, "x"]]]],
        [[1, 0, [[1, b"x"], [1, b"x"]]]],
        [[1, 0, [[n, b"x"] for n in range(5)]]],
        [[1, 0, [[1, b"x" * 41], [2, b""]]]],
        [[n, 0, []] for n in range(1, 5)],
    ],
)
def test_a_table_that_breaks_its_own_promises_is_refused(rows):
    with pytest.raises(InvalidInput, match="not a table of sessions"):
        SessionTable.decode(msgpack.packb([[3, 4, 40], 0, rows]))


def test_a_retry_is_answered_with_the_place_of_the_copy_that_was_applied():
    """A history stamped with the retry's own place would contradict the log's order."""
    log = Log()
    session = log.register()
    first = log.send(session, 1)
    log.send(session, 2)

    retried = log.send(session, 1)

    assert retried.position == first.position
    assert retried.position.index < log.index
