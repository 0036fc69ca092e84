"""How long ``import mcpcore`` takes, beside imports everybody knows."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured

STATEMENTS = {
    "mcpcore: import mcpcore": "import mcpcore",
    "mcpcore: from mcpcore import Raft": "from mcpcore import Raft",
    "mcpcore: from mcpcore import Node": "from mcpcore import Node",
    "nothing": "pass",
    "import asyncio": "import asyncio",
    "import json": "import json",
}
PROGRAM = "import time; t = time.perf_counter(); {}; print((time.perf_counter() - t) * 1e3)"


def measure(bench: Bench) -> None:
    """Fresh processes, in turn."""
    bench.answer.method = "A fresh process for each round; the time of the statement within it."
    bench.answer.bias = "File caches are warm: every statement runs once before it counts."
    bench.answer.references = ("import asyncio",)
    contestants = {who: importing(statement) for who, statement in STATEMENTS.items()}
    for run in contestants.values():
        run()
    bench.interleave("", {}, {"import": Measure("ms", "less")}, contestants)


def importing(statement: str) -> Contestant:
    """In a process of its own."""

    def run() -> Measured:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(statement)],
            capture_output=True,
            text=True,
            check=True,
        )
        return Measured({"import": float(done.stdout)})

    return run
