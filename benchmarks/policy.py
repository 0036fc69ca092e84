"""What a decision costs, beside cedarpy; and what signing, merging and viewing cost.

``python -m benchmarks.policy`` measures ours; install ``cedarpy`` to see it measured in the same
run. cedarpy parses its policies at every call, which is its interface; so it is measured with a
small set, where that matters least, and ours with the same set too.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import time
from collections.abc import Callable
from random import Random

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


def measured(act: Callable[[Request], object], asked: list[Request]) -> list[float]:
    """Seconds of each call, sorted."""
    clock, times = time.perf_counter, []
    for request in asked:
        before = clock()
        act(request)
        times.append(clock() - before)
    return sorted(times)


def row(name: str, times: list[float]) -> None:
    p50, p99 = times[len(times) // 2] * 1e6, times[int(len(times) * 0.99)] * 1e6
    print(f"| {name} | {p50:.1f} | {p99:.1f} |")


def decisions() -> None:
    roles = Roles([(f"shop/user/u{i}", f"shop/role/r{i % 50}") for i in range(2000)])
    asked = requests()
    print("| decision | p50 µs | p99 µs |\n|---|---|---|")
    for count in (10, 1_000, 10_000, 50_000):
        engine = Engine(statements(count), roles=roles, tenancy=One())
        row(f"ours, {count} statements", measured(engine.decide, asked))
    if importlib.util.find_spec("cedarpy"):
        cedar(asked[:2000], statements(10), roles)


def cedar(asked: list[Request], small: list[Statement], roles: Roles) -> None:
    import cedarpy

    text = "\n".join(
        f'{s.effect}(principal == U::"{s.rule.principals.any_of[0]}", action, resource);'  # type: ignore[union-attr]
        for s in small
    )

    def act(request: Request) -> object:
        told = {
            "principal": f'U::"{request.principal}"',
            "action": f'A::"{request.action}"',
            "resource": f'R::"{request.resource}"',
            "context": {},
        }
        return cedarpy.is_authorized(told, text, [])

    row("cedarpy, 10 policies, parsed at each call", measured(act, asked))
    row("ours, the same 10", measured(Engine(small, roles=roles, tenancy=One()).decide, asked))


def edits() -> None:
    some = statements(1_000)
    key = TenantKey.generate()
    print("\n| store | µs an edit |\n|---|---|")
    for name, author in (("unsigned", Author("shop")), ("signed", Author("shop", key))):
        store = PolicyStore("east/1")
        before = time.perf_counter()
        deltas = [store.add(author, s, Reading(Timestamp(i << 40), 0)) for i, s in enumerate(some)]
        print(f"| add, {name} | {(time.perf_counter() - before) / len(some) * 1e6:.0f} |")
        other = PolicyStore("west/1")
        before = time.perf_counter()
        for delta in deltas:
            other.join(delta)
        print(f"| join, {name} | {(time.perf_counter() - before) / len(some) * 1e6:.0f} |")
        before = time.perf_counter()
        other.view.engine.decide(Request("shop/user/u1", "read", "shop/service1/x"))
        print(
            f"| view and engine, {name} | {(time.perf_counter() - before) / len(some) * 1e6:.0f} |"
        )


def one_more() -> None:
    """A decision after one more edit: what is kept up to date is not worked out again."""
    print("\n| a decision after one more edit | p50 µs |\n|---|---|")
    for count in (1_000, 10_000):
        store = PolicyStore("east/1")
        for number, each in enumerate(statements(count)):
            store.add(Author("shop"), each, Reading(Timestamp(number << 40), 0))
        store.decide(Request("shop/user/u1", "read", "shop/service1/x"))
        times = []
        for number, each in enumerate(statements(200)):
            before = time.perf_counter()
            store.add(Author("shop"), each, Reading(Timestamp((count + number) << 40), 0))
            store.decide(Request("shop/user/u1", "read", "shop/service1/x"))
            times.append(time.perf_counter() - before)
        print(f"| among {count} edits | {sorted(times)[100] * 1e6:.0f} |")


def main() -> int:
    decisions()
    edits()
    one_more()
    print(f"\n> CPython {platform.python_version()}; {ROUNDS} requests each, one at a time.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
