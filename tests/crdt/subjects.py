"""Every type, how to use it at random, and what it must answer by its operation history alone.

An event knows the events that its replica had seen. A specification reads a set of events and
nothing else: no dots, no contexts, no states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from mcpcore.clock import Reading, Timestamp
from mcpcore.crdt import (
    AWSet,
    BoundedCounter,
    Counter,
    DWFlag,
    EWFlag,
    GCounter,
    GMap,
    GSet,
    LWWRegister,
    Map,
    MaxScalar,
    MinScalar,
    MVRegister,
    PNCounter,
    RWSet,
    TwoPSet,
)

REPLICAS = ("a/1", "b/1", "c/1")


@dataclass(frozen=True)
class Event:
    number: int
    replica: str
    op: tuple[Any, ...]
    past: frozenset[int]


Events = list[Event]


@dataclass(frozen=True)
class Subject:
    kind: type
    ops: st.SearchStrategy[tuple[Any, ...]]
    apply: Callable[[Any, str, tuple[Any, ...]], Any]
    read: Callable[[Any], Any]
    spec: Callable[[Events], Any]


def of(events: Events, *names: str) -> Events:
    return [event for event in events if event.op[0] in names]


def surviving(events: Events, killers: Iterable[Event]) -> Events:
    """Events that no killer had seen."""
    killers = list(killers)
    return [e for e in events if not any(e.number in k.past for k in killers)]


# --- specifications -----------------------------------------------------------------------------


def add_wins(events: Events) -> bool:
    """Some addition that no removal had seen."""
    return bool(surviving(of(events, "add"), of(events, "remove")))


def remove_wins(events: Events) -> bool:
    """Something was added, and every removal had been seen by some addition."""
    added, removed = of(events, "add"), of(events, "remove")
    return bool(added) and not surviving(removed, added)


def each_element(
    rule: Callable[[Events], bool],
) -> Callable[[Events], frozenset[Any]]:
    def spec(events: Events) -> frozenset[Any]:
        elements = {event.op[1] for event in events}
        return frozenset(x for x in elements if rule([e for e in events if e.op[1] == x]))

    return spec


def flag(rule: Callable[[Events], bool]) -> Callable[[Events], bool]:
    renamed = {"enable": "add", "disable": "remove"}
    return lambda events: rule(
        [Event(e.number, e.replica, (renamed[e.op[0]],), e.past) for e in events]
    )


def latest(events: Events) -> tuple[Any, list[Any]]:
    writes = surviving(events, events)
    if not writes:
        return None, []
    writes.sort(key=lambda e: (e.op[2], e.replica))
    *losers, winner = writes
    close = [
        e.op[1]
        for e in losers
        if e.op[1] != winner.op[1] and e.op[2] + e.op[3] >= winner.op[2] - winner.op[3]
    ]
    return winner.op[1], sorted(close)


def in_map(events: Events) -> dict[str, Any]:
    """A child's events that no removal of its key had seen, judged by the child's own rule."""
    result: dict[str, Any] = {}
    for key in ("x", "y"):
        here = [e for e in events if e.op[1] == key]
        alive = surviving(here, of(here, "drop"))
        aw = each_element(add_wins)(_child(alive, "aw"))
        rw = each_element(remove_wins)(_child(alive, "rw"))
        mv = _child(alive, "mv")
        result[key] = {
            "aw": aw,
            "rw": rw,
            "count": sum(e.op[1] for e in _child(alive, "count")),
            "mv": sorted({e.op[1] for e in surviving(mv, mv)}),
            "low": min((e.op[1] for e in _child(alive, "low")), default=None),
            "deep": sum(e.op[1] for e in _child(alive, "deep")),
        }
    return result


def _child(events: Events, name: str) -> Events:
    return [Event(e.number, e.replica, e.op[2:], e.past) for e in events if e.op[0] == name]


# --- how to apply and read ----------------------------------------------------------------------


def call(view: Any, replica: str, op: tuple[Any, ...]) -> Any:
    return getattr(view, op[0])(replica, *op[1:])


def call_plain(view: Any, _replica: str, op: tuple[Any, ...]) -> Any:
    return getattr(view, op[0])(*op[1:])


def write_at(view: LWWRegister, replica: str, op: tuple[Any, ...]) -> Any:
    return view.set(replica, op[1], Reading(Timestamp.of(op[2]), op[3]))


def change_map(view: Map, replica: str, op: tuple[Any, ...]) -> Any:
    name, key, *rest = op
    match name:
        case "drop":
            return view.remove(replica, key)
        case "aw":
            return call(view.at(key, AWSet), replica, tuple(rest))
        case "rw":
            return call(view.at(key, RWSet), replica, tuple(rest))
        case "count":
            return view.at(key, Counter).add(replica, rest[1])
        case "mv":
            return view.at(key, MVRegister).set(replica, rest[1])
        case "low":
            return view.at(key, MinScalar).tighten(replica, rest[1])
        case "deep":
            deep = view.at(key, Map).at("inner", Map).at("n", Counter)
            return deep.add(replica, rest[1])
    raise AssertionError(name)


def read_map(view: Map) -> dict[str, Any]:
    return {
        key: {
            "aw": view.at(key, AWSet).elements(),
            "rw": view.at(key, RWSet).elements(),
            "count": view.at(key, Counter).value(),
            "mv": sorted(view.at(key, MVRegister).values()),
            "low": view.at(key, MinScalar).value(),
            "deep": view.at(key, Map).at("inner", Map).at("n", Counter).value(),
        }
        for key in ("x", "y")
    }


small = st.integers(1, 5)
signed = st.integers(-4, 4)
letters = st.sampled_from("pq")
just = st.just


def ops(*choices: st.SearchStrategy[tuple[Any, ...]]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.one_of(*choices)


add_remove = st.tuples(st.sampled_from(["add", "remove"]), letters)
on_off = st.tuples(st.sampled_from(["enable", "disable"]))
key = st.sampled_from("xy")
map_ops = ops(
    st.tuples(just("drop"), key),
    st.tuples(st.sampled_from(["aw", "rw"]), key, st.sampled_from(["add", "remove"]), letters),
    st.tuples(st.sampled_from(["count", "deep"]), key, just("add"), signed),
    st.tuples(just("mv"), key, just("set"), small),
    st.tuples(just("low"), key, just("tighten"), small),
)

SUBJECTS: dict[str, Subject] = {
    "GCounter": Subject(
        GCounter,
        st.tuples(just("increment"), small),
        call,
        lambda v: v.value(),
        lambda events: sum(e.op[1] for e in events),
    ),
    "PNCounter": Subject(
        PNCounter,
        st.tuples(st.sampled_from(["increment", "decrement"]), small),
        call,
        lambda v: v.value(),
        lambda events: sum(e.op[1] if e.op[0] == "increment" else -e.op[1] for e in events),
    ),
    "BoundedCounter": Subject(
        BoundedCounter,
        ops(
            st.tuples(st.sampled_from(["grant", "spend"]), small),
            st.tuples(just("transfer"), st.sampled_from(REPLICAS), small),
        ),
        call,
        lambda v: v.value(),
        lambda events: (
            sum(e.op[1] for e in of(events, "grant")) - sum(e.op[1] for e in of(events, "spend"))
        ),
    ),
    "Counter": Subject(
        Counter,
        ops(st.tuples(just("add"), signed), st.tuples(just("reset"))),
        call,
        lambda v: v.value(),
        lambda events: sum(e.op[1] for e in surviving(of(events, "add"), of(events, "reset"))),
    ),
    "LWWRegister": Subject(
        LWWRegister,
        st.tuples(just("set"), small, st.integers(0, 30), st.integers(0, 5)),
        write_at,
        lambda v: (v.value(), sorted(w.value for w in v.conflicts())),
        latest,
    ),
    "MVRegister": Subject(
        MVRegister,
        st.tuples(just("set"), small),
        call,
        lambda v: v.values(),
        lambda events: tuple(sorted({e.op[1] for e in surviving(events, events)})),
    ),
    "AWSet": Subject(AWSet, add_remove, call, lambda v: v.elements(), each_element(add_wins)),
    "RWSet": Subject(RWSet, add_remove, call, lambda v: v.elements(), each_element(remove_wins)),
    "GSet": Subject(
        GSet,
        st.tuples(just("add"), letters),
        call_plain,
        lambda v: v.elements(),
        lambda events: frozenset(e.op[1] for e in events),
    ),
    "TwoPSet": Subject(
        TwoPSet,
        add_remove,
        call_plain,
        lambda v: v.elements(),
        lambda events: (
            frozenset(e.op[1] for e in of(events, "add"))
            - frozenset(e.op[1] for e in of(events, "remove"))
        ),
    ),
    "EWFlag": Subject(EWFlag, on_off, call, lambda v: v.value(), flag(add_wins)),
    "DWFlag": Subject(DWFlag, on_off, call, lambda v: v.value(), flag(remove_wins)),
    "MinScalar": Subject(
        MinScalar,
        st.tuples(just("tighten"), small),
        call,
        lambda v: v.value(),
        lambda events: min((e.op[1] for e in events), default=None),
    ),
    "MaxScalar": Subject(
        MaxScalar,
        st.tuples(just("tighten"), small),
        call,
        lambda v: v.value(),
        lambda events: max((e.op[1] for e in events), default=None),
    ),
    "GMap": Subject(
        GMap,
        st.tuples(just("raise_to"), letters, small),
        call_plain,
        lambda v: {k: v.get(k) for k in v},
        lambda events: {
            k: max(e.op[2] for e in events if e.op[1] == k) for k in {e.op[1] for e in events}
        },
    ),
    "Map": Subject(Map, map_ops, change_map, read_map, in_map),
}
