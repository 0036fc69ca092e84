"""`mcpctl saga`, on a file and on a cluster of real processes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mcpcore.ctl.options import ClusterOptions
from mcpcore.ctl.profile import find_profile
from mcpcore.node.sagas import GroupJournal
from mcpcore.saga import (
    ONCE,
    Call,
    Journal,
    Saga,
    SagaEngine,
    SqliteJournal,
    Status,
    Step,
    StepFailed,
)
from tests.ctl.town import NAMES, Town, run


async def nothing(call: Call) -> None:
    pass


async def cannot(call: Call) -> None:
    raise OSError("\x1b[31mred\n")


async def refuse(call: Call) -> None:
    raise StepFailed("no such region")


async def hang(call: Call) -> None:
    await asyncio.sleep(1e6)


FINE = Saga("fine", Step(nothing, nothing))
STUCK = Saga(
    "stuck", Step(nothing, cannot, name="a", undo_retry=ONCE), Step(refuse, nothing, name="b")
)
LONG = Saga("long", Step(hang, nothing, timeout_s=1e6))


async def fill(journal: Journal) -> None:
    """One saga that is done, one that is parked, one that runs (its engine is gone)."""
    async with SagaEngine(journal, [FINE, STUCK, LONG], name="e") as engine:
        await engine.run(FINE, {"n": b"\xff"}, id="done")
        await engine.run(STUCK, id="parked")
        await engine.start(LONG, id="running")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sagas.db"
    asyncio.run(fill(SqliteJournal(path)))
    return str(path)


def ask(file: str, *words: str) -> tuple[int, str]:
    told = run("saga", *words, "--journal", file)
    return told.exit_code, told.output


def rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_sagas_are_listed_by_status_definition_and_age(file: str) -> None:
    _, everything = ask(file, "list", "-o", "json")
    assert [(each["saga"], each["status"]) for each in rows(everything)] == [
        ("done", "completed"),
        ("parked", "parked"),
        ("running", "running"),
    ]
    assert ask(file, "list", "--status", "parked", "-o", "plain") == (0, "parked\tparked\n")
    assert [
        r["saga"] for r in rows(ask(file, "list", "--definition", "long", "-o", "json")[1])
    ] == ["running"]
    assert ask(file, "list", "--older-than", "3600") == (0, "")
    assert "parked   parked     stuck" in ask(file, "list")[1]


def test_a_parked_saga_says_what_it_waits_for_and_what_can_be_done(file: str) -> None:
    code, text = ask(file, "show", "parked")
    assert code == 0
    assert "It waits for somebody: compensation failed: a." in text
    assert "mcpctl saga retry parked" in text
    [facts] = rows(ask(file, "show", "parked", "-o", "json")[1])
    assert facts["stuck"] == ["a"]
    assert facts["steps"]["a"]["undo"] == "waiting"
    [facts] = rows(ask(file, "show", "done", "-o", "json")[1])
    assert facts["input"] == {"n": "\\xff"}


def test_a_timeline_tells_everything_and_moves_no_cursor(file: str) -> None:
    _, text = ask(file, "timeline", "parked")
    assert "\x1b" not in text
    assert "\\x1b[31mred\\n" in text
    kinds = [row["kind"] for row in rows(ask(file, "timeline", "parked", "-o", "json")[1])]
    assert kinds == [
        "Started", "StepStarted", "StepDone", "StepStarted", "StepErred", "TurnedBack",
        "UndoStarted", "UndoErred", "Parked",
    ]  # fmt: skip
    assert ask(file, "timeline", "parked", "-o", "plain")[1].count("\n") == len(kinds)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("retry", "parked", "--note", "it is well"), Status.PARKED),
        (("skip", "parked"), Status.COMPENSATED),
        (("resolve", "parked", "completed", "--note", "by hand"), Status.COMPLETED),
        (("cancel", "running", "--why", "wrong"), Status.COMPENSATED),
    ],
)
def test_what_was_decided_is_in_the_journal_and_the_next_engine_goes_on_from_it(
    file: str, words: tuple[str, ...], end: Status
) -> None:
    code, text = ask(file, *words)
    assert code == 0, text

    async def go_on() -> Status:
        async with SagaEngine(SqliteJournal(file), [FINE, STUCK, LONG], name="e") as engine:
            return (await engine.outcome(words[1])).status

    assert asyncio.run(go_on()) is end


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("show", "nobody"), 3, "there is no saga nobody"),
        (("retry", "done"), 3, "it is not parked, but completed"),
        (("skip", "running"), 3, "it is not parked, but running"),
        (("cancel", "done"), 3, "it has ended"),
        (("cancel", "parked"), 3, "being compensated already"),
        (("resolve", "running", "completed", "--note", "x"), 3, "force it"),
        (("resolve", "parked", "completed", "--note", " "), 2, "say what was done by hand"),
        (("list", "--status", "asleep"), 2, "asleep"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    file: str, words: tuple[str, ...], code: int, why: str
) -> None:
    before = ask(file, "list", "-o", "json")
    told, text = ask(file, *words)
    assert told == code
    assert why in text
    assert text.startswith("mcpctl: ")
    assert ask(file, "list", "-o", "json") == before


def test_a_file_that_is_not_there_is_no_journal(tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    code, text = ask(str(missing), "list")
    assert (code, missing.exists()) == (2, False)
    assert "no such file" in text


@pytest.mark.processes
def test_sagas_of_a_cluster_are_found_and_decided_about_from_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    town = Town(tmp_path)
    try:
        town.start(*NAMES)
        town.wait_until_well()
        options = ClusterOptions(config=str(town.client))

        async def in_cluster() -> None:
            async with find_profile(options).client() as client:
                await fill(GroupJournal(client))

        asyncio.run(in_cluster())
        profile = ("-c", str(town.client))
        assert run("saga", "list", "-s", "parked", "-o", "plain", *profile).stdout == (
            "parked\tparked\n"
        )
        told = run("saga", "resolve", "parked", "compensated", "--note", "by hand", *profile)
        assert told.exit_code == 0, told.output
        assert "by hand of" in run("saga", "timeline", "parked", *profile).stdout
        assert run("saga", "retry", "parked", *profile).exit_code == 3
    finally:
        town.end_all()
