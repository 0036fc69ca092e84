"""The questions, by name.

This module exists so that ``list`` needs to load none of them. A question is a module of this
package with ``TITLE`` and ``measure(bench)``; adding one is adding a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.bench import Bench
from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Question:
    """A module, and what it asks.

    Args:
        asks: the question, in words.
        peers: whom it knows to measure beside us.
        module: where it is; ``benchmarks.`` and its name unless given.
    """

    asks: str
    peers: tuple[str, ...] = ()
    module: str = ""


QUESTIONS: dict[str, Question] = {
    "commit": Question(
        "How many writes a second do three nodes commit, synced to disk, and how soon?",
        ("etcd", "etcd-grpc", "pysyncobj", "redis"),
    ),
}


def named(names: list[str]) -> list[str]:
    """Questions in the order of the list; ``all`` stands for all of them.

    Raises:
        InvalidInput: there is none of such a name.
    """
    strange = [name for name in names if name != "all" and name not in QUESTIONS]
    if strange:
        raise InvalidInput(
            f"no question is called {', '.join(strange)}",
            where="NAME",
            remedy=f"Choose among {', '.join(QUESTIONS)}; or all. "
            "python -m benchmarks list says what they ask",
        )
    return list(QUESTIONS) if "all" in names else list(dict.fromkeys(names))


def load(name: str) -> Callable[[Bench], None]:
    """Its ``measure``."""
    where = QUESTIONS[name].module or f"benchmarks.{name}"
    measure: Callable[[Bench], None] = importlib.import_module(where).measure
    return measure
