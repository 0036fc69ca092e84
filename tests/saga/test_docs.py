"""The saga page runs from top to bottom: programs, and what the command line prints between."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from tests.ctl.town import run

PAGE = Path(__file__).parents[2] / "docs" / "saga.md"
COMMAND = re.compile(r"^\$ mcpctl (.*?)\n(.*?)(?=^\$ |\Z)", re.M | re.S)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def alike(text: str) -> list[str]:
    """Without what differs from run to run: times, and the names of engines."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "DATE", text)
    text = re.sub(r"(?<=engine#)[0-9a-f]{12}", "HEX", text)
    text = re.sub(r"\d+\.\d(\d\d)?(?= )", "TIME", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_every_listing_and_every_command_of_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    names: dict[str, object] = {}
    commands = 0
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    for kind, block in blocks:
        if kind == "python":
            test = doctest.DocTestParser().get_doctest(block, names, "saga.md", str(PAGE), 0)
            test.globs = names  # one namespace, as in one file
            failures: list[str] = []
            doctest.DocTestRunner(optionflags=FLAGS).run(
                test, out=failures.append, clear_globs=False
            )
            assert not failures, "".join(failures)
            continue
        for typed, printed in COMMAND.findall(block):
            told = run(*shlex.split(typed))
            assert told.exit_code == 0, told.output
            assert alike(told.stdout) == alike(printed), typed
            commands += 1
    assert commands >= 3
