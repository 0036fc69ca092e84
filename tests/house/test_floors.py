"""The house keeps its floors: what decides never touches the outside world."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = ["raft", "check", "clock", "crdt", "policy"]
PURE_FILES = sorted(
    path for floor in PURE for path in (ROOT / "mcpcore" / floor).rglob("*.py")
) + sorted((ROOT / "mcpcore" / "node" / "kv").glob("[!c]*.py"))
OUTSIDE = {
    "asyncio",
    "os",
    "random",
    "secrets",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_decisions_never_import_the_outside_world(path: Path) -> None:
    forbidden = imported(path) & OUTSIDE
    assert not forbidden, (
        f"{path.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}. What decides gets time, "
        "randomness and input handed in; what acts belongs into mcpcore/node."
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "mcpcore").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_file_says_why_it_exists(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{path.relative_to(ROOT)} has no header"


def test_importing_mcpcore_loads_no_extra_and_no_floor() -> None:
    """Keeps the import under 100 ms (figure: ``python -m benchmarks import_time``)."""
    code = "import sys, mcpcore; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"asyncio", "cryptography", "typer", "rich", "hypothesis", "msgpack", "ssl"}
    assert not heavy & set(loaded)
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("mcpcore")}
    assert ours == {"mcpcore", "mcpcore.errors"}
