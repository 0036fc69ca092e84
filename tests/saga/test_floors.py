"""What decides about sagas never touches the outside world."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.test_floors import OUTSIDE, ROOT, imported

SAGA = ROOT / "mcpcore" / "saga"
ACTING = {"sqlite_thread.py"}
DECIDING = sorted(path for path in SAGA.glob("*.py") if path.name not in ACTING)


@pytest.mark.parametrize("path", DECIDING, ids=lambda path: path.name)
def test_decisions_about_sagas_never_import_the_outside_world(path: Path) -> None:
    forbidden = imported(path) & OUTSIDE
    assert not forbidden, f"{path.name} imports {forbidden}: what acts belongs into engine/"
