"""Every listing of docs/simulator.md runs, and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
_BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


def test_every_listing_of_the_tutorial_runs_and_prints_what_the_page_says() -> None:
    names: dict[str, object] = {"__name__": "tutorial"}
    printed, source = "", ""
    ran = 0
    for language, text in _BLOCK.findall(PAGE.read_text()):
        if language == "python":
            assert printed == "", f"the page does not show what this prints:\n{source}"
            source = text
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
            ran += 1
        else:
            assert printed == text, f"after:\n{source}"
            printed = ""
    assert printed == ""
    assert ran >= 10
