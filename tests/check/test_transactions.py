"""Transactions: Adya's anomalies by name, what they rule out, and a true database's innocence."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.check.formats import read_history
from mcpcore.check.history import History, Recorder
from mcpcore.check.txn import LEVELS, check_list_append, check_rw_register, ruled_out
from mcpcore.check.txn.levels import implied, strongest_left, weakest
from mcpcore.check.txn.order import realtime_pairs
from mcpcore.check.verdict import Judgement, Verdict
from mcpcore.errors import InvalidInput
from tests.check.histories import true_history

_STEP = re.compile(r"([arw])([a-z])((?:\d|_)*)")


def _steps(text: str) -> list[list[Any]]:
    """``ax1 ry12`` is append 1 to x, read y as [1 2]; ``wx1 rx_`` write and read nil."""
    found: list[list[Any]] = []
    lists = "w" not in text
    for function, key, digits in _STEP.findall(text):
        if function == "a":
            found.append(["append", key, int(digits)])
        elif function == "w":
            found.append(["w", key, int(digits)])
        elif lists:
            found.append(["r", key, [int(d) for d in digits if d != "_"]])
        else:
            found.append(["r", key, None if digits in ("", "_") else int(digits)])
    return found


def concurrent(*told: str, registers: bool = False) -> History:
    """Transactions that all overlap, each of its own client. ``!`` aborted, ``?`` nobody knows."""
    recorder = Recorder()
    for at, text in enumerate(told):
        steps = _steps(text + (" w" if registers else ""))
        recorder.invoke(at, "txn", steps)
    for at, text in enumerate(told):
        steps = _steps(text + (" w" if registers else ""))
        if text.startswith("!"):
            recorder.fail(at)
        elif text.startswith("?"):
            recorder.unknown(at)
        else:
            recorder.ok(at, steps)
    return recorder.history()


def in_order(*told: tuple[int, str], registers: bool = False) -> History:
    """Transactions one after the other: (client, steps)."""
    recorder = Recorder()
    for client, text in told:
        steps = _steps(text + (" w" if registers else ""))
        recorder.invoke(client, "txn", steps)
        recorder.ok(client, steps)
    return recorder.history()


@pytest.mark.parametrize(
    ("told", "kind", "weakest_broken"),
    [
        # Write cycle: x says T1 before T2, y says T2 before T1.
        (["ax1ay1", "ax2ay2", "rx12ry21"], "G0", "read-uncommitted"),
        (["!ax1", "rx1"], "G1a", "read-committed"),
        (["ax1ax2", "rx1"], "G1b", "read-committed"),
        (["ax1ry1", "ax2ay1", "rx12ry1"], "G1c", "read-committed"),
        (["ax1ay1", "ax2ry", "rx12"], "G-single", "consistent-view"),
        (["ax1ry", "ay1rx"], "G2-item", "repeatable-read"),
        (["rxay1", "ryax1"], "G2-item", "repeatable-read"),
        # Two readers see two appends in opposite orders: long fork.
        (["ax1", "rx1ry", "ay1", "ry1rx"], "G-nonadjacent", "snapshot-isolation"),
        (["ax0", "rx0ax1", "rx0ax2"], "lost-update", "cursor-stability"),
        (["rx13", "rx123", "ax1", "ax2", "ax3"], "incompatible-order", "read-committed"),
        (["!ax1", "ax2", "rx12"], "dirty-update", "read-committed"),
        (["!ax1", "?ax2", "ax3", "rx123"], "dirty-update", "read-committed"),
        (["ax1", "ax2", "rx121"], "duplicate-elements", "read-uncommitted"),
        (["ax1ax2ax4", "ax3rx1234"], "internal", "read-uncommitted"),
        (["ax3rx"], "internal", "read-atomic"),
        (["rx12ax3rx12", "ax1", "ax2"], "internal", "read-atomic"),
        (["rx012ax1", "ax0", "ax2"], "future-read", "read-committed"),
        (["rx7"], "garbage-read", "read-committed"),
    ],
)
def test_a_list_append_anomaly_has_its_name_and_its_level(
    told: list[str], kind: str, weakest_broken: str
) -> None:
    judgement = check_list_append(concurrent(*told), "serializable")
    judgement.check()
    assert judgement.verdict is Verdict.VIOLATED
    assert kind in judgement.facts["anomalies"]
    assert weakest_broken in judgement.facts["not"]


@pytest.mark.parametrize(
    ("told", "kind", "weakest_broken"),
    [
        (["!wx1", "rx1"], "G1a", "read-committed"),
        (["wx1wx2", "rx1"], "G1b", "read-committed"),
        (["wx1ry1", "wy1rx1"], "G1c", "read-committed"),
        (["rx_ry1", "wy1wx2"], "G-single", "consistent-view"),
        (["ry1wx1wy2", "rx1ry1", "wy1"], "G-single", "consistent-view"),
        (["rx_wy1", "ry_wx1"], "G2-item", "repeatable-read"),
        (["rx0wx1", "rx0wx2", "wx0"], "lost-update", "cursor-stability"),
        (["rx1rx2", "wx1", "wx2"], "internal", "read-atomic"),
        (["rx9"], "garbage-read", "read-committed"),
    ],
)
def test_a_register_anomaly_has_its_name_and_its_level(
    told: list[str], kind: str, weakest_broken: str
) -> None:
    judgement = check_rw_register(concurrent(*told, registers=True), "serializable")
    judgement.check()
    assert judgement.verdict is Verdict.VIOLATED
    assert kind in judgement.facts["anomalies"]
    assert weakest_broken in judgement.facts["not"]


def test_write_skew_is_allowed_by_snapshot_isolation_and_not_by_serializability() -> None:
    history = concurrent("rxay1", "ryax1", "rx1", "ry1")
    assert check_list_append(history, "snapshot-isolation").verdict is Verdict.OK
    judgement = check_list_append(history, "serializable")
    assert judgement.verdict is Verdict.VIOLATED
    assert "write-skew" in judgement.facts["anomalies"]
    assert judgement.facts["strongest"] == ["strong-snapshot-isolation"]


def test_an_anomaly_that_the_level_allows_is_a_fact_and_no_violation() -> None:
    judgement = check_list_append(concurrent("ax1ay1", "ax2ry", "rx12"), "read-committed")
    judgement.check()
    assert judgement.ok
    assert judgement.facts["anomalies"] == ["G-single"]
    assert "which it allows" in judgement.summary


def test_a_stale_read_breaks_strict_serializability_only() -> None:
    """Nobody but the clock on the wall can tell: T2 read the state from before T1."""
    history = in_order((0, "ax1"), (1, "ax2"), (2, "rx1"), (3, "rx12"))
    assert check_list_append(history, "serializable").ok
    judgement = check_list_append(history, "strict-serializable")
    assert judgement.kinds == {"G-single-realtime"}
    assert judgement.facts["not"] == ["strong-snapshot-isolation"]
    assert "strong-session-serializable" in judgement.facts["strongest"]


def test_a_client_that_does_not_see_its_own_write_breaks_the_session_levels() -> None:
    history = in_order((0, "ax1"), (1, "ax2"), (1, "rx1"), (2, "rx12"))
    judgement = check_list_append(history, "strong-session-snapshot-isolation")
    assert judgement.kinds == {"G-single-process"}


def test_a_cycle_through_a_session_is_found_with_nonadjacent_anti_dependencies() -> None:
    """Reported against Elle: session order together with two anti-dependencies that do not touch."""
    history = in_order((0, "rxrz1"), (1, "ax1"), (1, "rz"), (2, "az1"))
    assert check_list_append(history, "serializable").ok
    judgement = check_list_append(history, "strong-session-snapshot-isolation")
    assert judgement.kinds == {"G-nonadjacent-process"}


def test_a_cycle_of_reads_through_a_session_breaks_session_read_committed() -> None:
    """Reported against Elle."""
    history = in_order((1, "rx1ay1"), (2, "ry1"), (2, "ax1"))
    judgement = check_list_append(history, "strong-session-snapshot-isolation")
    assert judgement.kinds == {"G1c-process"}
    assert judgement.facts["not"] == ["strong-session-read-committed"]


def test_adjacent_anti_dependencies_do_not_break_snapshot_isolation() -> None:
    history = concurrent("rx5ry", "ay1rz", "az2at3", "rt3ru", "au4ax5")
    assert check_list_append(history, "snapshot-isolation").ok
    assert check_list_append(history, "serializable").verdict is Verdict.VIOLATED


def test_reads_of_a_transaction_that_may_not_have_happened_prove_nothing() -> None:
    history = concurrent("?ax2ry", "ax1ay1", "rx12ry1")
    assert check_list_append(history, "serializable").ok


def test_a_transaction_may_write_twice_over_what_it_read() -> None:
    assert check_list_append(concurrent("rxax1ax2", "rx12"), "serializable").ok


def test_transactions_that_do_not_touch_each_other_prove_nothing() -> None:
    judgement = check_list_append(concurrent("ax1", "ay1"), "serializable")
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.findings[0].kind == "empty-transaction-graph"


def test_an_element_appended_twice_makes_the_verdict_unknown() -> None:
    judgement = check_list_append(concurrent("ax1", "ax1", "rx1", "ay1ry1"), "serializable")
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.findings[0].kind == "ambiguous-writes"


def test_versions_are_ordered_by_sessions_and_real_time_only_where_that_is_assumed() -> None:
    history = in_order((0, "wx1wy2"), (1, "wx2wy1"), (0, "rx2"), (1, "ry2"), registers=True)
    assert check_rw_register(history, "serializable").ok
    assumed = check_rw_register(history, "serializable", assume=("sequential-keys",))
    assert "G0" in assumed.kinds


def test_versions_that_come_before_each_other_are_told() -> None:
    history = in_order((0, "wx1"), (0, "wx2"), (0, "rx1"), registers=True)
    judgement = check_rw_register(history, "serializable", assume=("linearizable-keys",))
    assert judgement.kinds == {"cyclic-versions"}
    assert "1, 2 of 'x' come before each other" in judgement.findings[0].text


def test_a_value_that_was_there_from_the_start_is_no_garbage() -> None:
    history = concurrent("rx0", "rx0wx1", registers=True)
    assert "garbage-read" in check_rw_register(history).kinds
    assert check_rw_register(history, initial=[0]).ok


def test_a_cycle_is_told_in_sentences_that_end_in_a_contradiction() -> None:
    judgement = check_list_append(concurrent("ax1ry", "ay1rx"), "serializable")
    (finding,) = [f for f in judgement.findings if f.kind == "G2-item"]
    assert finding.text.splitlines() == [
        "T1 is operation 0 of process 0: [append 'x' 1] [r 'y' []]",
        "T2 is operation 1 of process 1: [append 'y' 1] [r 'x' []]",
        "T1 comes before T2, because T1 read 'y' when nothing was in it, and T2 appended 1 to it.",
        "But T2 comes before T1, because T2 read 'x' when nothing was in it, and T1 appended 1 to "
        "it: a contradiction.",
    ]
    assert [step["dependency"] for step in finding.facts["steps"]] == ["rw", "rw"]


def test_elles_examples_are_read_as_they_are_written_completions_only() -> None:
    history = read_history(
        "{:process 0, :type :ok, :value [[:append :x 1] [:r :y [1]]]}\n"
        "{:index 1, :type :ok, :f :txn, :value [[:append :x 2] [:append :y 1]]}\n"
        "{:process 0, :type :ok, :value [[:r :x [1 2]] [:r :y nil]]}\n"
        "{:process 3, :type :fail, :value [[:append :z 9]]}\n"
    )
    assert {"G1c", "G-single"} <= check_list_append(history, "serializable").kinds


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_real_time_order_is_the_closure_of_its_pairs(seed: int) -> None:
    history = true_history("register", Random(seed), 30, clients=5)
    after: dict[int, set[int]] = {op.id: set() for op in history}
    for before, later in realtime_pairs(history.operations):
        after[before.id].add(later.id)
    for op in reversed(history.operations):
        for later_id in list(after[op.id]):
            after[op.id] |= after[later_id]
    for a in history:
        assert after[a.id] == {b.id for b in history if a.precedes(b)}


def test_an_unknown_level_and_a_malformed_transaction_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no such consistency level"):
        check_list_append(concurrent("ax1"), "very-serializable")
    recorder = Recorder()
    recorder.invoke(0, "txn", [["pop", "x"]])
    recorder.ok(0, [["pop", "x"]])
    with pytest.raises(InvalidInput, match=r"operation 0: the step .* one of append, r"):
        check_list_append(recorder.history())


def test_every_stronger_level_falls_with_a_weaker_one() -> None:
    assert ruled_out(["G0"]) == set(LEVELS)
    assert "snapshot-isolation" not in ruled_out(["G2-item"])
    assert weakest(ruled_out(["G1a"])) == ("read-committed",)
    assert strongest_left(ruled_out(["G2-item"])) == ("strong-snapshot-isolation",)
    assert {"G-nonadjacent", "G2-item", "G2"} <= implied(["G-single"])


def _run_database(seed: int, *, snapshot: bool, lists: bool, size: int = 40) -> History:
    """A database in a dozen lines: serial, or with snapshots and first-committer-wins."""
    random, recorder = Random(seed), Recorder()
    committed: dict[str, tuple[int, Any]] = {}
    running: dict[int, tuple[dict[str, tuple[int, Any]], list[list[Any]]]] = {}
    clock, fresh, started = 0, 0, 0
    while started < size or running:
        if started < size and len(running) < 4 and random.random() < 0.5:
            steps: list[list[Any]] = []
            for _ in range(random.randrange(1, 4)):
                key = random.choice("xyz")
                fresh += 1
                write = ["append" if lists else "w", key, fresh]
                steps.append(write if random.random() < 0.5 else ["r", key, None])
            client = next(c for c in range(9) if c not in running)
            recorder.invoke(client, "txn", steps)
            running[client] = (dict(committed), steps)
            started += 1
            continue
        if not running:
            continue
        client = random.choice(sorted(running))
        seen, steps = running.pop(client)
        if not snapshot:
            seen = dict(committed)
        result, written = [], set()
        for function, key, value in steps:
            version, held = seen.get(key, (0, [] if lists else None))
            if function == "r":
                result.append(["r", key, held])
            else:
                written.add(key)
                seen[key] = (version, [*held, value] if function == "append" else value)
                result.append([function, key, value])
        if any(committed.get(key, (0,))[0] != seen[key][0] for key in written):
            recorder.fail(client)
            continue
        clock += 1
        for key in written:
            committed[key] = (clock, seen[key][1])
        if random.random() < 0.1:
            recorder.unknown(client)
        else:
            recorder.ok(client, result)
    return recorder.history()


def _judge(history: History, level: str, lists: bool) -> Judgement:
    return check_list_append(history, level) if lists else check_rw_register(history, level)


@pytest.mark.parametrize("lists", [True, False])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_serial_database_is_never_accused(lists: bool, seed: int) -> None:
    history = _run_database(seed, snapshot=False, lists=lists)
    assert _judge(history, "strict-serializable", lists).ok


@pytest.mark.parametrize("lists", [True, False])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_snapshot_isolated_database_is_never_accused_of_worse_than_write_skew(
    lists: bool, seed: int
) -> None:
    history = _run_database(seed, snapshot=True, lists=lists)
    assert _judge(history, "strong-snapshot-isolation", lists).verdict is not Verdict.VIOLATED
    found = set(_judge(history, "serializable", lists).facts["anomalies"])
    assert found <= {"G2-item", "write-skew"}


def test_snapshot_isolation_shows_its_write_skew_sooner_or_later() -> None:
    """Otherwise the law above would hold for a judge that is asleep."""
    found = [
        _judge(_run_database(seed, snapshot=True, lists=True), "serializable", True).verdict
        for seed in range(20)
    ]
    assert Verdict.VIOLATED in found


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 1000))
def test_an_element_taken_out_of_one_read_is_always_noticed(seed: int, at: int) -> None:
    history = _run_database(seed, snapshot=False, lists=True)
    recorder = Recorder()
    reads = [
        (op.id, place)
        for op in history
        for place, step in enumerate(op.result or ())
        if step[0] == "r" and len(step[2]) > 1
    ]
    if not reads:
        return
    victim, place = reads[at % len(reads)]
    events = sorted(
        [(op.called, op, False) for op in history]
        + [(op.returned, op, True) for op in history if op.returned is not None],
        key=lambda event: event[0],
    )
    for _, op, returned in events:
        if not returned:
            recorder.invoke(f"c{op.id}", "txn", op.value)
        elif op.outcome == "ok":
            result = [list(step) for step in op.result]
            if op.id == victim:
                result[place][2] = result[place][2][1:]
            recorder.ok(f"c{op.id}", result)
        else:
            recorder.fail(f"c{op.id}")
    judgement = check_list_append(recorder.history(), "strict-serializable")
    assert judgement.verdict is Verdict.VIOLATED
