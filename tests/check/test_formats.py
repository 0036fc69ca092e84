"""Reading and writing histories: the field's notations, round trips, and refusals with a place."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.check.edn import Keyword, Malformed, read_edn, write_edn
from mcpcore.check.formats import read_history, read_jsonl, write_jsonl
from mcpcore.check.history import FaultWindow, History, LogPosition, Operation, Outcome, Recorder
from mcpcore.check.jepsen import (
    read_jepsen,
    read_log,
    write_jepsen,
    write_log,
    write_porcupine,
)
from mcpcore.check.linear import check_linearizable
from mcpcore.check.models import CasRegister, KeyValue
from mcpcore.check.verdict import Verdict
from mcpcore.errors import InvalidInput
from tests.check.histories import true_history

ETCD_LOG = """\
INFO  jepsen.core - Worker 3 starting
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 1\t:info\t:write\t:timed-out
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 1]
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 2\t:fail\t:cas\t[4 1]
INFO  jepsen.util - 2\t:invoke\t:read\tnil
INFO  jepsen.util - 2\t:fail\t:read\t:timed-out
"""


def test_the_lines_that_jepsen_logs_become_operations() -> None:
    history = read_log(ETCD_LOG)
    history.check()
    told = [(op.process, op.function, op.value, op.outcome, op.error) for op in history]
    assert told == [
        (0, "read", None, Outcome.OK, None),
        (1, "write", 4, Outcome.UNKNOWN, "timed-out"),
        (2, "cas", (4, 1), Outcome.FAIL, None),
        (2, "read", None, Outcome.FAIL, "timed-out"),
    ]
    assert [fault.name for fault in history.faults] == ["fault"]
    assert check_linearizable(history, CasRegister()).ok


def test_a_failed_comparison_in_an_etcd_log_is_evidence() -> None:
    log = ETCD_LOG.replace(":info\t:write\t:timed-out", ":ok\t:write\t4")
    judgement = check_linearizable(read_log(log), CasRegister())
    assert judgement.verdict is Verdict.VIOLATED
    assert "cas(4 to 1) -> fail, but the register holds 4" in judgement.summary


def test_knossos_histories_are_read_with_comments_and_without_commas() -> None:
    history = read_jepsen(
        """[{:process 4, :type :invoke, :f :write, :value 2}
            {:process 4, :type :ok, :f :write, :value 2}
            ; a read that crashed
            {:process 6  :type :invoke  :f :read :value nil}
            #_ {:process 9 :type :invoke}
            {:process 1, :type :invoke, :f :cas, :value [2 4]}
            {:process 1, :type :fail, :f :cas, :value [2 4], :error [:not-found "x"]}]"""
    )
    assert [op.outcome for op in history] == [Outcome.OK, Outcome.UNKNOWN, Outcome.FAIL]
    assert history.operations[2].error == ("not-found", "x")


def test_jepsen_histories_one_operation_a_line_carry_tags_times_and_faults() -> None:
    history = read_jepsen(
        "#jepsen.history.Op{:index 0, :time 10, :type :invoke, :process 0, :f :read, :value nil}\n"
        "{:index 1 :time 15 :type :info :process :nemesis :f :start-partition :value [:a :b]}\n"
        "#jepsen.history.Op{:index 2, :time 20, :type :ok, :process 0, :f :read, :value #{1 2}}\n"
        "{:index 3 :time 90 :type :info :process :nemesis :f :stop-partition :value nil}\n"
    )
    (op,) = history
    assert (op.called_ns, op.returned_ns, op.result) == (10, 20, frozenset({1, 2}))
    assert history.faults == (FaultWindow("partition", 15, 90, "[:a :b]"),)


def test_independent_keys_are_split_off_the_value() -> None:
    history = read_jepsen(
        "{:process 0 :type :invoke :f :write :value [7 1]}"
        "{:process 0 :type :ok :f :write :value [7 1]}"
        "{:process 0 :type :invoke :f :read :value [8 nil]}"
        "{:process 0 :type :ok :f :read :value [8 nil]}",
        keyed=True,
    )
    assert [(op.key, op.value, op.result) for op in history] == [(7, 1, 1), (8, None, None)]
    assert check_linearizable(history, KeyValue()).ok


def test_porcupines_key_value_logs_are_judged_per_key() -> None:
    text = (
        '{:process 0, :type :invoke, :f :get, :key "a", :value nil}\n'
        '{:process 1, :type :invoke, :f :append, :key "a", :value "x 1 0 y"}\n'
        '{:process 0, :type :ok, :f :get, :key "a", :value ""}\n'
        '{:process 1, :type :ok, :f :append, :key "a", :value "x 1 0 y"}\n'
        '{:process 0, :type :invoke, :f :get, :key "a", :value nil}\n'
        '{:process 0, :type :ok, :f :get, :key "a", :value "x 1 0 y"}\n'
    )
    history = read_history(text)
    assert check_linearizable(history, KeyValue(absent="")).ok
    wrong = read_history(text.replace('"x 1 0 y"}\n', '"x 2 0 y"}\n', 1))
    assert not check_linearizable(wrong, KeyValue(absent="")).ok
    assert write_porcupine(history) == text


def test_a_return_without_a_call_was_called_before_the_log_begins() -> None:
    history = read_jepsen("{:process 3 :type :ok :f :read :value 1}")
    (op,) = history
    assert op.called < 0
    assert op.result == 1
    history.check()


def test_every_notation_is_told_apart() -> None:
    recorder = Recorder()
    recorder.invoke(0, "write", 1)
    recorder.ok(0, 1)
    history = recorder.history()
    for written in (write_jsonl(history), write_jepsen(history), write_log(history)):
        (op,) = read_history(written)
        assert (op.function, op.value, op.result) == ("write", 1, 1)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.text(max_size=6),
        st.binary(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=2),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), value=values, error=values)
def test_json_lines_give_back_the_history_that_was_written(
    seed: int, value: Any, error: Any
) -> None:
    made = true_history("key-value", Random(seed), operations=12, lose=0.3)
    positions = {op.id: LogPosition("g", 1, op.id) for op in made if op.id % 2}
    history = made.placed(positions, log_is_complete=False)
    first = history.operations[0]
    changed = Operation(
        first.id, "client", first.function, value, value, Outcome.OK,
        first.called, first.returned or 10**6, 5, 9, value, None, error,
    )  # fmt: skip
    faults = (FaultWindow("partition", 1, None, "a | b"), FaultWindow("pause", 3, 9))
    history = History([changed, *history.operations[1:]], faults)

    again = read_jsonl(write_jsonl(history))

    again.check()
    assert again.faults == history.faults
    assert [_content(op) for op in again] == [_content(op) for op in history]
    assert _order(again) == _order(history)
    assert write_jsonl(read_jsonl(write_jsonl(history))) == write_jsonl(history)


def _content(op: Operation) -> tuple[Any, ...]:
    position = op.position if op.outcome is Outcome.OK else None
    return (
        op.process, op.function, op.value, op.result, op.outcome, op.key, op.called_ns,
        op.returned_ns, position, op.error,
    )  # fmt: skip


def _order(history: History) -> list[tuple[int, int]]:
    """Which operation returned before which was called: all that judges look at."""
    ops = history.operations
    return [(i, j) for i, a in enumerate(ops) for j, b in enumerate(ops) if a.precedes(b)]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_edn_gives_back_the_history_that_was_written(seed: int) -> None:
    history = true_history("cas-register", Random(seed), operations=15, lose=0.3)
    again = read_jepsen(write_jepsen(history))
    assert _order(again) == _order(history)
    assert [_content(op) for op in again] == [_content(op) for op in history]


@settings(deadline=None)
@given(values.filter(lambda v: "\\u" not in repr(v)))
def test_edn_values_survive_being_written(value: Any) -> None:
    (form,) = read_edn(write_edn(value))
    assert _plain(form.value) == _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42N", 42),
        ("-1.5e3M", -1500.0),
        ("1/4", 0.25),
        (r'"a\nA"', "a\nA"),
        (r"\newline", "\n"),
        (r"\a", "a"),
        ('#inst "2020"', "2020"),
        ("^{:doc 1} [1 ...]", (1, "...")),
        ("{:a 1, :b (2 3)}", {"a": 1, "b": (2, 3)}),
    ],
)
def test_edn_has_these_values(text: str, value: Any) -> None:
    assert [form.value for form in read_edn(text)] == [value]


def test_a_keyword_equals_its_name_and_is_written_with_its_colon() -> None:
    assert Keyword("x") == "x"
    assert write_edn({Keyword("x"): "x"}) == '{:x "x"}'


@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("{:process 0, :type :invoke\n", 2, 1, "} to close the { of line 1, column 1"),
        ("[{:process 0]", 1, 13, "}"),
        ("{:process 0 :type}", 1, 1, "pairs"),
        ("\n  7", 2, 3, "an operation, {...}"),
        ("{:process 0 :type :went :f :read}", 1, 1, ":type to be :invoke"),
        ("{:process 1.5 :type :ok :f :read}", 1, 1, ":process to be a number"),
        ("{:process 0 :type :ok :value 3}", 1, 1, ":f to be a function"),
        ('{:process 0 :f "open', 1, 16, "a value"),
        ("{:process 12x :type :ok}", 1, 11, "a number"),
        ("[" * 300, 1, 201, "at most 200 levels"),
    ],
)
def test_malformed_edn_is_refused_with_line_column_and_what_was_expected(
    text: str, line: int, column: int, expected: str
) -> None:
    with pytest.raises(Malformed) as caught:
        read_jepsen(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("{nope}", 1, "one JSON object"),
        ('{"type": "ok"}', 1, '"process" to be a number or a name'),
        ('\n{"process": 0, "type": "went"}', 2, '"type" to be invoke'),
        ('{"process": 0, "type": "invoke", "f": 3}', 1, '"f" to be the function'),
        ('{"process": 0, "type": "invoke", "f": "r", "time_ns": "now"}', 1, '"time_ns" to be'),
        ('{"process": 0, "type": "ok", "f": "r", "position": [1, 2]}', 1, "[group, term, index]"),
        ('{"process": 0, "type": "ok", "f": "r", "value": {"$set": 1}}', 1, '"value" to be'),
        ('{"type": "fault", "f": "x", "started_ns": null}', 1, '"started_ns" to be a whole'),
        ("[1]", 1, "one JSON object"),
    ],
)
def test_malformed_json_lines_are_refused_with_their_line(
    text: str, line: int, expected: str
) -> None:
    with pytest.raises(Malformed) as caught:
        read_jsonl(text)
    assert caught.value.line == line
    assert expected in caught.value.expected


def test_a_cut_off_log_line_is_refused_with_its_place() -> None:
    with pytest.raises(Malformed, match="line 2, column") as caught:
        read_log("INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read")
    assert "a value" in caught.value.expected


def test_a_process_that_does_two_things_at_once_is_refused_with_both_lines() -> None:
    with pytest.raises(
        InvalidInput, match=r"line 2: process 0 calls read while its write of line 1"
    ):
        read_jepsen(
            "{:process 0 :type :invoke :f :write :value 1}\n"
            "{:process 0 :type :invoke :f :read :value nil}\n"
        )


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet='{}[]()#_":\\;,^ \n019abfx-.processtypeinvokeok', max_size=60))
def test_no_text_whatever_ends_in_a_traceback_from_the_depths(text: str) -> None:
    for notation in ("edn", "jsonl", "log", "auto"):
        try:
            read_history(text, notation)
        except InvalidInput:
            continue
