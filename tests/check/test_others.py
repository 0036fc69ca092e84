"""Sets, queues, counters, banks, ids, forks, sessions, causality, replicas, sagas, clocks."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.check.causal import check_causal
from mcpcore.check.clocks import check_clock_order
from mcpcore.check.history import FaultWindow, History, LogPosition, Recorder
from mcpcore.check.judges import JUDGES, Options, judge
from mcpcore.check.linear import check_linearizable
from mcpcore.check.long_fork import check_long_fork
from mcpcore.check.models import Register
from mcpcore.check.numbers import check_bank, check_counter, check_unique_ids
from mcpcore.check.queues import check_queue, check_total_queue
from mcpcore.check.replicas import check_convergence
from mcpcore.check.sagas import check_sagas
from mcpcore.check.sessions import check_sessions
from mcpcore.check.sets import check_set, check_set_full
from mcpcore.check.verdict import Verdict
from mcpcore.errors import InvalidInput
from tests.check.histories import in_turn, told, true_history

INVOKE, OK = "invoke", "ok"


def _call(process: int, function: str, value: Any = None) -> tuple[Any, ...]:
    return (process, INVOKE, function, value)


def _done(process: int, function: str, value: Any = None) -> tuple[Any, ...]:
    return (process, OK, function, value)


# --- set and set-full ---------------------------------------------------------------------------

A, A_OK = _call(0, "add", 0), _done(0, "add", 0)
R, R_SEEN, R_MISSED = _call(1, "read"), _done(1, "read", [0]), _done(1, "read", [])


def test_a_set_that_lost_an_acknowledged_element_is_refused() -> None:
    judgement = check_set(told(A, A_OK, R, R_MISSED))
    assert judgement.kinds == {"lost"}
    assert judgement.facts["lost"] == {0}


def test_a_set_with_an_element_that_nobody_added_is_refused() -> None:
    assert check_set(told(R, R_SEEN)).kinds == {"unexpected"}


def test_an_element_whose_add_was_unknown_may_be_recovered() -> None:
    judgement = check_set(told(A, (0, "unknown", "add", 0), R, R_SEEN))
    assert judgement.ok
    assert judgement.facts["recovered"] == {0}


def test_a_set_that_was_never_read_is_unknown() -> None:
    assert check_set(told(A, A_OK)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("events", "verdict", "outcome"),
    [
        ([A, A_OK], Verdict.UNKNOWN, "never_read"),
        ([A, R, R_MISSED], Verdict.UNKNOWN, "never_read"),
        ([R, A, R_SEEN, A_OK], Verdict.OK, "stable"),
        ([R, A, A_OK, R_SEEN], Verdict.OK, "stable"),
        ([A, R, R_SEEN, A_OK], Verdict.OK, "stable"),
        ([A, R, A_OK, R_SEEN], Verdict.OK, "stable"),
        ([A, A_OK, R, R_SEEN], Verdict.OK, "stable"),
        ([A, A_OK, R, R_MISSED], Verdict.VIOLATED, "lost"),
        # A concurrent read may have come before the add.
        ([R, A, R_MISSED, A_OK], Verdict.UNKNOWN, "never_read"),
        ([R, A, A_OK, R_MISSED], Verdict.UNKNOWN, "never_read"),
        ([A, R, R_MISSED, A_OK], Verdict.UNKNOWN, "never_read"),
        ([A, R, A_OK, R_MISSED], Verdict.UNKNOWN, "never_read"),
        # Seen, and gone before the add even returned.
        ([A, R, R_SEEN, R, R_MISSED, A_OK], Verdict.VIOLATED, "lost"),
    ],
)
def test_what_becomes_of_one_element(
    events: list[tuple[Any, ...]], verdict: Verdict, outcome: str
) -> None:
    judgement = check_set_full(told(*events))
    assert judgement.verdict is verdict
    assert judgement.facts[outcome] == {0}


def test_an_element_that_goes_missing_and_comes_back_is_stale() -> None:
    """0 is lost after it was seen; 1 is known early, is missed once, and comes back."""
    history = told(
        A,
        A_OK,
        _call(1, "add", 1),
        _call(2, "read"),
        _done(2, "read", [1]),
        _done(1, "add", 1),
        _call(2, "read"),
        _call(3, "read"),
        _done(3, "read", [1]),
        _done(2, "read", [0]),
    )
    judgement = check_set_full(history)
    assert judgement.facts["lost"] == {0}
    assert judgement.facts["stale"] == {1}
    assert judgement.facts["stable_latencies_ns"][1.0] == 2001
    assert "stale" in check_set_full(history, linearizable=True).kinds


def test_an_element_twice_in_one_read_is_refused() -> None:
    history = told(A, A_OK, R, _done(1, "read", [0, 0]))
    assert check_set_full(history).kinds == {"duplicated"}


# --- queues -------------------------------------------------------------------------------------


def test_a_dequeue_may_overlap_its_enqueue_but_not_precede_it() -> None:
    overlap = told(_call(2, "dequeue"), _call(1, "enqueue", 1), _done(2, "dequeue", 1))
    assert check_queue(overlap).ok
    nowhere = told(_call(2, "dequeue"), _done(2, "dequeue", 1), _call(1, "enqueue", 1))
    assert check_queue(nowhere).kinds == {"from-nowhere"}
    twice = in_turn((0, "enqueue", 1, 1), (0, "dequeue", None, 1), (0, "dequeue", None, 1))
    assert check_queue(twice).kinds == {"from-nowhere"}


def test_a_queue_that_loses_invents_and_repeats_is_told_apart() -> None:
    """The pathological case of Jepsen's own test: hung, enqueued, dup, wtf."""
    judgement = check_total_queue(
        told(
            _call(1, "enqueue", "hung"),
            _call(2, "enqueue", "enqueued"),
            _done(2, "enqueue", "enqueued"),
            _call(3, "enqueue", "dup"),
            _done(3, "enqueue", "dup"),
            _call(4, "dequeue"),
            _call(5, "dequeue"),
            _done(5, "dequeue", "wtf"),
            _call(6, "dequeue"),
            _done(6, "dequeue", "dup"),
            _call(7, "dequeue"),
            _done(7, "dequeue", "dup"),
        )
    )
    assert judgement.kinds == {"lost", "unexpected"}
    assert judgement.facts["lost"] == {"enqueued": 1}
    assert judgement.facts["unexpected"] == {"wtf": 1}
    assert judgement.facts["duplicated"] == {"dup": 1}
    assert judgement.facts["recovered"] == {}


def test_a_drain_counts_as_many_dequeues_and_a_recovered_element_is_fine() -> None:
    history = told(
        _call(0, "enqueue", 1),
        _call(1, "enqueue", 2),
        _done(1, "enqueue", 2),
        _call(2, "drain"),
        _done(2, "drain", [1, 2]),
    )
    judgement = check_total_queue(history)
    assert judgement.ok
    assert judgement.facts["recovered"] == {1: 1}


# --- counter, bank, ids -------------------------------------------------------------------------


def test_counter_reads_lie_between_what_is_sure_and_what_was_tried() -> None:
    history = told(
        _call(0, "read"),
        _call(1, "add", 1),
        _done(0, "read", 0),
        _call(0, "read"),
        _done(1, "add", 1),
        _call(1, "add", 2),
        _done(0, "read", 3),
        _call(0, "read"),
        _done(1, "add", 2),
        _done(0, "read", 5),
    )
    judgement = check_counter(history)
    assert judgement.facts["reads"] == [(0, 0, 1), (0, 3, 3), (1, 5, 3)]
    assert judgement.facts["errors"] == [(1, 5, 3)]


def test_a_failed_add_never_counts_and_an_unknown_one_may() -> None:
    failed = told(_call(0, "add", 1), (0, "fail", "add", 1), _call(1, "read"), _done(1, "read", 1))
    assert not check_counter(failed).ok
    lost = told(_call(0, "add", 1), (0, "unknown", "add", 1), _call(1, "read"), _done(1, "read", 1))
    assert check_counter(lost).ok


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_a_counter_that_also_counts_down_is_never_accused(seed: int) -> None:
    assert check_counter(true_history("counter", Random(seed), 60)).ok


def test_a_bank_must_keep_its_total_and_its_accounts() -> None:
    good = in_turn((0, "read", None, {"a": 6, "b": 4}), (0, "read", None, {"a": 1, "b": 9}))
    assert check_bank(good).ok
    cases: list[tuple[Any, str]] = [
        ({"a": 6, "b": 5}, "wrong-total"),
        ({"a": -1, "b": 11}, "negative-value"),
        ({"a": None, "b": 10}, "nil-balance"),
        ({"a": 6, "c": 4}, "unexpected-key"),
    ]
    for balances, kind in cases:
        judgement = check_bank(in_turn((0, "read", None, balances)), total=10, accounts=["a", "b"])
        assert judgement.kinds == {kind}
    below = in_turn((0, "read", None, {"a": -1, "b": 11}))
    assert check_bank(below, total=10, negative_balances=True).ok


def test_no_id_is_given_twice() -> None:
    history = in_turn((0, "generate", None, 7), (1, "generate", None, 8), (2, "generate", None, 7))
    judgement = check_unique_ids(history)
    assert judgement.kinds == {"duplicated"}
    assert judgement.facts["duplicated"] == {7: 2}


# --- long fork ----------------------------------------------------------------------------------


def _txn(*steps: tuple[Any, ...]) -> tuple[Any, ...]:
    content = [list(step) for step in steps]
    return (0, "txn", content, content)


def test_two_reads_that_each_saw_what_the_other_did_not_are_a_long_fork() -> None:
    history = in_turn(
        _txn(("w", "x", 1)),
        _txn(("w", "y", 1)),
        _txn(("r", "x", None), ("r", "y", 1)),
        _txn(("r", "x", 1), ("r", "y", None)),
        _txn(("r", "x", 1), ("r", "y", 1)),
    )
    judgement = check_long_fork(history)
    assert judgement.kinds == {"long-fork"}
    assert "operation 2 saw the write of 'y' but not of 'x'" in judgement.findings[0].text


def test_reads_that_form_a_chain_are_no_fork() -> None:
    history = in_turn(
        _txn(("r", "x", None), ("r", "y", None)),
        _txn(("r", "x", 1), ("r", "y", None)),
        _txn(("r", "x", 1), ("r", "y", 1)),
    )
    assert check_long_fork(history).ok


def test_a_key_written_twice_makes_a_long_fork_undecidable() -> None:
    history = in_turn(_txn(("w", "x", 1)), _txn(("w", "x", 2)), _txn(("r", "x", 1), ("r", "y", 1)))
    assert check_long_fork(history).verdict is Verdict.UNKNOWN


# --- sessions and causality ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "broken"),
    [
        ([(0, "write", 1, 1), (1, "read", None, 1), (1, "read", None, None)], "monotonic-reads"),
        ([(0, "write", 1, 1), (0, "read", None, None)], "read-your-writes"),
        (
            # Two readers see one client's writes in one order, and it made them in the other.
            [(0, "write", 1, 1), (0, "write", 2, 2)],
            "monotonic-writes",
        ),
        ([(0, "write", 1, 1), (1, "read", None, 1), (1, "write", 2, 2)], "writes-follow-reads"),
    ],
)
def test_each_session_guarantee_is_broken_by_its_own_history(
    operations: list[tuple[Any, ...]], broken: str
) -> None:
    newest_first = {2: 0, 1: 1}  # the store ended up ordering version 2 before version 1
    rank = (
        newest_first.__getitem__ if broken in ("monotonic-writes", "writes-follow-reads") else None
    )
    judgement = check_sessions(in_turn(*operations), rank=rank)
    assert judgement.kinds == {broken}
    assert judgement.facts["broken"] == [broken]


def test_two_clients_that_read_two_versions_in_opposite_orders_break_monotonic_reads() -> None:
    history = in_turn(
        (0, "write", 1, 1),
        (1, "write", 2, 2),
        (2, "read", None, 1),
        (2, "read", None, 2),
        (3, "read", None, 2),
        (3, "read", None, 1),
    )
    judgement = check_sessions(history)
    assert judgement.kinds == {"monotonic-reads"}
    assert "process 2 read 1 and then read 2" in judgement.findings[0].text
    assert judgement.facts["holds"] == [
        "monotonic-writes",
        "read-your-writes",
        "writes-follow-reads",
    ]


def test_the_log_orders_versions_where_operations_carry_positions() -> None:
    history = in_turn((0, "write", 1, 1), (0, "write", 2, 2))
    swapped = history.placed(
        {0: LogPosition("g", 1, 9), 1: LogPosition("g", 1, 8)}, log_is_complete=True
    )
    assert check_sessions(history).ok
    assert check_sessions(swapped).kinds == {"monotonic-writes"}


def test_reading_an_overwritten_version_that_was_causally_known_is_refused() -> None:
    history = in_turn(
        (0, "write", 1, 1),
        (0, "write", 2, 2),
        (1, "read", None, 2),
        (1, "read", None, 1),
    )
    judgement = check_causal(history)
    assert judgement.kinds == {"overwritten-read"}
    assert not judgement.facts["causal"]


def test_independent_writes_seen_in_two_orders_are_causal_but_do_not_converge() -> None:
    history = in_turn(
        (0, "write", 1, 1),
        (1, "write", 2, 2),
        (2, "read", None, 1),
        (2, "read", None, 2),
        (3, "read", None, 2),
        (3, "read", None, 1),
    )
    judgement = check_causal(history)
    assert judgement.kinds == {"cyclic-conflict"}
    assert judgement.facts["causal"]
    assert not judgement.facts["convergent"]


def test_reading_the_initial_state_after_a_known_write_is_refused() -> None:
    history = in_turn((0, "write", 1, 1), (1, "read", None, 1), (1, "read", None, None))
    assert check_causal(history).kinds == {"overwritten-read"}


def test_an_effect_that_causes_its_own_cause_is_refused() -> None:
    recorder = Recorder()
    for process, reads, read, writes, written in ((0, "y", 2, "x", 1), (1, "x", 1, "y", 2)):
        recorder.invoke(process, "read", key=reads)
        recorder.ok(process, read)
        recorder.invoke(process, "write", written, key=writes)
        recorder.ok(process, written)
    judgement = check_causal(recorder.history())
    assert judgement.kinds == {"cyclic-causality"}


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_a_linearizable_register_keeps_every_weaker_promise(seed: int) -> None:
    history = _unique_writes(Random(seed))
    assert check_linearizable(history, Register()).ok
    assert check_sessions(history).ok
    assert check_causal(history).ok


def _unique_writes(random: Random) -> History:
    recorder, held, fresh = Recorder(), None, 0
    pending: dict[int, tuple[str, Any]] = {}
    for _ in range(60):
        process = random.randrange(4)
        if process in pending:
            function, value = pending.pop(process)
            if function == "write":
                held = value
            recorder.ok(process, held if function == "read" else value)
        else:
            fresh += 1
            function = random.choice(["read", "write"])
            value = fresh if function == "write" else None
            recorder.invoke(process, function, value)
            pending[process] = (function, value)
    return recorder.history()


# --- replicas, sagas, clocks --------------------------------------------------------------------


def _observed(*seen: tuple[int, str, Any], faults: tuple[FaultWindow, ...] = ()) -> History:
    recorder = Recorder()
    for at_ns, replica, state in seen:
        recorder.invoke(0, "observe", key=replica, time_ns=at_ns)
        recorder.ok(0, state, time_ns=at_ns)
    history = recorder.history()
    return History(history.operations, faults)


def test_replicas_that_end_differently_diverged() -> None:
    judgement = check_convergence(_observed((1, "a", {1}), (2, "b", {1, 2})))
    assert judgement.kinds == {"diverged"}


def test_convergence_is_measured_from_healing_and_held_to_its_bound() -> None:
    heal = (FaultWindow("partition", 0, 1_000_000),)
    history = _observed(
        (2_000_000, "a", {1}), (2_500_000, "b", {1, 2}), (5_000_000, "a", {1, 2}), faults=heal
    )
    judgement = check_convergence(history, within_ns=10_000_000)
    assert judgement.ok
    assert judgement.facts["converged_ns"] == 1_500_000
    late = check_convergence(history, within_ns=500_000)
    assert late.kinds == {"late-convergence"}
    assert "1.000 ms after the last fault; the bound is 0.500 ms" in late.findings[0].text


def test_a_replica_nobody_looked_at_after_healing_is_unknown() -> None:
    heal = (FaultWindow("partition", 0, 1_000_000),)
    history = _observed((500, "a", {1}), (2_000_000, "b", {1}), faults=heal)
    assert check_convergence(history).verdict is Verdict.UNKNOWN


def _saga(end: str | None, *effects: tuple[str, str]) -> History:
    recorder = Recorder()
    recorder.invoke(0, "saga", {"saga": "s", "steps": ["pay", "ship"]})
    for step, action in effects:
        recorder.invoke(1, "effect", {"saga": "s", "step": step, "action": action})
        recorder.ok(1)
    if end is not None:
        recorder.ok(0, end)
    return recorder.history()


@pytest.mark.parametrize(
    ("end", "effects", "kinds"),
    [
        ("completed", [("pay", "do"), ("ship", "do")], set()),
        ("compensated", [("pay", "do"), ("pay", "undo")], set()),
        ("compensated", [], set()),
        ("completed", [("pay", "do")], {"missing-effect"}),
        ("completed", [("pay", "do"), ("pay", "do"), ("ship", "do")], {"repeated-effect"}),
        ("compensated", [("pay", "do")], {"not-undone"}),
        ("compensated", [("pay", "undo")], {"undone-undone"}),
        ("parked", [("pay", "do")], {"parked"}),
        (None, [("pay", "do")], {"unfinished"}),
        (
            "completed",
            [("pay", "do"), ("ship", "do"), ("ship", "undo")],
            {"undone-although-completed"},
        ),
    ],
)
def test_a_saga_ends_and_its_effects_say_so(
    end: str | None, effects: list[tuple[str, str]], kinds: set[str]
) -> None:
    assert check_sagas(_saga(end, *effects)).kinds == kinds


def test_a_message_is_received_later_than_it_was_sent() -> None:
    good = in_turn((0, "send", "m", 5), (1, "receive", "m", 6), (1, "local", None, 7))
    assert check_clock_order(good).ok
    bad = in_turn((0, "send", "m", 5), (1, "receive", "m", 5))
    assert check_clock_order(bad).kinds == {"message-order"}
    back = in_turn((0, "local", None, 5), (0, "local", None, 4))
    assert check_clock_order(back).kinds == {"process-order"}
    assert check_clock_order(in_turn((0, "receive", "m", 1), (0, "x", None, 2))).kinds == {"unsent"}


def test_real_time_orders_timestamps_only_where_that_is_promised() -> None:
    history = in_turn((0, "local", None, 9), (1, "local", None, 3), (1, "local", None, 4))
    assert check_clock_order(history).ok
    assert check_clock_order(history, realtime=True).kinds == {"realtime-order"}


# --- by name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JUDGES)
def test_every_judge_has_an_answer_for_an_empty_history(name: str) -> None:
    judgement = judge(History([]), name)
    judgement.check()
    assert judgement.verdict is not Verdict.VIOLATED


def test_an_unknown_judge_is_refused_with_the_list_of_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="One of register, cas-register"):
        judge(History([]), "oracle", Options())
