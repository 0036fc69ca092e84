"""What our replicated types cost, beside pycrdt; and the mesh experiment of ICDE 2019.

``python -m benchmarks.crdt`` measures operations; install ``pycrdt`` to see it measured too.
``python -m benchmarks.crdt mesh`` prints bytes sent in a mesh of 15 replicas; about a minute.
Rounds of all contestants are interleaved, so that a busy machine slows them alike; the figure is
the fastest round.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import time
from collections.abc import Callable, Iterator

from mcpcore.clock import Timestamp
from mcpcore.crdt import (
    AWSet,
    Causal,
    GCounter,
    LWWRegister,
    Map,
    MVRegister,
    PNCounter,
    RWSet,
    decode,
    encode,
)
from mcpcore.crdt.mesh import Algorithm, grow_map, grow_set, run_mesh

OPS = 1_000
ROUNDS = 25
Round = Callable[[], Iterator[int]]
"""Does OPS operations; yields the bytes of each operation's delta."""


def counter() -> Iterator[int]:
    view = GCounter()
    for _ in range(OPS):
        yield len(encode(view.increment("a/1")))


def pn_counter() -> Iterator[int]:
    view = PNCounter()
    for _ in range(OPS):
        yield len(encode(view.decrement("a/1")))


def aw_set() -> Iterator[int]:
    view = AWSet()
    for i in range(OPS):
        yield len(encode(view.add("a/1", f"key{i % 500}")))


def rw_set() -> Iterator[int]:
    view = RWSet()
    for i in range(OPS):
        yield len(encode(view.add("a/1", f"key{i % 500}")))


def map_set() -> Iterator[int]:
    view = Map()
    for i in range(OPS):
        register = view.at(f"key{i % 500}", LWWRegister)
        yield len(encode(register.set("a/1", i, Timestamp(i << 40))))


def map_plain() -> Iterator[int]:
    view = Map()
    for i in range(OPS):
        yield len(encode(view.at(f"key{i % 500}", MVRegister).set("a/1", i)))


def receive() -> Iterator[int]:
    """Decode and join the deltas of map_set."""
    view, copy = Map(), Causal()
    deltas = [
        encode(view.at(f"key{i % 500}", LWWRegister).set("a/1", i, Timestamp(i << 40)))
        for i in range(OPS)
    ]
    for delta in deltas:
        state = decode(delta)
        assert isinstance(state, Causal)
        copy.join(state)
        yield len(delta)


def join_only() -> Iterator[int]:
    """Join ready deltas into a set of 500."""
    view, copy = AWSet(), Causal()
    for delta in [view.add("a/1", f"key{i % 500}") for i in range(OPS)]:
        copy.join(delta)
        yield 0


def pycrdt_rounds() -> dict[str, Round]:
    from pycrdt import Doc
    from pycrdt import Map as TheirMap

    def updates() -> Iterator[bytes]:
        doc = Doc()
        there = doc.get("m", type=TheirMap)
        state = doc.get_state()
        for i in range(OPS):
            there[f"key{i % 500}"] = i
            update = doc.get_update(state)
            state = doc.get_state()
            yield update

    def change() -> Iterator[int]:
        return (len(update) for update in updates())

    def take() -> Iterator[int]:
        copy = Doc()
        for update in updates():
            copy.apply_update(update)
            yield len(update)

    return {"pycrdt: map set, delta, bytes": change, "pycrdt: the same, and applied": take}


def operations() -> None:
    rounds: dict[str, Round] = {
        "GCounter.increment, delta, bytes": counter,
        "PNCounter.decrement, delta, bytes": pn_counter,
        "AWSet.add, delta, bytes": aw_set,
        "RWSet.add, delta, bytes": rw_set,
        "Map + LWWRegister.set, delta, bytes": map_set,
        "Map + MVRegister.set, delta, bytes": map_plain,
        "LWWRegister in a map, decoded and joined too": receive,
        "AWSet.add and join of its delta": join_only,
    }
    if importlib.util.find_spec("pycrdt"):
        rounds |= pycrdt_rounds()
    best = dict.fromkeys(rounds, float("inf"))
    size = dict.fromkeys(rounds, 0.0)
    for _ in range(ROUNDS):
        for name, operate in rounds.items():
            before = time.perf_counter()
            size[name] = sum(operate()) / OPS
            best[name] = min(best[name], (time.perf_counter() - before) / OPS)
    print("| operation | µs | per second | bytes |\n|---|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e6:.1f} | {1 / seconds:,.0f} | {size[name]:.0f} |")
    print(f"\n> CPython {platform.python_version()}; fastest of {ROUNDS} rounds of {OPS}.")


def mesh() -> None:
    workloads = {
        "GSet": grow_set,
        "GMap 10 %": grow_map(10, replicas=15),
        "GMap 100 %": grow_map(100, replicas=15),
    }
    names = [algorithm.value for algorithm in Algorithm]
    print(f"| workload | {' | '.join(names)} | gain |\n|---|" + "---|" * (len(names) + 1))
    for name, workload in workloads.items():
        sent = [run_mesh(name, workload, algorithm).sent_bytes for algorithm in Algorithm]
        figures = " | ".join(f"{n / 1e6:.2f} MB" for n in sent)
        print(f"| {name} | {figures} | {sent[0] / sent[-1]:.1f} x |", flush=True)


if __name__ == "__main__":
    sys.exit(mesh() if "mesh" in sys.argv else operations())
