"""Linearizability: agreement with brute force, planted violations, budgets, explanations."""

from __future__ import annotations

import time
import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.check.budget import Budget
from mcpcore.check.history import History, Operation, Outcome, Recorder
from mcpcore.check.linear import check_linearizable
from mcpcore.check.model import ILLEGAL, Model
from mcpcore.check.models import MODELS, CasRegister, KeyValue, Mutex, Register
from mcpcore.check.search import Search
from mcpcore.check.verdict import Verdict
from mcpcore.errors import InvalidInput
from tests.check.histories import (
    CALLS,
    explains,
    in_turn,
    linearizable_by_brute_force,
    small_histories,
    told,
    true_history,
)

KINDS = sorted(CALLS)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_the_search_agrees_with_trying_every_order(kind: str, data: st.DataObject) -> None:
    history = data.draw(small_histories(kind))
    model = MODELS[kind]()

    judgement = check_linearizable(history, model)

    judgement.check()
    expected = linearizable_by_brute_force(history, model)
    assert judgement.verdict is (Verdict.OK if expected else Verdict.VIOLATED)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_history_made_by_a_correct_object_is_always_accepted(kind: str, seed: int) -> None:
    size = 20 if "queue" in kind else 60  # nothing ever says early that two were swapped
    history = true_history(kind, Random(seed), size)
    history.check()
    model = MODELS[kind]()

    judgement = check_linearizable(history, model, Budget(memory_bytes=200 << 20))

    assert judgement.verdict is Verdict.OK, judgement.summary
    for part in judgement.parts:
        assert explains(model, history, part.linearization)


@pytest.mark.parametrize("kind", ["register", "cas-register", "key-value", "set", "counter"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_read_of_something_that_was_never_there_is_always_refused(kind: str, seed: int) -> None:
    random = Random(seed)
    history = true_history(kind, random, operations=40, lose=0.05)
    reads = [op for op in history if op.function in ("read", "get") and op.outcome is Outcome.OK]
    if not reads:
        return
    victim = random.choice(reads)
    planted = {"set": [99], "counter": 10**6, "key-value": "never"}.get(kind, 99)
    broken = History(_with_result(op, planted) if op is victim else op for op in history)

    judgement = check_linearizable(broken, MODELS[kind]())

    assert judgement.verdict is Verdict.VIOLATED
    assert victim.id in judgement.parts[0].prefix


def _with_result(op: Operation, result: object) -> Operation:
    return Operation(
        op.id, op.process, op.function, op.value, result, op.outcome,
        op.called, op.returned, op.called_ns, op.returned_ns, op.key,
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_failing_prefix_is_the_shortest(data: st.DataObject) -> None:
    """Cut right before the blocked return, everything can be explained; with it, nothing can."""
    kind = data.draw(st.sampled_from(["cas-register", "key-value", "set", "counter"]))
    history = data.draw(small_histories(kind))
    model = MODELS[kind]()
    judgement = check_linearizable(history, model)
    if judgement.verdict is not Verdict.VIOLATED:
        return
    part = judgement.parts[0]
    blocked = next(op for op in history if op.id == part.blocked_at)
    assert blocked.returned is not None
    assert set(part.prefix) == {op.id for op in history if model.admits(op)} & {
        op.id for op in history if op.called < blocked.returned
    }
    assert part.prefix_is_shortest
    assert not _prefix_is_explained(history, model, blocked.returned)
    assert _prefix_is_explained(history, model, blocked.returned - 1)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_the_failing_prefix_is_the_shortest_where_the_search_gave_up_long_before(seed: int) -> None:
    """Foreseeing a read ends the search early; the prefix must not be shorter or longer for it."""
    random = Random(seed)
    history = true_history("key-value", random, 40, lose=0.0)
    reads = [op for op in history if op.function == "get" and op.result]
    if not reads:
        return
    victim = random.choice(reads)
    broken = History(
        _with_result(op, victim.result[::-1] + "a") if op is victim else op for op in history
    )
    model = KeyValue()
    judgement = check_linearizable(broken, model)
    if judgement.ok:
        return
    part = judgement.parts[0]
    in_order = sorted(broken, key=lambda op: op.returned or 0)
    place = [op.id for op in in_order].index(part.blocked_at or 0)

    assert part.prefix_is_shortest
    assert _searched_without_foresight(model, broken, place) is Verdict.VIOLATED
    assert place == 0 or _searched_without_foresight(model, broken, place - 1) is Verdict.OK


def _searched_without_foresight(model: Model, history: History, until: int) -> Verdict | None:
    search = Search(model, list(history), until=until, foresee_before=0)
    return search.run(10**6)


def _prefix_is_explained(history: History, model: Model, until: int) -> bool:
    """Whether some order explains all returns up to ``until``; later returns are optional."""
    admitted = [op for op in history if model.admits(op) and op.called <= until]
    must = [op for op in admitted if op.returned is not None and op.returned <= until]
    may = [op for op in admitted if op not in must]
    for mask in range(1 << len(may)):
        chosen = [op for at, op in enumerate(may) if mask >> at & 1]
        if linearizable_by_brute_force(History([*must, *chosen]), model):
            return True
    return False


def test_a_delayed_write_explains_a_read_that_started_before_it_returned() -> None:
    """The quiz of MIT 6.824, 2017: two reads overlap a write and see both sides of it."""
    history = History.timed(
        [
            _timed(0, "write", 100, None, 0, 100),
            _timed(1, "read", None, 100, 25, 75),
            _timed(2, "read", None, 0, 30, 60),
        ]
    )
    assert check_linearizable(history, Register(0)).ok


def test_a_read_may_not_go_back_to_the_value_before_the_one_that_was_read() -> None:
    history = History.timed(
        [
            _timed(0, "write", 200, None, 0, 100),
            _timed(1, "read", None, 200, 10, 30),
            _timed(2, "read", None, 0, 40, 90),
        ]
    )
    judgement = check_linearizable(history, Register(0))
    assert judgement.verdict is Verdict.VIOLATED
    assert "read() -> 0, but the register holds 200" in judgement.summary


def test_operations_that_touch_in_one_nanosecond_overlap() -> None:
    touching = [
        _timed(0, "write", 100, None, 0, 100),
        _timed(1, "read", None, 100, 25, 75),
        _timed(2, "read", None, 0, 30, 30),
        _timed(3, "read", None, 0, 30, 30),
    ]
    assert check_linearizable(History.timed(touching), Register(0)).ok
    apart = [
        _timed(0, "write", 200, None, 0, 100),
        _timed(1, "read", None, 200, 10, 10),
        _timed(2, "read", None, 0, 11, 90),
    ]
    assert not check_linearizable(History.timed(apart), Register(0)).ok


def _timed(
    process: int, function: str, value: object, result: object, called: int, returned: int
) -> Operation:
    return Operation(process, process, function, value, result, Outcome.OK, 0, 0, called, returned)


def test_an_unknown_write_may_take_effect_long_after_its_client_gave_up() -> None:
    history = told(
        (0, "invoke", "write", 1),
        (0, "unknown", "write", None),
        (1, "invoke", "read", None),
        (1, "ok", "read", None),
        (1, "invoke", "read", None),
        (1, "ok", "read", 1),
    )
    assert check_linearizable(history, Register()).ok


def test_an_unknown_write_takes_effect_at_most_once() -> None:
    history = told(
        (0, "invoke", "write", 1),
        (0, "unknown", "write", None),
        (1, "invoke", "read", None),
        (1, "ok", "read", 1),
        (1, "invoke", "write", 2),
        (1, "ok", "write", 2),
        (1, "invoke", "read", None),
        (1, "ok", "read", 1),
    )
    assert not check_linearizable(history, Register()).ok


def test_a_failed_write_never_takes_effect() -> None:
    history = told(
        (0, "invoke", "write", 1),
        (0, "fail", "write", None),
        (1, "invoke", "read", None),
        (1, "ok", "read", 1),
    )
    assert not check_linearizable(history, Register()).ok


def test_a_failed_comparison_is_evidence_only_where_the_model_says_so() -> None:
    """Porcupine's etcd model and Knossos's differ here; neither choice is made silently."""
    history = told(
        (0, "invoke", "write", 1),
        (0, "ok", "write", 1),
        (0, "invoke", "cas", (1, 2)),
        (0, "fail", "cas", None),
    )
    assert not check_linearizable(history, CasRegister(failed_cas="evidence")).ok
    assert check_linearizable(history, CasRegister(failed_cas="ignored")).ok


def test_a_nil_read_is_absent_or_unknown_as_the_model_says() -> None:
    history = in_turn((0, "write", 1, 1), (0, "read", None, None))
    assert not check_linearizable(history, CasRegister(nil_reads="absent")).ok
    assert check_linearizable(history, CasRegister(nil_reads="unknown")).ok


def test_only_the_holder_releases_an_owned_lock() -> None:
    history = in_turn((0, "acquire", None, None), (1, "release", None, None))
    assert check_linearizable(history, Mutex()).ok
    assert not check_linearizable(history, Mutex(owned=True)).ok


def test_one_bad_key_ends_the_judgement_although_another_would_take_for_ever() -> None:
    """Porcupine's c50-bad shape: keys whose search explodes beside keys that fail at once."""
    recorder = Recorder()
    for process in range(18):
        recorder.invoke(process, "put", process, key="hard")
    for process in range(18):
        recorder.ok(process, process)
    for value in (3, 99):
        recorder.invoke(0, "cas", (value, value), key="hard")
        recorder.ok(0)
    recorder.invoke(0, "get", key="easy")
    recorder.ok(0, "nonsense")
    history = recorder.history()

    started = time.monotonic()
    judgement = check_linearizable(history, KeyValue())

    assert judgement.verdict is Verdict.VIOLATED
    assert judgement.findings[0].facts["key"] == "easy"
    assert time.monotonic() - started < 5


def _explosive(clients: int = 26) -> History:
    """Concurrent comparisons that all may succeed, then one that cannot: every order is tried."""
    recorder = Recorder()
    for process in range(clients):
        recorder.invoke(process, "enqueue", process)
    for process in range(clients):
        recorder.ok(process, process)
    recorder.invoke(0, "dequeue")
    recorder.ok(0, "nothing like it")
    return recorder.history()


def test_the_time_budget_is_kept_within_five_percent_and_unknown_is_not_ok() -> None:
    # The clock of this process, so that a busy machine does not fail the test.
    clock = time.process_time_ns
    budget = Budget(time_ns=1_000_000_000, monotonic_ns=clock, memory_bytes=None)
    started = clock()

    judgement = check_linearizable(_explosive(), MODELS["fifo-queue"](), budget)

    spent_ns = clock() - started
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.findings[0].facts == {"spent": "time"}
    assert "undecided" in judgement.summary
    assert spent_ns < 1_050_000_000


def test_the_memory_budget_is_kept_and_unknown_is_not_ok() -> None:
    limit = 4 << 20
    tracemalloc.start()
    judgement = check_linearizable(_explosive(), MODELS["fifo-queue"](), Budget(memory_bytes=limit))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.findings[0].facts == {"spent": "memory"}
    assert peak < limit * 1.05


def test_the_callers_own_measure_of_memory_is_believed() -> None:
    used = iter(range(0, 10**9, 1 << 20))
    budget = Budget(memory_bytes=8 << 20, memory_in_use=lambda: next(used))
    assert (
        check_linearizable(_explosive(), MODELS["fifo-queue"](), budget).verdict is Verdict.UNKNOWN
    )


def test_a_time_budget_without_a_clock_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs a clock"):
        Budget(time_ns=1)


def test_the_explanation_names_the_prefix_the_longest_order_and_every_contradiction() -> None:
    history = in_turn(
        (0, "write", 1, 1), (1, "write", 2, 2), (2, "read", None, 1), (0, "write", 3, 3)
    )
    judgement = check_linearizable(history, Register())
    (part,) = judgement.parts
    assert part.blocked_at == 2
    assert part.prefix == (0, 1, 2)
    (end,) = part.dead_ends
    assert end.linearization == (0, 1)
    assert end.state == "2"
    assert [(c.operation, c.against) for c in end.candidates] == [
        (2, "read() -> 1, but the register holds 2")
    ]


class Ratchet(Model):
    """A user's own model in a dozen lines: a number that only goes up."""

    name = "ratchet"

    def initial(self) -> int:
        return 0

    def step(self, state: int, op: Operation) -> object:  # type: ignore[override]
        if op.function == "raise":
            return max(state, op.value)
        return state if op.outcome is Outcome.UNKNOWN or op.result == state else ILLEGAL


def test_a_users_own_model_needs_two_methods() -> None:
    good = in_turn((0, "raise", 5, None), (1, "raise", 3, None), (2, "see", None, 5))
    bad = in_turn((0, "raise", 5, None), (1, "raise", 3, None), (2, "see", None, 3))
    assert check_linearizable(good, Ratchet()).ok
    judgement = check_linearizable(bad, Ratchet())
    assert judgement.verdict is Verdict.VIOLATED
    assert "impossible when the state is 5" in judgement.summary


def test_an_operation_that_the_model_does_not_have_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInput, match=r"operation 0: dequeue of nil is no operation"):
        check_linearizable(in_turn((0, "dequeue", None, 1)), Register())


def test_an_empty_history_is_linearizable() -> None:
    assert check_linearizable(History([]), Register()).ok


def test_a_long_history_is_judged_in_the_time_it_takes_to_read_it() -> None:
    history = true_history("cas-register", Random(7), operations=5000, clients=10, lose=0.002)
    started = time.monotonic()
    assert check_linearizable(history, CasRegister()).ok
    assert time.monotonic() - started < 10


def test_what_an_unknown_compare_and_set_seems_to_have_returned_means_nothing() -> None:
    """Only its call is known: a recorder that fills in False has not seen it fail."""
    lost = Operation(0, "lost", "cas", [None, "1"], False, Outcome.UNKNOWN, 0, None)
    seen = Operation(1, "reader", "read", None, "1", Outcome.OK, 1, 2)
    assert check_linearizable(History([lost, seen]), CasRegister()).verdict is Verdict.OK
