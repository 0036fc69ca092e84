"""Histories stamped by the log: judged by sorting, and never by believing the log."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.check.bylog import check_by_log
from mcpcore.check.history import History, LogPosition, Operation, Outcome
from mcpcore.check.linear import check_linearizable
from mcpcore.check.models import KeyValue, Register
from mcpcore.check.verdict import Verdict
from tests.check.histories import true_history


def _stamped(history: History) -> History:
    """Positions from a linearization: what a correct replicated log would have said."""
    judgement = check_linearizable(history, KeyValue())
    assert judgement.ok
    by_id = {op.id: op for op in history}
    index, positions = 0, {}
    for part in judgement.parts:
        for id_ in part.linearization:
            index += by_id[id_].function not in ("get", "read")
            positions[id_] = LogPosition("g", 1 + index // 20, index)
    return history.placed(positions, log_is_complete=False)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_history_stamped_by_a_correct_log_is_accepted_without_a_search(seed: int) -> None:
    history = _stamped(true_history("key-value", Random(seed), 50, lose=0.05))
    judgement = check_by_log(history, KeyValue())
    judgement.check()
    assert judgement.ok
    assert {part.method for part in judgement.parts} <= {"log"}


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_swapping_two_writes_in_the_log_is_refused_if_anybody_could_have_seen_it(
    seed: int,
) -> None:
    random = Random(seed)
    history = _stamped(true_history("key-value", random, 40, lose=0.0))
    writes = [op for op in history if op.function == "put" and op.outcome is Outcome.OK]
    if len(writes) < 2:
        return
    one, other = random.sample(writes, 2)
    swapped = history.placed(
        {one.id: other.position, other.id: one.position},  # type: ignore[dict-item]
        log_is_complete=False,
    )
    judgement = check_by_log(swapped, KeyValue())
    order = sorted(swapped, key=lambda op: (op.position.index, op.function == "get"))  # type: ignore[union-attr]
    visible = any(
        a.returned is not None and b.returned is not None and b.returned < a.called
        for at, a in enumerate(order)
        for b in order[at + 1 :]
    )
    if visible:
        assert judgement.verdict is Verdict.VIOLATED
        assert judgement.kinds == {"log-order"}


def _op(id_: int, function: str, value: object, result: object, index: int | None) -> Operation:
    position = None if index is None else LogPosition("g", 1, index)
    return Operation(
        id_, id_, function, value, result, Outcome.OK, 2 * id_, 2 * id_ + 1, position=position
    )


def test_a_result_that_the_log_contradicts_is_told_with_its_index() -> None:
    history = History([_op(0, "write", 1, 1, 1), _op(1, "read", None, 2, 1)])
    judgement = check_by_log(history, Register())
    assert judgement.verdict is Verdict.VIOLATED
    assert "at group g index 1 (term 1), operation 1: read() -> 2" in judgement.summary


def test_an_operation_that_returned_before_another_was_called_stands_before_it_in_the_log() -> None:
    history = History([_op(0, "write", 1, 1, 2), _op(1, "write", 2, 2, 1)])
    judgement = check_by_log(history, Register())
    assert judgement.kinds == {"log-order"}
    assert "had returned before" in judgement.summary


def test_two_entries_at_one_index_are_a_fork_of_the_log() -> None:
    overlapping = [
        replace(_op(0, "write", 1, 1, 5), called=0, returned=10),
        replace(_op(1, "write", 2, 2, 5), called=1, returned=11),
    ]
    assert check_by_log(History(overlapping), Register()).kinds == {"log-fork"}


def test_a_term_that_goes_back_along_the_log_is_refused() -> None:
    late = replace(_op(1, "write", 2, 2, 2), position=LogPosition("g", 1, 2))
    early = replace(_op(0, "write", 1, 1, 1), position=LogPosition("g", 7, 1))
    assert "log-term" in check_by_log(History([early, late]), Register()).kinds


def test_the_search_decides_only_what_the_log_cannot_place() -> None:
    stray = Operation(1, 9, "write", 7, None, Outcome.UNKNOWN, 2, None)
    seen = _op(2, "read", None, 7, 1)
    judgement = check_by_log(History([_op(0, "write", 1, 1, 1), stray, seen]), Register())
    assert judgement.ok
    assert judgement.parts[0].method == "search"


def test_an_unknown_operation_that_a_complete_log_does_not_hold_never_happened() -> None:
    stray = Operation(1, 9, "write", 7, None, Outcome.UNKNOWN, 2, None)
    history = History([_op(0, "write", 1, 1, 1), stray, _op(2, "read", None, 7, 1)])
    resolved = history.placed({}, log_is_complete=True)
    resolved.check()
    judgement = check_by_log(resolved, Register())
    assert judgement.verdict is Verdict.VIOLATED
    assert judgement.kinds == {"log-order"}
