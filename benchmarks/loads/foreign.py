"""Serve the orders of a module, in whatever environment has what it needs.

Usage: python -m benchmarks.loads.foreign MODULE. The module, mostly one of ``benchmarks.foreign``,
has ``handle(order)``, which returns an answer; what it raises becomes the answer.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from benchmarks.loads import orders


def main() -> None:
    """Answer orders until stdin ends."""
    handle = importlib.import_module(sys.argv[1]).handle
    orders.answer({"ready": True})
    for line in sys.stdin:
        try:
            told: dict[str, Any] = handle(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the harness reports it, and may go on
            told = {"error": f"{type(error).__name__}: {error}"}
        orders.answer(told)


if __name__ == "__main__":
    main()
