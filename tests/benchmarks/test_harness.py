"""The harness: rounds in turn, peers that are missing, bad input, programs that misbehave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import cli, questions
from benchmarks.harness.bench import Bench, Measure, Measured, Options
from benchmarks.harness.figures import Answer, Report
from benchmarks.harness.programs import ROOT, Program, ProgramFailed
from benchmarks.harness.progress import Silent
from benchmarks.harness.questions import Question
from benchmarks.peers.supply import PeerMissing, Supply, known
from mcpcore.errors import InvalidInput

RATE = {"rate": Measure("per s", "more")}


def a_bench(tmp_path: Path, **options: object) -> Bench:
    def obtain(name: str) -> Supply:
        if name == "etcd":
            return Supply(Path("/bin/true"), "3.4.0")
        raise PeerMissing("the registry cannot be reached")

    chosen = Options(**{"rounds": 3, **options})  # type: ignore[arg-type]
    return Bench(Answer("fake", "Is it?"), chosen, tmp_path, Silent(), obtain)


# --- rounds -------------------------------------------------------------------------------------


def test_contestants_take_turns_and_each_round_begins_with_another_one(tmp_path: Path) -> None:
    order: list[str] = []

    def contestant(name: str) -> Measured:
        order.append(name)
        return Measured({"rate": len(order)})

    bench = a_bench(tmp_path)
    bench.interleave("", {}, RATE, {n: lambda n=n: contestant(n) for n in ("a", "b", "c")})  # type: ignore[misc]
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    rounds = {figure.subject: figure.rounds for figure in bench.answer.figures}
    assert rounds == {"a": (1, 6, 8), "b": (2, 4, 9), "c": (3, 5, 7)}


def test_a_peer_that_fails_is_left_out_from_then_on_and_the_others_go_on(tmp_path: Path) -> None:
    calls = []

    def fails() -> Measured:
        calls.append(1)
        raise ProgramFailed("rival", "fell over")

    bench = a_bench(tmp_path)
    for size in (1, 2):
        contestants = {"rival": fails, "mcpcore": lambda: Measured({"rate": 5.0})}
        bench.interleave("", {"size": size}, RATE, contestants)
    assert len(calls) == 1
    assert [figure.subject for figure in bench.answer.figures] == ["mcpcore", "mcpcore"]
    assert bench.answer.skipped == {"rival": "1: rival: fell over"}


def test_a_failure_of_ours_is_never_left_out(tmp_path: Path) -> None:
    def fails() -> Measured:
        raise ProgramFailed("mcpcore", "fell over")

    with pytest.raises(ProgramFailed):
        a_bench(tmp_path).interleave("", {}, RATE, {"mcpcore, embedded": fails})


# --- peers --------------------------------------------------------------------------------------


def test_a_peer_that_cannot_be_had_is_reported_with_the_reason(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    assert bench.peer("pysyncobj") is None
    assert bench.answer.skipped == {"pysyncobj": "the registry cannot be reached"}


def test_a_peer_that_was_not_asked_for_is_neither_fetched_nor_forgotten(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, peers=frozenset({"etcd"}))
    assert bench.peer("pysyncobj") is None
    assert bench.answer.skipped == {"pysyncobj": "not asked for"}
    assert bench.peer("etcd") is not None
    assert bench.answer.versions == {"etcd": "3.4.0"}


def test_an_unknown_peer_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"no peer is called zookeeper\. Choose among etcd"):
        known("etcd,zookeeper")
    assert known("none") == frozenset()
    assert known(" etcd, redis ") == {"etcd", "redis"}


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """One question that needs no time."""

    def measure(bench: Bench) -> None:
        bench.answer.method = "Nothing is measured."
        bench.interleave(
            "", {"size": 1}, RATE, {"mcpcore": lambda: Measured({"rate": 2.0}, [(0.5, 1.0)])}
        )

    monkeypatch.setitem(questions.QUESTIONS, "fake", Question("Is it?"))
    monkeypatch.setattr(questions, "load", lambda name: measure)


def test_a_run_prints_a_table_and_writes_what_it_was_asked_to_write(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, page = tmp_path / "deep" / "run.json", tmp_path / "run.md"
    words = ["fake", "--rounds", "2", "--json", str(kept), "--markdown", str(page)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "| 1 | mcpcore | 2 |" in printed
    assert page.read_text() == printed
    report = Report.load(kept)
    assert report.arguments == words
    assert report.answers[0].figures[0].rounds == (2.0, 2.0)
    assert report.machine["cores"]


def test_two_kept_runs_are_compared(
    fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "run.json")
    cli.main(["fake", "--json", kept])
    capsys.readouterr()
    assert cli.main(["compare", kept, kept]) == 0
    assert "1 x, within the spread" in capsys.readouterr().out


def test_a_question_that_fails_fails_the_command_and_what_was_found_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(bench: Bench) -> None:
        bench.figure("", "mcpcore", {}, "rate", [1.0])
        raise ProgramFailed("n1", "ended: no space left")

    monkeypatch.setitem(questions.QUESTIONS, "fake", Question("Is it?"))
    monkeypatch.setattr(questions, "load", lambda name: measure)
    kept = tmp_path / "run.json"
    assert cli.main(["fake", "--json", str(kept)]) == 1
    assert "fake failed: n1: ended: no space left" in capsys.readouterr().err
    answer = Report.load(kept).answers[0]
    assert len(answer.figures) == 1
    assert answer.skipped == {"the rest": "n1: ended: no space left"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nonsense"], "no question is called nonsense. Choose among commit"),
        (["commit", "--peers", "nobody"], "--peers: no peer is called nobody"),
        (["commit", "--seconds", "0"], "--seconds: must be above 0"),
        (["commit", "--seconds", "nan"], "--seconds: must be above 0"),
        (["commit", "--rounds", "0"], "--rounds: must be from 1"),
        (["compare", "/nowhere/a.json", "/nowhere/b.json"], "a.json: cannot be read"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_status_2(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert why in told
    assert "Traceback" not in told


def test_the_list_names_every_question_and_its_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in questions.QUESTIONS)
    assert "pysyncobj" in told


@pytest.mark.parametrize("name", questions.QUESTIONS)
def test_every_question_of_the_list_can_be_asked(name: str) -> None:
    assert callable(questions.load(name))


# --- programs -----------------------------------------------------------------------------------


def a_program(tmp_path: Path, code: str) -> Program:
    return Program("talker", [sys.executable, "-c", code], tmp_path / "talker.log")


def test_a_program_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        a_program(tmp_path, "raise SystemExit('no disk')") as program,
        pytest.raises(ProgramFailed, match="talker: ended: no disk"),
    ):
        program.hear(30)


@pytest.mark.parametrize(
    ("said", "why"),
    [("nonsense", "is no JSON"), ("[1]", "is no answer"), ('{"error": "too hot"}', "too hot")],
)
def test_what_a_program_says_is_read_strictly(said: str, why: str, tmp_path: Path) -> None:
    with (
        a_program(tmp_path, f"print({said!r}); input()") as program,
        pytest.raises(ProgramFailed, match=why),
    ):
        program.hear(30)


def test_a_program_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with (
        a_program(tmp_path, "input()") as program,
        pytest.raises(ProgramFailed, match=r"no answer within 0\.2 s"),
    ):
        program.hear(0.2)


@pytest.mark.processes
def test_no_program_outlives_the_harness(tmp_path: Path) -> None:
    """Killed with SIGKILL, the harness can clean up nothing; the leash does."""
    code = (
        "from pathlib import Path; from benchmarks.harness.programs import Program; import time\n"
        f"p = Program('s', ['/bin/sleep', '60'], Path({str(tmp_path / 'log')!r}), quiet=True)\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    harness = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert harness.stdout is not None
    sleeper = Path("/proc") / harness.stdout.readline().strip()
    harness.kill()
    harness.wait()
    harness.stdout.close()
    for _ in range(200):
        if not sleeper.exists() or "(zombie)" in (sleeper / "status").read_text():
            return
        subprocess.run(["/bin/sleep", "0.05"], check=True)
    pytest.fail("the program still runs")
