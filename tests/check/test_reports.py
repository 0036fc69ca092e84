"""What people see: text, plain data, the page, the command and its exit status."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from mcpcore.check.formats import write_jsonl
from mcpcore.check.history import FaultWindow, History, Recorder
from mcpcore.check.linear import check_linearizable
from mcpcore.check.models import CasRegister, KeyValue, Register
from mcpcore.check.page import page_data, render_page
from mcpcore.check.report import as_data, as_text
from mcpcore.ctl.check import app
from tests.check.histories import explains, in_turn, true_history

BAD = in_turn((0, "write", 1, 1), (1, "write", 2, 2), (2, "read", None, 1))


def test_the_text_tells_prefix_longest_order_and_contradiction() -> None:
    judgement = check_linearizable(BAD, Register())
    assert as_text(judgement, BAD, Register()).splitlines()[:11] == [
        "VIOLATED  linearizable: not linearizable as a register: no order of the first 3 "
        "operations explains operation 2: read() -> 1, but the register holds 2; "
        "at most 2 of them can be put in order",
        "",
        "The shortest failing prefix: 3 operations, up to the return of",
        "  2  process 2  read() -> 1",
        "",
        "The longest order that works explains 2 operations:",
        "  0  process 0  write(1)",
        "  1  process 1  write(2)",
        "  leaving 2. What could come next, and what stands against it:",
        "  2: read() -> 1, but the register holds 2",
        "",
    ]


def test_the_plain_data_survives_json() -> None:
    judgement = check_linearizable(BAD, Register())
    data = as_data(judgement)
    assert json.loads(json.dumps(data)) == data
    assert data["parts"][0]["dead_ends"][0]["candidates"][0]["operation"] == 2


def test_the_page_draws_every_operation_with_states_before_and_after() -> None:
    history = true_history("cas-register", Random(3), 60)
    model = CasRegister()
    data = page_data(history, check_linearizable(history, model), model)
    (order,) = data["orders"]
    points = order["points"]
    assert explains(model, history, [point[0] for point in points])
    assert [after for *_, after in points[:-1]] == [before for _, _, before, _ in points[1:]]
    by_id = {op["id"]: op for op in data["ops"]}
    assert len(by_id) == len(history)
    at = 0
    for id_, at_ns, _, _ in points:
        op = by_id[id_]
        assert at_ns >= at
        assert at_ns >= op["from"]
        if op["outcome"] != "unknown":
            assert at_ns <= op["to"]
        at = at_ns


def test_the_page_loads_nothing_and_no_value_can_break_out_of_it() -> None:
    history = in_turn((0, "write", "</script><script>alert(1)</script>", None))
    page = render_page(history, check_linearizable(history, Register()), Register(), title="<b>")
    assert page.count("<script") == 2
    assert "<title>&lt;b&gt;</title>" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page)
    data = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert "</script><script>alert(1)" in json.loads(data[1])["ops"][0]["text"]


def test_many_clients_that_come_and_go_share_lanes_without_overlapping() -> None:
    recorder = Recorder()
    for at in range(200):
        recorder.invoke(at, "write", at, time_ns=at * 100)
        recorder.ok(at, at, time_ns=at * 100 + 150)
    history = recorder.history()
    data = page_data(history, check_linearizable(history, Register()), None)
    assert len(data["lanes"]) <= 4
    ends: dict[int, int] = {}
    for op in sorted(data["ops"], key=lambda op: op["from"]):
        assert op["from"] > ends.get(op["lane"], -1)
        ends[op["lane"]] = op["to"]


def test_faults_are_shaded_where_they_were() -> None:
    history = History(BAD.operations, [FaultWindow("partition", 500, None, "a | b")])
    data = page_data(history, check_linearizable(history, Register()), None)
    assert data["faults"] == [{"name": "partition", "text": "a | b", "from": 500, "to": None}]


@pytest.mark.parametrize(
    ("history", "arguments", "status", "said"),
    [
        (BAD, ["--model", "register"], 1, "VIOLATED"),
        (in_turn((0, "write", 1, 1)), ["--model", "register"], 0, "OK"),
        (in_turn((0, "write", 1, 1)), ["--model", "set-read"], 2, "UNKNOWN"),
        (BAD, ["--model", "oracle"], 3, "no such model or check"),
        (BAD, ["--model", "register", "--format", "xml"], 3, "no such notation"),
        (BAD, ["--model", "mutex"], 3, "is no operation of a mutex"),
    ],
)
def test_the_exit_status_is_the_verdict(
    tmp_path: Path, history: History, arguments: list[str], status: int, said: str
) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(write_jsonl(history))
    result = CliRunner().invoke(app, [str(file), *arguments])
    assert result.exit_code == status, result.output
    assert said in result.output


def test_a_file_that_is_not_there_or_cut_off_is_refused_with_its_place(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, [str(tmp_path / "none"), "--model", "register"])
    assert missing.exit_code == 3
    assert "No such file" in missing.output
    cut = tmp_path / "cut.edn"
    cut.write_text("{:process 0 :type :invoke")
    result = CliRunner().invoke(app, [str(cut), "--model", "register"])
    assert result.exit_code == 3
    assert "line 1, column 26" in result.output


def test_edn_is_read_as_knossos_does_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "history.edn"
    file.write_text(
        "{:process 0 :type :invoke :f :write :value 1}{:process 0 :type :ok :f :write :value 1}"
        "{:process 0 :type :invoke :f :read :value nil}{:process 0 :type :ok :f :read :value nil}"
    )
    run = CliRunner().invoke
    assert run(app, [str(file), "-m", "cas-register"]).exit_code == 0
    strict = run(app, [str(file), "-m", "cas-register", "--semantics", "porcupine"])
    assert strict.exit_code == 1
    assert "nil read: absent" in strict.output


def test_the_command_writes_json_and_a_page(tmp_path: Path) -> None:
    file, page = tmp_path / "history.jsonl", tmp_path / "page.html"
    file.write_text(write_jsonl(BAD))
    arguments = [str(file), "-m", "register", "--json", "--html", str(page)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert json.loads(result.output)["verdict"] == "violated"
    assert page.read_text().startswith("<!doctype html>")


def test_the_examples_of_the_manual_run_as_printed() -> None:
    manual = Path(__file__).parents[2] / "docs" / "check.md"
    failures, examples = doctest.testfile(str(manual), module_relative=False)
    assert examples > 40
    assert failures == 0


def test_one_run_prints_the_same_under_another_hash_seed(tmp_path: Path) -> None:
    history = true_history("key-value", Random(11), 80, lose=0.02)
    read = [op for op in history if op.function == "get" and op.result][-1]
    broken = History(replace(op, result="never") if op is read else op for op in history)
    file = tmp_path / "history.jsonl"
    file.write_text(write_jsonl(broken))
    code = "from mcpcore.ctl.check import app; app()"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(file), "-m", "key-value", "--json"],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=False,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b'"verdict": "violated"' in outputs.pop()
    assert not check_linearizable(broken, KeyValue()).ok


def test_a_file_without_a_single_operation_is_unusable_and_not_ok(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("alice:x:7:7:Alice:/home/alice:/bin/sh\n")
    told = CliRunner().invoke(app, [str(file), "-m", "register"])
    assert told.exit_code == 3
    assert "holds no operation" in told.output
