"""What our replicated types cost, beside pycrdt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from benchmarks.harness.programs import Program
from benchmarks.peers.foreign import foreign
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

OPS = 1_000
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


def grown(size: int) -> Round:
    """Add to a set that has so many members, and join the deltas into a copy of it."""
    view, copy = AWSet(), Causal()
    for i in range(size):
        copy.join(view.add("a/1", f"member{i}"))

    def adding() -> Iterator[int]:
        for i in range(OPS):
            delta = view.add("a/1", f"member{i % size}")
            copy.join(delta)
            yield len(encode(delta))

    return adding


ROUNDS: dict[str, Round] = {
    "mcpcore, GCounter.increment, delta, bytes": counter,
    "mcpcore, PNCounter.decrement, delta, bytes": pn_counter,
    "mcpcore, AWSet.add, delta, bytes": aw_set,
    "mcpcore, RWSet.add, delta, bytes": rw_set,
    "mcpcore, Map + LWWRegister.set, delta, bytes": map_set,
    "mcpcore, Map + MVRegister.set, delta, bytes": map_plain,
    "mcpcore, LWWRegister in a map, decoded and joined too": receive,
    "mcpcore, AWSet.add and join of its delta": join_only,
}
MEASURES = {"operation": Measure("µs", "less"), "delta": Measure("bytes", "less")}
SIZES = (100, 1_000, 10_000, 100_000)
THEIRS, THEIRS_APPLIED = "pycrdt: map set, delta, bytes", "pycrdt: the same, and applied"


def measure(bench: Bench) -> None:
    """Operations, and the same on sets that grow."""
    bench.answer.method = (
        f"Rounds of {OPS} operations on 500 keys, one after the other; making the delta and its "
        "bytes is included. Growth: an add to a set of so many members and the join of its delta."
    )
    bench.answer.bias = "pycrdt is Rust inside; its documents hold text too, ours do not."
    bench.answer.references = (THEIRS,)
    with ExitStack() as stack:
        contestants = {name: timed(operate) for name, operate in ROUNDS.items()}
        program = foreign(bench, stack, "pycrdt", "crdt")
        if program is not None:
            contestants[THEIRS] = asked(program, apply=False)
            contestants[THEIRS_APPLIED] = asked(program, apply=True)
        bench.interleave("operations", {}, MEASURES, contestants)
    for size in SIZES:
        case = {"members": size}
        bench.interleave("growth of a set", case, MEASURES, {"mcpcore, AWSet": timed(grown(size))})


def timed(operate: Round) -> Contestant:
    """A round of ours, in this process."""

    def run() -> Measured:
        began_s = time.perf_counter()
        sent = sum(operate())
        took_s = time.perf_counter() - began_s
        return Measured({"operation": took_s / OPS * 1e6, "delta": sent / OPS})

    return run


def asked(program: Program, *, apply: bool) -> Contestant:
    """A round of pycrdt's, in its own process."""

    def run() -> Measured:
        told = program.ask({"count": OPS, "keys": 500, "apply": apply})
        return Measured({"operation": told["us"], "delta": told["bytes"]})

    return run
