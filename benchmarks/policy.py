"""What a decision costs, beside cedarpy; and what signing, merging and viewing cost."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from random import Random

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from benchmarks.harness.programs import Program
from benchmarks.harness.spread import quantiles
from benchmarks.peers.foreign import foreign
from mcpcore.clock import Reading, Timestamp
from mcpcore.policy import (
    AccessRule,
    Author,
    Effect,
    Engine,
    Names,
    Owner,
    PolicyStore,
    Request,
    Roles,
    Statement,
    TenantKey,
)

DICE = Random(1)
ROUNDS = 20_000
EDITS = 1_000


class One:
    """One tenant owns everything."""

    def owner(self, namespace: str) -> Owner | None:
        return Owner("shop", 0)


def statements(count: int) -> list[Statement]:
    """People, roles and wildcards; one in five forbids."""
    found = []
    for i in range(count):
        who = f"shop/user/u{DICE.randrange(2000)}" if i % 3 else f"shop/role/r{DICE.randrange(50)}"
        what = DICE.choice(["read", "write", "list", "s3:Get*"])
        service = f"shop/service{DICE.randrange(100)}"
        where = f"{service}/*" if i % 2 else f"{service}/x{DICE.randrange(100)}"
        rule = AccessRule(Names.of(who), Names.of(what), Names.of(where))
        found.append(Statement(Effect.PERMIT if i % 5 else Effect.FORBID, rule, "shop"))
    return found


def requests() -> list[Request]:
    return [
        Request(
            f"shop/user/u{DICE.randrange(2000)}",
            DICE.choice(["read", "write", "list"]),
            f"shop/service{DICE.randrange(100)}/x{DICE.randrange(100)}",
        )
        for _ in range(ROUNDS)
    ]


SIZES = (10, 1_000, 10_000, 50_000)
GROWN = (1_000, 10_000)
MORE = 200
SMALL = 10
CEDAR = "cedarpy, parsed at each call"
DECISION = {"p50": Measure("µs", "less"), "p99": Measure("µs", "less")}


def measure(bench: Bench) -> None:
    """Decisions over four sizes, with cedarpy for the smallest; then edits of a store."""
    bench.answer.method = (
        f"Decisions: {ROUNDS} requests, one at a time. Store: {EDITS} statements added, joined "
        "into another replica, and the first decision after that, which builds view and engine."
    )
    bench.answer.bias = (
        "cedarpy (Rust inside) parses its policies at every call, which is its interface; so it is "
        "measured with a small set, where that matters least, and ours with the same set."
    )
    bench.answer.references = (CEDAR,)
    roles = Roles([(f"shop/user/u{i}", f"shop/role/r{i % 50}") for i in range(2000)])
    asked = requests()
    with ExitStack() as stack:
        for count in SIZES:
            some = statements(count)
            engine = Engine(some, roles=roles, tenancy=One())
            contestants = {"mcpcore": deciding(engine, asked)}
            if count == SMALL:
                program = foreign(bench, stack, "cedarpy", "cedar")
                if program is not None:
                    contestants[CEDAR] = cedar(program, asked[:2000], some)
            bench.interleave("decisions", {"statements": count}, DECISION, contestants)
    store = {
        "add": Measure("µs", "less"),
        "join": Measure("µs", "less"),
        "view and engine": Measure("µs", "less"),
    }
    key = TenantKey.generate()
    authors = {"mcpcore, unsigned": Author("shop"), "mcpcore, signed": Author("shop", key)}
    some = statements(EDITS)
    contestants = {name: editing(author, some) for name, author in authors.items()}
    bench.interleave("the store, for each statement", {}, store, contestants)
    for count in GROWN:
        contestants = {"mcpcore": one_more(count)}
        case = {"edits before": count}
        bench.interleave("an edit and a decision after it", case, DECISION, contestants)


def one_more(count: int) -> Contestant:
    """An edit, then a decision: what is kept up to date is not worked out again."""
    store = PolicyStore("east/1")
    request = Request("shop/user/u1", "read", "shop/service1/x")
    stamps = itertools.count()

    def edit(said: Statement) -> None:
        store.add(Author("shop"), said, Reading(Timestamp(next(stamps) << 40), 0))

    for said in statements(count):
        edit(said)
    store.decide(request)

    def run() -> Measured:
        micros = []
        for said in statements(MORE):
            began_s = time.perf_counter()
            edit(said)
            store.decide(request)
            micros.append((time.perf_counter() - began_s) * 1e6)
        return spread(micros)

    return run


def deciding(engine: Engine, asked: list[Request]) -> Contestant:
    """Every request once."""

    def run() -> Measured:
        clock, times = time.perf_counter, []
        for request in asked:
            before = clock()
            engine.decide(request)
            times.append((clock() - before) * 1e6)
        return spread(times)

    return run


def spread(micros: list[float]) -> Measured:
    """Two quantiles, and all of them."""
    grid = quantiles(micros)
    by_quantile = dict(grid)
    return Measured({"p50": by_quantile[0.5], "p99": by_quantile[0.99]}, grid)


def cedar(program: Program, asked: list[Request], small: list[Statement]) -> Contestant:
    """The same, within cedarpy's environment."""
    text = "\n".join(
        f'{s.effect}(principal == U::"{s.rule.principals.any_of[0]}", action, resource);'  # type: ignore[union-attr]
        for s in small
    )
    rows = [(request.principal, request.action, request.resource) for request in asked]
    return lambda: spread(program.ask({"policies": text, "requests": rows})["us"])


def editing(author: Author, some: list[Statement]) -> Contestant:
    """A store, its replica, and the first decision there."""

    def run() -> Measured:
        store, other = PolicyStore("east/1"), PolicyStore("west/1")
        began_s = time.perf_counter()
        deltas = [store.add(author, s, Reading(Timestamp(i << 40), 0)) for i, s in enumerate(some)]
        added_s = time.perf_counter()
        for delta in deltas:
            other.join(delta)
        joined_s = time.perf_counter()
        other.view.engine.decide(Request("shop/user/u1", "read", "shop/service1/x"))
        ended_s = time.perf_counter()
        each = 1e6 / len(some)
        return Measured(
            {
                "add": (added_s - began_s) * each,
                "join": (joined_s - added_s) * each,
                "view and engine": (ended_s - joined_s) * each,
            }
        )

    return run
