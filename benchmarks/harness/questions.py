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
    "reads": Question("How many reads a second, by what they promise?", ("etcd", "etcd-grpc")),
    "failover": Question(
        "How long after the leader's death does the next write succeed?", ("etcd", "pysyncobj")
    ),
    "nodes": Question("What does each further voter cost?", ("etcd",)),
    "groups": Question("What do many groups cost a node?"),
    "recovery": Question("How soon is a node back: long log, state to fetch, far behind?"),
    "snapshots": Question("What do snapshots cost, whole and incremental?"),
    "raft_core": Question("How many seeds of a Raft group does one core run?"),
    "timer_wheel": Question("What do the deadlines of very many groups cost?"),
    "windows": Question("How often are leaders suspected that live, at equal detection time?"),
    "clock": Question("What does a hybrid timestamp cost?", ("hlcpy", "accordsync")),
    "clock_model": Question("How often does each compensation misorder events?"),
    "crdt": Question("What do replicated types cost?", ("pycrdt",)),
    "crdt_mesh": Question("How many bytes does a mesh of replicas send?"),
    "policy": Question("What does a decision cost?", ("cedarpy",)),
    "policy_sync": Question("How long does an edit take to be known at all sites?"),
    "saga": Question("How many journalled steps a second?", ("dbos",)),
    "saga_fuses": Question("How soon do sagas recover behind a fuse of 3 s, and of 8 s?"),
    "check": Question("How fast are histories judged?"),
    "sim": Question(
        "How fast is the simulator?", ("async-solipsism", "simloop", "simloom", "simpy")
    ),
    "import_time": Question("How long does the import take?"),
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
