"""Sagas in a file: they survive the process, and two engines never share one."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpcore.errors import EngineReplaced, InvalidInput, JournalMoved, JournalUnavailable
from mcpcore.saga import (
    ONCE,
    OPEN,
    Call,
    Head,
    Journal,
    MemoryJournal,
    Query,
    Saga,
    SagaEngine,
    SqliteJournal,
    Status,
    Step,
    operations,
)
from mcpcore.saga.journals.sqlite import POLL_S
from mcpcore.saga.records import Entry, Remedy

ROOT = Path(__file__).parents[2]


def head(saga: str, length: int, status: Status = Status.RUNNING, started_ns: int = 1) -> Head:
    return Head(saga, "s", "v", status, "e#1", started_ns, 2, length)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_journal_appends_only_where_the_writer_believes_it_to_end(
    kind: str, tmp_path: Path
) -> None:
    journal: Journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "j.db")
    await journal.open("e#1")
    first = await journal.append(head("x", 2), 0, [b"a", b"b"])
    with pytest.raises(JournalMoved):
        await journal.append(head("x", 2), 1, [b"c"])
    with pytest.raises(JournalMoved):
        await journal.append(head("x", 1), 0, [b"z"])
    second = await journal.append(head("x", 3), 2, [b"c"])
    again = await journal.append(head("x", 3), 2, [b"c"])
    story = await journal.read("x")

    assert story is not None
    assert list(story.rows) == [b"a", b"b", b"c"], "appended again, it is there once"
    assert first < second <= again
    assert await journal.read("y") is None
    await journal.delete("x")
    assert await journal.heads(OPEN) == []
    await journal.close()
    await journal.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_sagas_are_found_by_state_definition_and_age(kind: str, tmp_path: Path) -> None:
    journal: Journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "j.db")
    await journal.open("e#1")
    for number, status in enumerate(Status):
        await journal.append(head(f"x{number}", 1, status, 100 - number), 0, [b"a"])
    for query in (
        OPEN,
        Query(),
        Query(status=(Status.PARKED,)),
        Query(definition="t"),
        Query(owner="e#1", limit=2),
        Query(started_before_ns=98),
    ):
        everything = await journal.heads(Query())
        assert await journal.heads(query) == query.pick(everything)
    assert [h.saga for h in await journal.heads(Query(limit=2))] == ["x4", "x3"], "oldest first"
    await journal.close()


async def test_an_engine_that_opens_a_file_replaces_the_one_before(tmp_path: Path) -> None:
    one, two = SqliteJournal(tmp_path / "j.db"), SqliteJournal(tmp_path / "j.db")
    await one.open("e#1")
    before = await one.append(head("x", 1), 0, [b"a"])
    await two.open("e#2")
    with pytest.raises(EngineReplaced):
        await one.append(head("x", 2), 1, [b"b"])
    after = await two.append(head("x", 2), 1, [b"c"])
    assert before < after
    assert await two.gone({"e#1", "e#2"}) == {"e#1"}
    await one.close()
    await two.close()


async def test_many_appends_at_once_share_commits_and_each_is_told_its_own_fate(
    tmp_path: Path,
) -> None:
    journal = SqliteJournal(tmp_path / "j.db")
    await journal.open("e#1")
    answers = await asyncio.gather(
        *(journal.append(head(f"x{n % 50}", 1), 0, [b"%d" % n]) for n in range(100)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, JournalMoved) for answer in answers) == 50
    fences = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(set(fences)) == 50
    await journal.close()
    with pytest.raises(JournalUnavailable):
        await journal.read("x1")


async def test_a_file_that_is_no_journal_is_refused_clearly(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, not at all, " * 100)
    newer = tmp_path / "newer.db"
    made = SqliteJournal(newer)
    await made.open("e#1")
    await made.close()
    with sqlite3.connect(newer) as db:
        db.execute("UPDATE saga_meta SET value = 9 WHERE key = 'format'")
    db.close()
    for path, why in ((text, "not a database"), (newer, "format 9")):
        journal = SqliteJournal(path)
        with pytest.raises(InvalidInput, match=why):
            await journal.heads(OPEN)
        await journal.close()
    with pytest.raises(InvalidInput, match="no such file"):
        SqliteJournal(tmp_path / "missing.db", must_exist=True)


async def test_what_a_tool_writes_into_the_file_reaches_the_engine(tmp_path: Path) -> None:
    undone: list[str] = []

    async def hang(call: Call) -> None:
        await asyncio.sleep(1e6)

    async def take_back(call: Call) -> None:
        undone.append(call.step)

    saga = Saga("s", Step(hang, take_back, timeout_s=1e6))
    async with SagaEngine(SqliteJournal(tmp_path / "j.db"), [saga]) as engine:
        handle = await engine.start(saga, id="x")
        tool = SqliteJournal(tmp_path / "j.db", must_exist=True)
        await operations.write(
            tool, "x", lambda state: operations.cancel(state, by="ops", why=""), Entry
        )
        await tool.close()
        async with asyncio.timeout(5):
            outcome = await handle.outcome()
    assert outcome.status is Status.COMPENSATED
    assert undone == ["hang"]


async def test_whoever_looks_at_a_saga_does_not_hide_from_its_engine_what_a_tool_wrote(
    tmp_path: Path,
) -> None:
    """A page that shows sagas reads them all the time, through the engine's own journal."""
    broken = True

    async def cannot_yet(call: Call) -> None:
        if broken:
            raise OSError("down")

    async def nothing(call: Call) -> None:
        pass

    saga = Saga("s", Step(nothing, name="p", pivot=True), Step(cannot_yet, name="z", retry=ONCE))
    path = tmp_path / "j.db"
    async with SagaEngine(SqliteJournal(path), [saga]) as engine:
        assert (await engine.run(saga, id="x")).status is Status.PARKED
        broken = False
        await asyncio.sleep(2 * POLL_S)  # the engine has looked once
        tool = SqliteJournal(path)
        await operations.write(
            tool, "x", lambda s: operations.unpark(s, Remedy.RETRY, by="ops", note=""), Entry
        )
        assert (await engine.state("x")).parked is None
        await tool.close()
        async with asyncio.timeout(5):
            assert (await engine.outcome("x")).status is Status.COMPLETED


async def test_ended_sagas_are_forgotten_after_a_while_and_others_never(tmp_path: Path) -> None:
    async def nothing(call: Call) -> None:
        pass

    async def cannot(call: Call) -> None:
        raise OSError("down")

    fine = Saga("fine", Step(nothing, nothing))
    stuck = Saga("stuck", Step(nothing, nothing, name="a"), Step(nothing, name="p", pivot=True),
                 Step(cannot, name="z", retry=ONCE))  # fmt: skip
    async with SagaEngine(SqliteJournal(tmp_path / "j.db"), [fine, stuck]) as engine:
        await engine.run(fine)
        parked = await engine.run(stuck)
        assert await engine.prune(keep_s=3600) == 0
        await asyncio.sleep(0.01)
        assert await engine.prune(keep_s=0) == 1
        assert [each.saga for each in await engine.find(Query())] == [parked.saga]


PROGRAM = """
import asyncio, os, sys
from mcpcore.saga import *

def note(text):
    with open("effects.txt", "a") as file:
        file.write(text + "\\n")
        file.flush()
        os.fsync(file.fileno())

def step(number):
    async def act(call):
        note(f"do {call.step} {call.token}")
        await asyncio.sleep(0.05)
        if number == 4:
            raise StepFailed("no such region")
    async def undo(call):
        note(f"undo {call.step} {call.do_token}")
        await asyncio.sleep(0.05)
    return Step(act, undo, name=f"s{number}", retry=Retry(attempts=20),
                undo_retry=Retry(attempts=20))

saga = Saga("kill", *(step(n) for n in range(5)))

async def main():
    async with SagaEngine(SqliteJournal("sagas.db"), [saga]) as engine:
        print((await engine.run(saga, id="x")).status, flush=True)

asyncio.run(main())
"""


@pytest.mark.processes
def test_a_process_killed_again_and_again_finishes_its_saga_in_the_end(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", PROGRAM]
    effects = tmp_path / "effects.txt"
    kills = 0
    for wanted in (1, 3, 5, 7):
        process = subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up and process.poll() is None:
            if effects.exists() and len(effects.read_text().splitlines()) >= wanted:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        process.wait(30)
    done = subprocess.run(
        words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.strip() == "compensated", done.stderr
    assert kills >= 3
    lines = [line.split() for line in effects.read_text().splitlines()]
    undone = list(dict.fromkeys(step for action, step, _ in lines if action == "undo"))
    assert undone in (["s3", "s2", "s1", "s0"], ["s4", "s3", "s2", "s1", "s0"])
    assert len({token for _, _, token in lines}) == 5, "one token for each effect, for ever"
