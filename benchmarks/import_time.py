"""How long ``import mcpcore`` takes, beside imports everybody knows.

``python -m benchmarks.import_time``. Fresh processes, interleaved, so that a busy machine slows all
alike. Bias: file caches are warm after the first round, which is left out.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

STATEMENTS = [
    "pass",
    "import mcpcore",
    "from mcpcore import Raft",
    "from mcpcore import Node",
    "import asyncio",
    "import json",
]
ROUNDS = 15
PROGRAM = "import time; t = time.perf_counter(); {}; print((time.perf_counter() - t) * 1e3)"


def main() -> None:
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for round_ in range(ROUNDS + 1):
        for statement in STATEMENTS:
            out = subprocess.run(
                [sys.executable, "-c", PROGRAM.format(statement)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            if round_:
                times[statement].append(float(out))
    print("| statement | median ms | min-max |\n|---|---|---|")
    for statement, found in times.items():
        spread = f"{min(found):.1f}-{max(found):.1f}"
        print(f"| `{statement}` | {statistics.median(found):.1f} | {spread} |")


if __name__ == "__main__":
    main()
