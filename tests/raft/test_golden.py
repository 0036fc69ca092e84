"""Whole conversations, word for word.

After a change of behaviour that is meant: ``RAFT_REWRITE=1 pytest tests/raft/test_golden.py``, then
read the diff as carefully as code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.raft.golden import replay

FILES = sorted((Path(__file__).parent / "conversations").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_group_still_says_word_for_word(path: Path) -> None:
    told = path.read_text()
    today = replay(told)
    if os.environ.get("RAFT_REWRITE"):
        path.write_text(today)
    else:
        assert today == told


def test_no_conversation_was_lost() -> None:
    assert len(FILES) >= 15
